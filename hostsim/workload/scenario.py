"""Scenarios: the guests of a host as the recordings had them, a line of text for all of them.

``"vm hotcold, process hotcold"`` is a KVM guest beside a process. They are children of one parent memcg, share a CPU
and take turns, and each makes the recorder's accesses (:mod:`hostsim.workload.schedule`). So a scenario is what a
recording would show, with a kernel, a limit or a workload that nobody has recorded.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_PAGE, ACCESS_WRITE
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import MIX_WORKLOADS, RECORDED_WORKLOADS, GuestSpec, RecordedWorkload
from coldfleet.hostsim.workload.drawing import hash_accesses
from coldfleet.hostsim.workload.mix_schedule import PREFIX, MixSchedule
from coldfleet.hostsim.workload.schedule import FNV_OFFSET, Schedule
from coldfleet.hostsim.workload.streams import NEVER, Drawn

WORKLOADS = (*RECORDED_WORKLOADS, *MIX_WORKLOADS)
OPTIONS = ("write", "ident")
MAX_GUESTS = 256  # of a scenario
SEEDS_APART = 100  # of neighbouring guests, as in the recordings
_HOST_SHIFT, _REPLICATE_SHIFT = 20, 44  # seeds of other hosts and replicates lie far apart


@dataclass(frozen=True)
class Beside:
    """What a kind of guest has beside its memory, as recorded: pages of its VMM, and kernel memory charged to it."""

    own_pages: int
    kernel_pages: int


KINDS = {
    "process": Beside(0, 4),
    "vm": Beside(0, 128),  # 121 (6.18) to 132 (6.1)
    "shadow": Beside(0, 254),  # 248 (6.1) to 255 (6.18)
    "rmap": Beside(0, 254),
    "nested": Beside(4, 220),  # 220 (6.12) to 251 (6.1)
}
"""Kinds of guests: a process; a KVM guest mapped by the TDP MMU, by the shadow MMU for want of nested paging, or by
the shadow MMU because of tdp_mmu=0; and a guest whose nested VM makes the accesses (of "mix-" workloads, some)."""


@dataclass(frozen=True)
class ScenarioGuest:
    """One guest of a scenario: a name of KINDS, one of WORKLOADS, and some of OPTIONS."""

    kind: str
    workload: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.kind, self.workload, *self.options))


def parse_scenario(text: str) -> tuple[ScenarioGuest, ...]:
    """The guests of a scenario, () for an empty text; raises UserError with a suggestion."""
    if not text.strip():
        return ()
    if text.count(",") >= MAX_GUESTS:
        raise UserError(f"a scenario of {text.count(',') + 1} guests: at most {MAX_GUESTS} share a parent")
    return tuple(_parse_guest(" ".join(part.split())) for part in text.split(","))


def _parse_guest(text: str) -> ScenarioGuest:
    words = text.split(" ")
    if len(words) < 2:
        raise UserError(f'{text!r} is not a guest: write its kind and its workload, such as "vm hotcold"')
    kind, workload, *options = words
    for what, word, known in (
        ("kind of guest", kind, tuple(KINDS)),
        ("workload", workload, WORKLOADS),
        *(("option", option, OPTIONS) for option in options),
    ):
        if word not in known:
            near = difflib.get_close_matches(word, known, n=1)
            suggestion = f'did you mean "{near[0]}"?' if near else f"one of {', '.join(known)}"
            raise UserError(f"unknown {what} {word!r} in {text!r}: {suggestion}")
    return ScenarioGuest(kind, workload, tuple(option for option in OPTIONS if option in options))


def recorder_seed(seed: int, replicate: int, host: int, guest: int) -> int:
    """The seed of a guest's schedule: of the first host and replicate the recorder's own, ``seed`` + 100 a guest."""
    return (seed + SEEDS_APART * guest + (host << _HOST_SHIFT) + (replicate << _REPLICATE_SHIFT)) % (1 << 64)


class RecordedStream:
    """The accesses of one guest of a scenario, tick by tick; ``digest`` is the hash of all that was drawn so far."""

    def __init__(
        self, spec: GuestSpec, load: RecordedWorkload, *, ticks: int, seed: int, replicate: int, host: int, guest: int
    ) -> None:
        self.digest = FNV_OFFSET
        self._write = ACCESS_WRITE if load.writes else 0
        start = recorder_seed(seed, replicate, host, guest)
        size = (spec.memory_pages, spec.accesses_per_tick, ticks, start, load.layout)
        writes = np.arange(spec.memory_pages, dtype=np.uint32)
        if load.kind in MIX_WORKLOADS:
            mixed = MixSchedule(load.kind.removeprefix(PREFIX), *size)
            self._first, self._lists = mixed.first_writes(), mixed.lists()
            if spec.kind != "nested":
                self._first, self._lists = writes, self._lists & np.uint32(ACCESS_PAGE)
        else:
            level = np.uint32(ACCESS_L2 if spec.kind == "nested" else 0)
            self._first, self._lists = writes | level, Schedule(load.kind, *size).lists() | level

    def l2_runs(self, tick: int) -> bool:
        """A recorded nested VM is never stopped."""
        return True

    def next_change(self, tick: int) -> int:
        """Never: as in hostsim.workload.streams."""
        return NEVER

    def populate(self, tick: int) -> npt.NDArray[np.uint32]:
        """Tick 0 writes every page, in order."""
        return self._hashed(self._first | np.uint32(ACCESS_WRITE)) if tick == 0 else self._first[:0]

    def draw(self, tick: int) -> npt.NDArray[np.uint32]:
        """The accesses of a tick from 1 on, uint32: page of the guest, bit 31 by L2, bit 30 a write."""
        return self._hashed(self._lists[tick - 1] | np.uint32(self._write))

    def accesses_in(self, tick: int) -> int:
        """How many accesses a tick has."""
        return len(self._lists[tick - 1])

    def draw_ticks(self, first: int, ticks: int) -> Drawn:
        """The accesses of so many ticks."""
        accesses, digests = [], []
        for tick in range(first, first + ticks):
            accesses.append(self.draw(tick))
            digests.append(self.digest)
        ends = np.cumsum([len(each) for each in accesses], dtype=np.int64)
        return Drawn(np.concatenate(accesses), ends, np.array(digests, np.uint64))

    def _hashed(self, accesses: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        self.digest = np.uint64(hash_accesses(self.digest, accesses))
        return accesses
