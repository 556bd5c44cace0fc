"""How much memory a worker needs: what an actor asks Ray for, so that a machine gets no more workers than it bears.

Measured (VmHWM) on x86-64, CPython 3.11, numba 0.68, Ray 2.60 (test_worker_memory.py measures again).
Where the simulator has not been compiled before, the first worker takes 700 MiB for the minute that this takes.
"""

from __future__ import annotations

from coldfleet.cluster.study.plan import Plan
from coldfleet.hostsim.spec.units import MEMORY

BASE_BYTES = 400 << 20
"""The packages, the compiled simulator (211 MiB), Ray's part of the process, and the rows of a batch."""

PAGE_BYTES = 64
"""For each page of the largest host; 24 to 54 were measured on hosts of 1 to 16 GiB."""


def worker_bytes(plan: Plan) -> int:
    """An upper bound of what one worker needs for any run of the plan, in bytes."""
    classes = plan.cell(0).spec.fleet.host
    if classes:
        overcommit = max(float(value) for value in plan.values("overcommit"))
        pages = max(_most_pages(plan, f"fleet.host.{name}.memory") for name in classes) * overcommit
    else:
        guests = max(int(count) for count in plan.values("fleet.guests_per_host"))
        pages = guests * _most_pages(plan, "guest.memory")
    return BASE_BYTES + round(pages) * PAGE_BYTES


def _most_pages(plan: Plan, path: str) -> int:
    return max(MEMORY.parse(size) for size in plan.values(path))  # type: ignore[arg-type]
