"""Compares a simulated run with the recording, step by step and figure by figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from coldfleet.hostsim.replay.observe import COUNTERS, LIST_SIZES, LOW
from coldfleet.hostsim.replay.recording import Recording
from coldfleet.hostsim.replay.replay import simulate_recording

GENERATIONS, TIERS, PAGES, HASHES, BLOCKS = "generations", "tiers", "pages", "hashes", "hp"
_NUMBERS = ("x", "res", "min", "max", "fres", "fsh", "ahp")
FIGURES = (*_NUMBERS, BLOCKS, GENERATIONS, *COUNTERS, LOW, *LIST_SIZES, TIERS, PAGES, HASHES)
"""What a step is judged by, by the recordings' names; ``pages``: how many have another state than in the dump;
``hp``: how many blocks of 2 MiB are mapped in another way."""
RANGED = ("res", "fres", "max", *COUNTERS)
"""Of these, the ones that have a range over repeats of a recording; ``fres`` only where there is a file."""
OPENING_ROUNDS = 2  # by the rounds up to this one it is chosen what a recording doesn't tell
REPEATABLE = ("debugfs", "reclaim", "ageonly")  # modes in which a kernel repeats itself


@dataclass(frozen=True)
class Difference:
    """A field of a step on which kernel and simulator disagree. ``figure``: the one of FIGURES that it belongs to;
    ``off``: by how much, 1 for a hash."""

    step: int
    event: str
    round: int
    field: str
    kernel: Any
    ours: Any
    figure: str
    off: int

    def __str__(self) -> str:
        return f"step {self.step} ({self.event} {self.round}) {self.field}: kernel {self.kernel}, ours {self.ours}"


@dataclass
class Comparison:
    """How a recording fared: its steps, those that are exact (in the first rounds, too), the first difference.

    ``dumped``: steps that have a dump of all pages. ``worst``: for each figure that was off, by how much in the worst
    step. ``measured``: the kernel's and our values
    of RANGED after every step; None where a step doesn't have one.
    """

    recording: Recording
    steps: int = 0
    exact: int = 0
    exact_in_opening: int = 0
    dumped: int = 0
    first: Difference | None = None
    worst: dict[str, int] = field(default_factory=dict)
    measured: list[tuple[list[int | None], list[int | None]]] = field(default_factory=list)
    simulated: list[dict[str, Any]] = field(default_factory=list)

    @property
    def worst_pages(self) -> int:
        """The largest difference at any step in residency or in a generation's count, in pages."""
        return max(self.worst.get("res", 0), self.worst.get(GENERATIONS, 0))

    def without_steps(self) -> Comparison:
        """The outcome alone, small enough to be sent from process to process."""
        return replace(self, recording=replace(self.recording, steps=[], list_hashes={}), simulated=[])


def compare_recording(recording: Recording) -> Comparison:
    """Replays a recording and compares every step; raises UserError where the recording can't be replayed.

    No recording tells whether the process that runs a guest touches a page of its own in every round. It does if that
    explains more of the steps of the first rounds.
    """
    plain = _compare(recording, False)
    header = recording.header
    opening = replace(recording, steps=[step for step in recording.steps if step["r"] <= OPENING_ROUNDS])
    has_vmm = header.file is None and header.mode in REPEATABLE and any(g.kind != "host" for g in header.guests)
    if not has_vmm or plain.exact_in_opening == len(opening.steps):
        return plain
    touching = _compare(opening, True)
    return _compare(recording, True) if touching.exact > plain.exact_in_opening else plain


def _compare(recording: Recording, vmm_touches: bool) -> Comparison:
    result = Comparison(recording)
    base = {step.get("c"): step["st"] for step in recording.steps if step["ev"] == "start"}
    for number, (kernel, ours) in enumerate(
        zip(recording.steps, simulate_recording(recording, vmm_touches), strict=True)
    ):
        start = base.get(kernel.get("c"), {})
        differences = list(compare_step(recording, start, kernel, ours, number))
        result.steps += 1
        result.exact += not differences
        result.dumped += "pg" in kernel
        result.exact_in_opening += not differences and kernel["r"] <= OPENING_ROUNDS
        if differences and result.first is None:
            result.first = differences[0]
        for difference in differences:
            result.worst[difference.figure] = max(difference.off, result.worst.get(difference.figure, 0))
        result.measured.append((ranged(kernel, start), ranged(ours, {})))
        result.simulated.append(ours)
    return result


