"""Capacity's answers against a plain search: every load run in full, and hosts filled guest by guest."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pytest

import coldfleet
from coldfleet.cluster.study.model import merge
from coldfleet.hostsim.memory.watermarks import kernel_watermarks

GUESTS = 40
GUEST_PAGES = 1024
REPLICATES = 8
STEP = 0.05
BASE: dict[str, Any] = {
    "seed": 11,
    "ticks": 10,
    "overcommit": 1.5,
    "policy": "lockless-6.15",
    "replicates": REPLICATES,
    "fleet": {"hosts": 1, "guests_per_host": GUESTS},
    "guest": {"memory": f"{GUEST_PAGES} pages", "accesses_per_tick": 2048, "workload": {"skew": 1.1}},
}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "zipf": ({}, "fault_rate_mean<6%"),
    "hotcold": (
        {"guest": {"workload": {"kind": "hotcold", "hot_share": 0.3, "hot_access_share": 0.95}}},
        "fault_rate<5%",
    ),
    "phases": ({"guest": {"workload": {"kind": "phases", "hot_access_share": 0.9}}}, "fault_rate_p95<7%"),
    "nested": ({"nested_ratio": 1.0, "policy": "fast-only-v5"}, "fault_rate_mean<5%"),
    "6.18": ({"kernel": "6.18", "nested_ratio": 0.5}, "fault_rate_mean<7%"),
    "incompressible": ({"swap": {"incompressible_share": 1.0}}, "fault_rate_mean<6%"),
    "half incompressible": ({"swap": {"incompressible_share": 0.5}}, "fault_rate_mean<6%"),
    "host": ({"reclaim": {"mode": "host"}}, "fault_rate_mean<6%"),
    "host, hotcold": (
        {
            "reclaim": {"mode": "host"},
            "guest": {"workload": {"kind": "hotcold", "hot_share": 0.3, "hot_access_share": 0.95}},
        },
        "fault_rate_mean<5%",
    ),
    "page cache": ({"guest": {"page_cache": {"memory": "512 pages", "access_share": 0.2}}}, "fault_rate_mean<5%"),
}


def guests_of(study: dict[str, Any], out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = coldfleet.sweep(study, out=out, executor="serial").table("guests").to_pylist()
    return rows


def figure(slo: str, rows: list[dict[str, Any]]) -> float:
    """What the SLO bounds, of one run's guests, from the columns themselves."""
    rates = sorted(row["pgmajfault"] / (row["accesses"] + row["device_accesses"]) for row in rows)
    what = slo.partition("<")[0]
    if what.endswith("_mean"):
        return statistics.fmean(rates)
    return rates[math.ceil((0.95 if what.endswith("_p95") else 1.0) * len(rates)) - 1]


def meets(slo: str, rows: list[dict[str, Any]]) -> bool:
    """Whether the mean over the replicates is within the bound, and nobody was killed."""
    runs = [[row for row in rows if row["replicate"] == r] for r in range(REPLICATES)]
    bound = float(slo.partition("<")[2].rstrip("%")) / 100
    return statistics.fmean(figure(slo, run) for run in runs) <= bound and not any(row["oom_kills"] for row in rows)


def most_guests(study: dict[str, Any], slo: str, load: float, pages: int, tmp_path: Path) -> int:
    """Guests that fit on a host of so many pages at an overcommit: the host is run with one more until it is full."""
    by_host = study.get("reclaim", {}).get("mode") == "host"

    def fits(guests: int) -> bool:
        more: dict[str, Any] = {"fleet": {"guests_per_host": guests}, "overcommit": load}
        if by_host:
            more["host"] = {"memory": f"{pages} pages"}
        rows = guests_of(merge(study, more), tmp_path / f"host-{guests}")
        if by_host:
            return meets(slo, rows)
        dram = [0.0] * REPLICATES
        for row in rows:
            spent = sum(row[f"{what}_page_ticks"] for what in ("resident", "pool", "kernel"))
            dram[row["replicate"]] += spent / study["ticks"]
        return statistics.fmean(dram) <= pages - kernel_watermarks(pages, 10).high

    low, high = GUESTS // 2, GUESTS * 3
    if by_host:  # where the load is the guests' memory over the host's, and goes in steps
        high = math.floor(GUESTS * load) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_capacity_is_what_a_search_over_full_runs_finds(name: str, tmp_path: Path) -> None:
    more, slo = CASES[name]
    study = merge(BASE, more)
    low, high = 1.1, 2.6
    answer = coldfleet.capacity(study, slo, low=low, high=high, step=STEP, hosts=1000, executor="serial", budget=4000)
    mine = answer.policies[0]
    assert mine.capacity is not None, mine.sentence

    best = None
    for level in range(round((high - low) / STEP) + 1):
        load = round(low + level * STEP, 9)
        if not meets(slo, guests_of(merge(study, {"overcommit": load}), tmp_path / f"load-{level}")):
            break
        best = load
    assert best is not None
    assert mine.capacity == pytest.approx(best, rel=0.03), mine.sentence
    assert mine.checked, mine.sentence

    file = study["guest"].get("page_cache")
    pages = GUESTS * (GUEST_PAGES + (512 if file else 0))
    full = most_guests(study, slo, mine.capacity, pages, tmp_path)
    hosts = min(math.ceil(1000 * GUESTS / full), 1000)
    assert mine.hosts == pytest.approx(hosts, rel=0.03), (full, mine.sentence)
