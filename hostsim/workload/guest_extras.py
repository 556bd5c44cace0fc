"""What happens in a tick besides a guest's own accesses: devices, NUMA balancing, ground truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from coldfleet.hostsim.engine.philox import random_words, study_key
from coldfleet.hostsim.engine.state import FAST_DEVICE, PTRS_PER_PTE, SLOW_DEVICE, WORDS_PER_TABLE
from coldfleet.hostsim.engine.streams import Source, guest_word
from coldfleet.hostsim.memory.extras import set_up, touch_by_device, zap_table
from coldfleet.hostsim.memory.ground_truth import take_sample
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.spec.host_spec import SUBSCRIBERS, GuestSpec
from coldfleet.hostsim.workload.guest_streams import make_stream

_DEVICES = {SLOW_DEVICE: Source.SLOW_DEVICE, FAST_DEVICE: Source.FAST_DEVICE}


class GuestExtras:
    """The extras of one guest, tick by tick of its host."""

    def __init__(
        self, memory: HostMemory, guest: int, spec: GuestSpec, *, seed: int, replicate: int, host: int
    ) -> None:
        self.memory, self.guest, self.spec, self.host = memory, guest, spec, host
        self.key = study_key(seed, replicate)
        number = guest_word(Source.ACCESSES, guest, spec.part)
        set_up(memory.machine, guest, spec.vm, key=self.key, host=host, number=number)
        accesses = round(spec.vm.device_share * spec.accesses_per_tick)
        own = replace(spec, accesses_per_tick=accesses, nested=None)
        self.devices = {
            device: make_stream(
                own, paced=False, seed=seed, replicate=replicate, host=host, guest=guest_word(source, guest, spec.part)
            )
            for device, source in _DEVICES.items()
            if accesses and SUBSCRIBERS[device] in spec.vm.subscribers
        }
        self.zapped_tables = round(spec.vm.numa_zap_share * (spec.memory_pages // PTRS_PER_PTE))

    def begin(self, tick: int) -> None:
        """Before the guest's accesses."""
        self.memory.machine.vms[self.guest]["tick"] = tick

    def after_accesses(self, tick: int) -> None:
        """Devices work, and NUMA balancing unmaps, but for the tick in which the guest arrives."""
        own = tick - self.spec.arrives
        if not own:
            return
        m = self.memory.machine
        for device, stream in self.devices.items():
            touch_by_device(m, self.guest, device, stream.draw(own))
        if self.zapped_tables:
            first = self.memory.words(self.guest).start // WORDS_PER_TABLE
            numbers = np.empty(self.spec.memory_pages // PTRS_PER_PTE, np.uint64)
            number = guest_word(Source.NUMA_ZAP, self.guest, self.spec.part)
            random_words(numbers, self.key, (np.uint64(self.host), np.uint64(number)), own)
            for table in np.argsort(numbers, kind="stable")[: self.zapped_tables]:
                zap_table(m, self.guest, first + int(table))

    def end(self, tick: int) -> None:
        """After the guest's reclaim."""
        if self.spec.vm.truth:
            limit = self.spec.limit_pages or self.spec.memory_pages
            take_sample(self.memory.machine, self.guest, limit, np.zeros(tick + 2, np.int64))
