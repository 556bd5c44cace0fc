"""What happens in a tick besides a guest's own accesses: devices, NUMA balancing, ground truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from coldfleet.hostsim.engine.philox import random_words, study_key
from coldfleet.hostsim.engine.state import KVM, PTRS_PER_PTE, WORDS_PER_TABLE
from coldfleet.hostsim.memory.extras import set_up, touch_by_device, zap_table
from coldfleet.hostsim.memory.ground_truth import take_sample
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.spec.host_spec import SUBSCRIBERS, GuestSpec
from coldfleet.hostsim.workload.streams import GuestStream

_DEVICE_STREAM, _ZAP_STREAM = 1 << 24, 1 << 25  # added to the guest's number in the counters of random numbers


class GuestExtras:
    """The extras of one guest, tick by tick."""

    def __init__(
        self, memory: HostMemory, guest: int, spec: GuestSpec, *, seed: int, replicate: int, host: int
    ) -> None:
        self.memory, self.guest, self.spec, self.host = memory, guest, spec, host
        self.key = study_key(seed, replicate)
        set_up(memory.machine, guest, spec.vm, key=self.key, host=host)
        accesses = round(spec.vm.device_share * spec.accesses_per_tick)
        devices = [number for number, name in enumerate(SUBSCRIBERS) if number != KVM and name in spec.vm.subscribers]
        own = replace(spec, accesses_per_tick=accesses, nested=None)
        self.devices = {
            device: GuestStream(own, seed=seed, replicate=replicate, host=host, guest=guest + device * _DEVICE_STREAM)
            for device in devices
            if accesses
        }
        self.zapped = round(spec.vm.numa_zap_share * (spec.memory_pages // PTRS_PER_PTE))

    def begin(self, tick: int) -> None:
        """Before the guest's accesses."""
        self.memory.machine.vms[self.guest]["tick"] = tick

    def after_accesses(self, tick: int) -> None:
        """Devices work, and NUMA balancing unmaps."""
        m = self.memory.machine
        for device, stream in self.devices.items():
            touch_by_device(m, self.guest, device, stream.draw(tick))
        if self.zapped:
            first = self.memory.words(self.guest).start // WORDS_PER_TABLE
            numbers = np.empty(self.spec.memory_pages // PTRS_PER_PTE, np.uint64)
            random_words(numbers, self.key, (np.uint64(self.host), np.uint64(self.guest + _ZAP_STREAM)), tick)
            for table in np.argsort(numbers, kind="stable")[: self.zapped]:
                zap_table(m, self.guest, first + int(table))

    def end(self, tick: int) -> None:
        """After the guest's reclaim."""
        if self.spec.vm.truth:
            limit = self.spec.limit_pages or self.spec.memory_pages
            take_sample(self.memory.machine, self.guest, limit, np.zeros(tick + 2, np.int64))
