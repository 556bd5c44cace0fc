"""One host of a study, simulated again and watched: what happens on it tick by tick, and the true ages of its pages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coldfleet.cluster.inspection.explain import rerun_host
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.plan import Run
from coldfleet.hostsim.engine.state import GEN_MASK, MAX_NR_GENS, PRESENT
from coldfleet.hostsim.memory.watch import Watch

_SHOWN = {
    "agings": "aging passes",
    "pgscan": "pages that eviction checked",
    "pgsteal": "pages evicted",
    "refaults": "refaults",
    "mmu_write_acquisitions": "mmu_lock taken for write",
}
_MOST_GUESTS = 12  # that are shown one by one


@dataclass(frozen=True)
class HostStory:
    """``by_tick``: for each figure its value in every tick. ``by_guest``: the refaults of each guest in every tick.
    ``ages``: for each generation, 0 the youngest, how many of its pages were touched last so many ticks before the end.
    """

    who: str
    ticks: int
    by_tick: dict[str, list[int]]
    by_guest: dict[str, list[int]]
    ages: dict[int, list[int]]


def watch_host(results: Results, run: Run, host: int = 0) -> HostStory:
    """Simulates a host again; raises :class:`hostsim.spec.errors.UserError` if that doesn't give the stored rows."""
    watch = rerun_host(results, run, host, Watch)
    ticks = run.cell.spec.ticks
    by_tick = {name: [0] * (ticks + 1) for name in _SHOWN}
    guests = build_hosts(run)[host].guests[:_MOST_GUESTS]
    refaults = [[0] * (ticks + 1) for _ in watch.last_touch]
    for step in watch.operations:
        for name, counts in by_tick.items():
            counts[step.when.tick] += step.changes.get(name, 0)
        refaults[step.guest][step.when.tick] += step.changes.get("refaults", 0)
    named = {_SHOWN[name]: counts for name, counts in by_tick.items() if any(counts)}
    spec = run.cell.spec
    who = (
        f"Host {host} of cell {run.cell.cell_id}, replicate {run.replicate} "
        f"({run.cell.policy.name}, nested_ratio {spec.nested_ratio:g})"
    )
    by_guest = {
        f"{guest.name or f'guest {number}'}{' (nested)' if guest.nested else ''}": counts
        for number, (guest, counts) in enumerate(zip(guests, refaults, strict=False))
        if any(counts)
    }
    return HostStory(who, ticks, named, by_guest, _ages(watch, ticks))


def _ages(watch: Watch, ticks: int) -> dict[int, list[int]]:
    m = watch.machine
    ages: dict[int, list[int]] = {}
    for guest, last in enumerate(watch.last_touch):
        rows = m.pages[watch.pages(guest)]
        bits = np.unpackbits(
            np.ascontiguousarray(m.bits[watch.words(guest), PRESENT]).view(np.uint8), bitorder="little"
        )
        generation = (rows["state"] & GEN_MASK).astype(int) - 1
        known = (bits[: len(rows)] == 1) & (generation >= 0) & (last >= 0)
        behind = (int(m.lruvecs[guest]["max_seq"]) - generation) % MAX_NR_GENS
        for number in np.unique(behind[known]).tolist():
            counts = np.bincount(ticks - last[known & (behind == number)], minlength=ticks + 1)
            ages[number] = (counts + ages.get(number, 0)).tolist()
    return ages