def compare_step(
    recording: Recording, base: dict[str, int], kernel: dict[str, Any], ours: dict[str, Any], number: int
) -> Iterator[Difference]:
    """All differences of one step, the page dump last. ``base``: memory.stat at the start."""

    def difference(
        name: str, kernel_value: Any, our_value: Any, figure: str = "", off: int | None = None
    ) -> Difference:
        if off is None:
            off = abs((kernel_value or 0) - (our_value or 0))
        return Difference(number, kernel["ev"], kernel["r"], name, kernel_value, our_value, figure or name, off)

    for name in _NUMBERS:
        if kernel.get(name) != ours.get(name):
            yield difference(name, kernel.get(name), ours.get(name))
    blocks, our_blocks = kernel.get("hp", ""), ours.get("hp", "")
    if others := [block for block, (kernels, our) in enumerate(zip(blocks, our_blocks, strict=True)) if kernels != our]:
        what = f"{BLOCKS} of {len(others)} blocks, first {others[0]}"
        yield difference(what, blocks[others[0]], our_blocks[others[0]], BLOCKS, len(others))
    generations, our_generations = _generations(kernel), _generations(ours)
    for key in sorted(generations.keys() | our_generations.keys()):
        if generations.get(key) != our_generations.get(key):
            name = f"generation {key[0]} ({key[1]})"
            yield difference(name, generations.get(key), our_generations.get(key), GENERATIONS)
    for name in COUNTERS:
        value = kernel["st"].get(name, 0) - base.get(name, 0)
        if value != ours["st"].get(name, 0):
            yield difference(name, value, ours["st"].get(name, 0))
    low, our_low = (step.get("mev", {}).get(LOW) for step in (kernel, ours))
    if recording.header.protection != "none" and None not in (low, our_low) and low != our_low:
        yield difference(LOW, low, our_low)
    for name in () if recording.header.lru_gen else LIST_SIZES:
        if kernel["st"].get(name, 0) != ours["st"].get(name, 0):
            yield difference(name, kernel["st"].get(name, 0), ours["st"].get(name, 0))
    for name in ("tiers", "ftiers") if kernel.get("lgf") else ():
        tiers, our_tiers = kernel["lgf"].get(name, {}), ours["lgf"][name]
        if tiers != our_tiers:
            yield difference(name, tiers, our_tiers, TIERS, _tiers_off(tiers, our_tiers))
    states = recording.page_states(kernel)
    if states is not None:
        wrong = np.flatnonzero(states != ours["states"])
        if len(wrong):
            page = int(wrong[0])
            what = f"state of {len(wrong)} pages, first {page}"
            yield difference(what, int(states[page]), int(ours["states"][page]), PAGES, len(wrong))
    for name in ("resh", "fresh", "pgh"):
        if name in kernel and kernel[name] != ours[name]:
            yield difference(name, kernel[name], ours[name], HASHES, 1)


def _generations(step: dict[str, Any]) -> dict[tuple[int, str], int]:
    """Pages by seq and type; a step of a parent memcg has none."""
    counts = {(seq, "anon"): anon for seq, anon, _ in step.get("lg", [])}
    return counts | {(seq, "file"): file for seq, _, file in step.get("lg", [])}


def ranged(step: dict[str, Any], base: dict[str, int]) -> list[int | None]:
    """A step's values of RANGED; ``base``: memory.stat at the start."""
    counters = (step["st"].get(name, 0) - base.get(name, 0) for name in COUNTERS)
    return [step.get("res"), step.get("fres"), step.get("max"), *counters]


def _tiers_off(tiers: dict[str, Any], ours: dict[str, Any]) -> int:
    """The largest difference of one number of the tiers."""
    mine, theirs = (dict(_tier_counts(each)) for each in (tiers, ours))
    return max((abs(mine.get(key, 0) - theirs.get(key, 0)) for key in mine.keys() | theirs.keys()), default=0)


def _tier_counts(tiers: dict[str, Any]) -> Iterator[tuple[tuple[str, str, str], int]]:
    for seq, rows in tiers.items():
        for tier, entries in rows.items():
            for entry in entries:
                yield (seq, tier, entry[-1]), int(entry[:-1])
