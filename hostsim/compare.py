"""Compares a simulated run with the recording, step by step and field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hostsim.observe import COUNTERS, LIST_SIZES
from hostsim.recording import Recording
from hostsim.replay import simulate_recording


@dataclass(frozen=True)
class Difference:
    """A field of a step on which kernel and simulator disagree."""

    step: int
    event: str
    round: int
    field: str
    kernel: Any
    ours: Any

    def __str__(self) -> str:
        return f"step {self.step} ({self.event} {self.round}) {self.field}: kernel {self.kernel}, ours {self.ours}"


@dataclass
class Comparison:
    """How a recording fared: its steps, those that are exact, the first difference.

    ``worst_pages``: the largest difference at any step in residency, in a generation's count or in the
    number of pages whose residency differs in the dump.
    """

    recording: Recording
    steps: int = 0
    exact: int = 0
    first: Difference | None = None
    worst_pages: int = 0
    simulated: list[dict[str, Any]] = field(default_factory=list)


def compare_recording(recording: Recording) -> Comparison:
    """Replays a recording and compares every step; raises UserError where the recording can't be replayed."""
    result = Comparison(recording)
    base = {step.get("c"): step["st"] for step in recording.steps if step["ev"] == "start"}
    for number, (kernel, ours) in enumerate(zip(recording.steps, simulate_recording(recording), strict=True)):
        differences = list(compare_step(recording, base.get(kernel.get("c"), {}), kernel, ours, number))
        result.steps += 1
        result.exact += not differences
        if differences and result.first is None:
            result.first = differences[0]
        result.worst_pages = max(result.worst_pages, page_deviation(kernel, ours))
        result.simulated.append(ours)
    return result


def compare_step(
    recording: Recording, base: dict[str, int], kernel: dict[str, Any], ours: dict[str, Any], number: int
) -> Iterator[Difference]:
    """All differences of one step, the page dump last. ``base``: memory.stat at the start."""

    def difference(name: str, kernel_value: Any, our_value: Any) -> Difference:
        return Difference(number, kernel["ev"], kernel["r"], name, kernel_value, our_value)

    for name in ("x", "res", "min", "max"):
        if kernel.get(name) != ours.get(name):
            yield difference(name, kernel.get(name), ours.get(name))
    generations, our_generations = _generations(kernel), _generations(ours)
    for seq in sorted(generations.keys() | our_generations.keys()):
        if generations.get(seq) != our_generations.get(seq):
            yield difference(f"generation {seq}", generations.get(seq), our_generations.get(seq))
    for name in COUNTERS:
        value = kernel["st"].get(name, 0) - base.get(name, 0)
        if value != ours["st"].get(name, 0):
            yield difference(name, value, ours["st"].get(name, 0))
    for name in () if recording.header.lru_gen else LIST_SIZES:
        if kernel["st"].get(name, 0) != ours["st"].get(name, 0):
            yield difference(name, kernel["st"].get(name, 0), ours["st"].get(name, 0))
    if kernel.get("lgf") and kernel["lgf"]["tiers"] != ours["lgf"]["tiers"]:
        yield difference("tiers", kernel["lgf"]["tiers"], ours["lgf"]["tiers"])
    states = recording.page_states(kernel)
    if states is not None:
        wrong = np.flatnonzero(states != ours["states"])
        if len(wrong):
            page = int(wrong[0])
            yield difference(f"state of {len(wrong)} pages, first {page}", int(states[page]), int(ours["states"][page]))
    for name in ("resh", "pgh"):
        if name in kernel and kernel[name] != ours[name]:
            yield difference(name, kernel[name], ours[name])


def page_deviation(kernel: dict[str, Any], ours: dict[str, Any]) -> int:
    """The largest difference of a step in residency or in a generation's count, in pages."""
    generations, our_generations = _generations(kernel), _generations(ours)
    worst = abs(kernel.get("res", 0) - ours.get("res", 0))
    for seq in generations.keys() | our_generations.keys():
        worst = max(worst, abs(generations.get(seq, 0) - our_generations.get(seq, 0)))
    return int(worst)


def _generations(step: dict[str, Any]) -> dict[int, int]:
    """Anonymous pages by seq; a step of a parent memcg has none."""
    return {seq: anon for seq, anon, _ in step.get("lg", [])}
