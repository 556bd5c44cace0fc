"""The matrix of a folder of recordings: kernel x kind x mode, and how the simulator fared in each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from coldfleet.hostsim.replay.comparison import FIGURES, HASHES, PAGES, Comparison
from coldfleet.hostsim.replay.spread import repeated, repeats_in_range, steps_in_range

_NAMED = {
    "generations": "gens",
    "pgmajfault": "majf",
    "active_anon": "list",
    "workingset_refault_anon": "refa",
    "workingset_activate_anon": "wsac",
    "workingset_restore_anon": "wsre",
    "workingset_refault_file": "reff",
    "workingset_activate_file": "wsaf",
    "workingset_restore_file": "wsrf",
}
NARROW = {
    figure: _NAMED.get(figure, figure.removeprefix("pg")[:4]) for figure in FIGURES if figure not in ("x", HASHES)
}
"""Titles of narrow columns. A request that is off comes from a residency that is, a hash from pages."""

_MEANINGS = {
    "res": "resident pages of the guest",
    "min": "min_seq, the oldest generation",
    "max": "max_seq, the youngest generation",
    "fres": "pages of the file in the page cache",
    "fsh": "shadow entries of the file's evicted pages",
    "ahp": "pages that PMDs map",
    "hp": "blocks of 2 MiB that are mapped in another way",
    "low": "times below memory.low, as in memory.events",
    "generations": "pages of a generation",
    "inactive_anon": "bytes of the classic LRU's inactive list",
    "active_anon": "bytes of the classic LRU's active list",
    "tiers": "refaulted, evicted and protected pages of a tier",
    "pages": "pages in another state than the kernel's",
}
LEGEND = {title: _MEANINGS.get(figure, f"{figure}, as in memory.stat") for figure, title in NARROW.items()}
"""What each of these titles means."""


@dataclass(frozen=True)
class Group:
    """All recordings of one kernel, kind and mode. ``exact`` of ``steps`` are; ``worst``: as in Comparison.

    ``inside``: for each of RANGED, how many steps are inside the kernel's own range, and how many there are; empty
    where all steps are exact. ``own``: the same of the kernel, each recording against its repeats; 0 of 0 without any.
    ``repeated``: recordings that have a repeat; ``dumped``: steps that have a dump of all pages.
    """

    kernel: str
    kind: str
    mode: str
    lru_gen: bool
    recordings: int
    exact_recordings: int
    exact: int
    steps: int
    worst: dict[str, int]
    inside: dict[str, tuple[int, int]]
    own: dict[str, tuple[int, int]]
    repeated: int
    dumped: int

    def has(self, figure: str) -> bool:
        """Whether anything was compared by this one of FIGURES: the states of pages only where they were dumped."""
        return figure != PAGES or self.dumped > 0

    @property
    def name(self) -> str:
        """Kernel and kind."""
        return f"{self.kernel} {self.kind}"

    @property
    def section(self) -> str:
        """Which table it stands in: the mode's, or one of its own for the classic LRU, which has other figures."""
        return self.mode if self.lru_gen else f"{self.mode}, classic LRU"

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain data; counters that were never off are there with 0."""
        return {
            "kernel": self.kernel,
            "kind": self.kind,
            "mode": self.mode,
            "recordings": self.recordings,
            "repeated_recordings": self.repeated,
            "exact_recordings": self.exact_recordings,
            "steps": self.steps,
            "exact_steps": self.exact,
            "dumped_steps": self.dumped,
            "worst": {figure: self.worst.get(figure, 0) for figure in FIGURES},
            "in_range": {
                figure: {"steps": steps, "inside": inside}
                | dict(zip(("kernel_inside", "kernel_steps"), self.own[figure], strict=True))
                for figure, (inside, steps) in self.inside.items()
            },
        }


def group_up(results: Iterable[Comparison]) -> list[Group]:
    """The groups, by mode, kernel and kind."""
    keys: dict[tuple[str, str, str], list[Comparison]] = {}
    for result in results:
        header = result.recording.header
        keys.setdefault((header.mode, header.kernel, header.label), []).append(result)
    ordered = sorted(keys.items(), key=lambda item: (item[0][0], _version(item[0][1]), item[0][2]))
    return [_group(*key, members) for key, members in ordered]


def _group(mode: str, kernel: str, kind: str, members: list[Comparison]) -> Group:
    exact, steps = sum(each.exact for each in members), sum(each.steps for each in members)
    worst = {figure: max(each.worst.get(figure, 0) for each in members) for figure in FIGURES}
    inside = steps_in_range(members) if exact < steps else {}
    own = repeats_in_range(members) if inside else {}
    exact_recordings = sum(each.exact == each.steps for each in members)
    return Group(
        kernel,
        kind,
        mode,
        members[0].recording.header.lru_gen,
        len(members),
        exact_recordings,
        exact,
        steps,
        worst,
        inside,
        own,
        repeated(members),
        sum(each.dumped for each in members),
    )


def _version(kernel: str) -> list[int]:
    return [int(part) for part in kernel.split(".")]
