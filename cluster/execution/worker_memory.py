"""How much memory a worker needs: what an actor asks Ray for, so that a machine gets no more workers than it can hold.

Measured (VmHWM) on x86-64, CPython 3.11, numba 0.68, Ray 2.60 (test_worker_memory.py measures again).
Where the simulator has not been compiled before, the first worker takes 700 MiB for the minute that this takes.
"""

from __future__ import annotations

import math

from coldfleet.cluster.study.lives import KEPT_FLEETS, all_hosts, all_lives
from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.units import MEMORY

BASE_BYTES = 400 << 20
"""The packages, the compiled simulator (211 MiB), Ray's part of the process, and the rows of a batch."""

PAGE_BYTES = 64
"""For each page that is simulated, of guests and their files; 24 to 54 were measured on hosts of 1 to 16 GiB."""

BASELINE_PAGE_BYTES = 32
"""For each page of a guest that the clock also runs on memory without limits; 18 were measured on hosts of 16 GiB."""

RANK_BYTES = 16
"""For each page of the largest guest of a sampled host, while Zipf's weights of all of its pages are added up."""

KEPT_TRACES, ROW_BYTES = 4, 4
"""Traces that a process keeps (hostsim.workload.trace_data), and what each of their accesses takes."""

OTHER_REPLICATES = 1.5
"""Guests on the fullest host of any replicate, over those of the first, and their pages.

At most 1.49 in 100 replicates of configs/fleet_day.toml by each rule of placement, 1.22 in 20 of a week of 100 hosts.
"""

LIFE_BYTES = 700
"""For each life of a fleet whose guests come and go, of which every worker knows all: 640 were measured."""

READING_BYTES = 24
"""For each access of the longest trace, while it is read: times, reuse distances and their places."""


def worker_bytes(plan: Plan) -> int:
    """An upper bound of what one worker needs for any run of the plan, in bytes."""
    from coldfleet.hostsim.engine.state import PTRS_PER_PTE
    from coldfleet.hostsim.sampling import PARTS  # slow to import

    classes = plan.cell(0).spec.fleet.guest
    lives = 0
    prefixes = [f"fleet.guest.{name}." for name in classes] or [""]
    guest = [prefix if classes else "guest." for prefix in prefixes]
    files = [_most_pages(plan, f"{each}page_cache.memory") for each in guest]
    sizes = [_most_pages(plan, f"{each}memory") + file for each, file in zip(guest, files, strict=True)]
    if classes:
        counts = [int(_most(plan, f"{prefix}count")) for prefix in prefixes]
        guests = sum(counts)
        pages = float(sum(count * size for count, size in zip(counts, sizes, strict=True)))
        pages = _most_on_a_host(plan, pages, max(sizes))
        if plan.cell(0).spec.fleet.over_time:
            guests, pages, lives = _lives_of(plan)
    else:
        guests = int(_most(plan, "fleet.guests_per_host"))
        pages = guests * sizes[0]
    ranks = 0
    if (sample := min(int(str(share).rpartition("/")[2]) for share in plan.values("host.sample"))) > 1:
        ranks = max(sizes)
        pages = min(pages, pages / (PARTS * sample) + guests * PTRS_PER_PTE)  # one part, of whole page tables
    page_bytes = PAGE_BYTES
    nested = any(_most(plan, f"{prefix}nested_ratio") for prefix in prefixes)
    if "timed" in plan.values("clock.mode") and (nested or any(files)):
        page_bytes += BASELINE_PAGE_BYTES
    rows = sorted((each.rows for each in plan.data.values()), reverse=True)
    data_bytes = sum(rows[:KEPT_TRACES]) * ROW_BYTES + max(rows, default=0) * READING_BYTES
    fleet_bytes = lives * LIFE_BYTES * min(KEPT_FLEETS, plan.most_runs)
    return BASE_BYTES + round(pages) * page_bytes + ranks * RANK_BYTES + data_bytes + fleet_bytes


def _lives_of(plan: Plan) -> tuple[int, float, int]:
    """The most guests that a host has in all of a run, their pages, and a run's lives, by the first and last cell."""
    runs = [plan.run(number) for number in {0, plan.cell_count - 1}]
    hosts = [host.lives for run in runs for host in all_hosts(run)]
    guests = max(map(len, hosts))
    pages = max(sum(each.request.memory_pages for each in lives) for lives in hosts)
    return math.ceil(guests * OTHER_REPLICATES), pages * OTHER_REPLICATES, max(len(all_lives(run)) for run in runs)


def _most_on_a_host(plan: Plan, of_all: float, of_one: int) -> float:
    """The most pages that the guests of classes can have on one host, from those of all guests and of the largest."""
    classes = [f"fleet.host.{name}." for name in plan.cell(0).spec.fleet.host]
    memories = [_most_pages(plan, path) for path in [f"{each}memory" for each in classes] or ["host.memory"]]
    if all(memories):
        return max(memories) * _most(plan, "overcommit")
    cpus = [_most(plan, path) for path in [f"{each}cpus" for each in classes] or ["clock.pcpus"]]
    if any(memories) or any(cpus) or "random" in plan.values("fleet.placement"):
        return of_all
    hosts = sum(min(map(int, plan.values(path))) for path in [f"{each}count" for each in classes] or ["fleet.hosts"])
    return of_all / hosts + of_one  # each guest went where the fewest pages were


def _most(plan: Plan, path: str) -> float:
    return max(float(value) for value in plan.values(path))


def _most_pages(plan: Plan, path: str) -> int:
    return max(MEMORY.parse(size) for size in plan.values(path))  # type: ignore[arg-type]
