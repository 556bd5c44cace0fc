"""The random streams of a host: no two uses share a block, and neither do the parts of a sample."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import MANY_SPTES, NO_AD
from coldfleet.hostsim.engine.streams import FILE_DEVICES, GUESTS, PARTS, Purpose, Source, guest_word
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.hostsim.sampling import parts_of
from coldfleet.hostsim.spec.host_spec import GuestSpec, HostSpec, VmSpec
from coldfleet.hostsim.workload import guest_extras
from coldfleet.hostsim.workload.guest_extras import GuestExtras
from coldfleet.policies import get_policy

PAGES = 8192
TICKS = 1 << 31  # a study has fewer
EVERYTHING = VmSpec(
    subscribers=("kvm", "slow device", "fast device"), device_share=0.5, shared_share=0.5, no_ad_share=0.5,
    numa_zap_share=0.5,
)  # fmt: skip


def extras_of(spec: GuestSpec) -> GuestExtras:
    memory = HostMemory([Memslot(spec.memory_pages, extras=True)], KERNELS["6.12"], get_policy("lockless-6.15"))
    return GuestExtras(memory, 0, spec, seed=1, replicate=0, host=3)


def test_no_two_sources_have_a_guest_word_in_common() -> None:
    ranges = []
    for source in Source:
        for part in range(PARTS):
            last = {Source.SWAP_DEVICE: 0, Source.FILE_DEVICE: FILE_DEVICES - 1}.get(source, GUESTS - 1)
            ranges.append((guest_word(source, 0, part), guest_word(source, last, part)))
    ranges.sort()
    assert all(last < first for (_, last), (first, _) in pairwise(ranges))
    assert 0 <= ranges[0][0] <= ranges[-1][1] < 1 << 32


def test_no_run_reaches_what_is_drawn_without_regard_to_ticks() -> None:
    assert len(set(map(int, Purpose))) == len(Purpose.__members__)
    assert all(TICKS <= purpose < 1 << 32 for purpose in Purpose)


def test_words_outside_of_a_range_are_refused() -> None:
    for guest, part in ((GUESTS, 0), (-1, 0), (0, PARTS)):
        with pytest.raises(ValueError, match="at most"):
            guest_word(Source.ACCESSES, guest, part)


def words_of(extras: GuestExtras, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The guest words from which a guest's devices and NUMA balancing draw."""
    drawn: list[Any] = []

    def note(out: Any, key: Any, counter: Any, tick: int) -> None:
        out[:] = 0
        drawn.append(counter)

    monkeypatch.setattr(guest_extras, "random_words", note)
    monkeypatch.setattr(guest_extras, "touch_by_device", lambda *_: None)
    monkeypatch.setattr(guest_extras, "zap_table", lambda *_: None)
    extras.after_accesses(1)
    return {int(drawn[0][1])} | {int(stream.counter[1]) for stream in extras.devices.values()}


def test_devices_and_numa_balancing_draw_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(words_of(extras_of(GuestSpec("guest", PAGES, vm=EVERYTHING)), monkeypatch)) == 3


def test_the_parts_of_a_sample_draw_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    vm = VmSpec(shared_share=0.5, no_ad_share=0.5, tlb_hit=0.5, numa_zap_share=1.0)
    spec = HostSpec("6.12", (GuestSpec("guest", PAGES, vm=vm),), ticks=1, sample=4)
    made = [extras_of(part.guests[0]) for part in parts_of(spec, np.random.default_rng(1))]
    machines = [extras.memory.machine for extras in made]
    for column in (MANY_SPTES, NO_AD):
        assert len({m.extra_bits[:, column].tobytes() for m in machines}) == PARTS
    assert len({int(m.vms[0]["guest"]) for m in machines}) == PARTS  # of TLB hits, races and contended locks
    assert len(set.union(*(words_of(extras, monkeypatch) for extras in made))) == PARTS
