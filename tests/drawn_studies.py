"""Whole studies drawn at random over all keys, as mappings for ``read_study``, small enough to run by the hundred.

Some contradict themselves, and read_study refuses those: every pair of keys is allowed to meet.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.spec.host_spec import (
    DRAWN_KINDS,
    GUEST_KINDS,
    MIX_WORKLOADS,
    MONITORS,
    RECLAIM_MODES,
    RECORDED_WORKLOADS,
    SUBSCRIBERS,
    SWAP_DEVICES,
)
from coldfleet.hostsim.spec.huge_spec import DEFRAG
from coldfleet.policies import POLICIES

SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
MAYBE = st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.1, 0.5, 1.0])
SWITCH = st.sampled_from(["on", "on", "on", "off"])
FEW_PAGES = st.sampled_from(["0 pages", "0 pages", "1 pages", "64 pages", "300 pages", "1500 pages"])
SIZES = st.sampled_from(["2 MiB", "2500 KiB", "4 MiB", "8 MiB"])
ACCESSES = st.sampled_from([1, 100, 1500, 4000])
WORKLOADS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(DRAWN_KINDS),
        "skew": st.sampled_from([0.0, 0.9, 2.0]),
        "hot_share": SHARES,
        "hot_access_share": SHARES,
        "phase_ticks": st.integers(1, 3),
        "write_share": SHARES,
        "layout": st.sampled_from(["shuffled", "ordered"]),
        "set_ticks": st.integers(0, 4),
        "set_phase": SHARES,
    },
)
PAGE_CACHES = st.fixed_dictionaries(
    {"memory": st.sampled_from(["1 pages", "160 KiB", "2 MiB"])},
    optional={
        "access_share": SHARES,
        "kind": st.sampled_from(DRAWN_KINDS),
        "mmap_share": SHARES,
        "write_share": SHARES,
    },
)
LIMITS_OF_NESTED = {"start_tick": st.integers(0, 2), "stop_tick": st.sampled_from([0, 3, 5])}
NESTED = st.fixed_dictionaries(
    {},
    optional={
        "access_share": SHARES,
        "exposed_share": st.sampled_from([0.25, 0.5, 1.0]),
        "l2_only_share": st.sampled_from([0.0, 0.1, 0.25]),
        "l1_paging": st.sampled_from(["nested", "shadow"]),
        **LIMITS_OF_NESTED,
    },
)
VMS = st.fixed_dictionaries(
    {},
    optional={
        "tdp": SWITCH,
        "accessed_bits": SWITCH,
        "subscribers": st.lists(st.sampled_from(SUBSCRIBERS), min_size=1, max_size=3, unique=True).map(
            lambda names: ", ".join(dict.fromkeys([*names, "kvm"]))
        ),
        "device_share": MAYBE,
        "shared_share": MAYBE,
        "shared_by": st.integers(2, 5),
        "no_ad_share": MAYBE,
        "tlb_hit": MAYBE,
        "race": MAYBE,
        "lock_contended": MAYBE,
        "numa_zap_share": MAYBE,
        "split_share": MAYBE,
    },
)
CLOCKS = st.fixed_dictionaries(
    {"mode": st.just("timed")},
    optional={
        "tick": st.sampled_from(["100 us", "2 ms", "1 s"]),
        "access": st.sampled_from(["100 ns", "5 us"]),
        "vcpus": st.integers(1, 3),
        "pcpus": st.integers(0, 2),
        "batch": st.sampled_from([1, 64, 1024]),
    },
)
SCENARIO_GUESTS = st.tuples(
    st.sampled_from(GUEST_KINDS),
    st.sampled_from([*RECORDED_WORKLOADS, *MIX_WORKLOADS]),
    st.sampled_from(["", " write", " ident"]),
).map(lambda guest: f"{guest[0]} {guest[1]}{guest[2]}")


@st.composite
def _reclaim(draw: st.DrawFn) -> dict[str, Any]:
    return draw(
        st.fixed_dictionaries(
            {"mode": st.sampled_from(RECLAIM_MODES)},
            optional={
                "lru": st.sampled_from(["mglru", "mglru", "classic"]),
                "period_ticks": st.integers(1, 3),
                "psi_target": st.sampled_from([0.1, 50.0]),
                "aging_every_ticks": st.integers(0, 2),
                "swappiness": st.sampled_from([0, 1, 60, 200, 201]),
                "min_ttl_ms": st.sampled_from([0, 0, 1, 1000]),
                "flush_every_ticks": st.integers(1, 3),
                "scheduler": st.sampled_from(["usual", "drawn"]),
            },
        )
    )


@st.composite
def _swap(draw: st.DrawFn) -> dict[str, Any]:
    device = draw(st.sampled_from(["zram", "zram", *SWAP_DEVICES]))
    swap: dict[str, Any] = {"device": device}
    if device != "none":
        swap["size"] = draw(FEW_PAGES)
        swap["page_cluster"] = draw(st.sampled_from([0, 3, 3, 5]))
    if device == "zram":
        swap["pool_limit"] = draw(FEW_PAGES)
        swap["ratio"] = draw(st.sampled_from([1.0, 3.0, 100.0]))
        swap["ratio_spread"] = draw(st.sampled_from([0.0, 0.4, 3.0]))
        swap["incompressible_share"] = draw(st.sampled_from([0.0, 0.1, 0.5]))
        swap["same_filled_share"] = draw(st.sampled_from([0.0, 0.5]))
    return swap


@st.composite
def _fleet(draw: st.DrawFn, guests: int) -> dict[str, Any]:
    if draw(st.integers(0, 3)):
        return {"hosts": draw(st.integers(1, 2)), "guests_per_host": guests}
    names = ["web", "db"][: draw(st.integers(1, 2))]
    classes = {}
    for name in names:
        classes[name] = draw(
            st.fixed_dictionaries(
                {"count": st.integers(1, 2)},
                optional={
                    "memory": SIZES,
                    "accesses_per_tick": ACCESSES,
                    "vcpus": st.integers(1, 2),
                    "nested_ratio": SHARES,
                    "workload": WORKLOADS,
                    "nested": NESTED,
                    "page_cache": PAGE_CACHES,
                },
            )
        )
    host = {"count": draw(st.integers(1, 2)), "memory": draw(st.sampled_from(["8 MiB", "16 MiB"])), "cpus": 2}
    placement = draw(st.sampled_from(["first-fit", "best-fit", "worst-fit", "random"]))
    return {"placement": placement, "host": {"small": host}, "guest": classes}


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    """A study of one cell, of at most two hosts with three guests of 8 MiB and six ticks."""
    study: dict[str, Any] = {
        "replicates": 1,
        "seed": draw(st.integers(0, 5)),
        "ticks": draw(st.integers(1, 6)),
        "kernel": draw(st.sampled_from([*KERNELS, "6.12 with two_touch of 6.18"])),
        "policy": draw(st.sampled_from(["kernel", *POLICIES])),
        "overcommit": draw(st.sampled_from([1.0, 1.1, 1.5, 2.0, 4.0])),
        "truth": draw(st.sampled_from(["off", "off", "on"])),
        "output": {"epochs": draw(SWITCH)},
        "guest": {"memory": draw(SIZES), "accesses_per_tick": draw(ACCESSES)},
        "reclaim": draw(_reclaim()),
        "swap": draw(_swap()),
        "vm": draw(st.one_of(st.just({}), st.just({}), VMS)),
    }
    if draw(st.integers(0, 2)) == 0:
        study["guest"] |= {key: draw(FEW_PAGES) for key in ("memory_min", "memory_low", "memory_high")}
    if draw(st.booleans()) or study["reclaim"]["mode"] == "pressure" or study["reclaim"].get("min_ttl_ms"):
        study["clock"] = draw(CLOCKS)
    if draw(st.integers(0, 2)) == 0:
        study["host"] = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "memory": st.sampled_from(["3 MiB", "6 MiB", "12 MiB"]),
                    "watermark_scale_factor": st.sampled_from([10, 300]),
                    "sample": st.sampled_from(["1/2", "1/4"]),
                },
            )
        )
    if draw(st.integers(0, 2)) == 0:
        study["monitor"] = {"kind": draw(st.sampled_from(MONITORS)), "every_ticks": draw(st.integers(1, 2))}
    if draw(st.integers(0, 4)) == 0:
        guests = draw(st.lists(SCENARIO_GUESTS, min_size=1, max_size=3))
        return {**study, "scenario": ", ".join(guests), "fleet": {"hosts": 1, "guests_per_host": len(guests)}}
    study["fleet"] = draw(_fleet(draw(st.integers(1, 3))))
    study["nested_ratio"], study["nested"] = draw(SHARES), draw(NESTED)
    study["guest"]["workload"] = draw(WORKLOADS)
    if draw(st.booleans()):
        study["guest"]["page_cache"] = draw(PAGE_CACHES)
    return study


@st.composite
def huge_studies(draw: st.DrawFn) -> dict[str, Any]:
    """The same with huge pages, without what these are refused beside."""
    study = draw(studies()) | {"truth": "off", "monitor": {}}
    study["vm"] = {key: value for key, value in study["vm"].items() if key in ("tdp", "split_share")}
    study["reclaim"] = {key: value for key, value in study["reclaim"].items() if key != "lru"}
    study["host"] = {key: value for key, value in study.get("host", {}).items() if key != "sample"}
    for nested in (study.get("nested", {}), *(each.get("nested", {}) for each in _classes(study).values())):
        nested.pop("l1_paging", None)
        nested["l1_huge_pages"] = draw(SWITCH)
    study["guest"]["huge_pages"] = draw(st.sampled_from(["madvise", "always"]))
    study["huge_pages"] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "defrag": st.sampled_from(DEFRAG),
                "khugepaged": SWITCH,
                "every_ticks": st.integers(1, 2),
                "pages_to_scan": st.sampled_from([512, 4096]),
                "max_ptes_none": st.sampled_from([0, 511]),
                "max_ptes_swap": st.sampled_from([0, 64, 511]),
            },
        )
    )
    return study


def _classes(study: dict[str, Any]) -> dict[str, Any]:
    classes: dict[str, Any] = study["fleet"].get("guest", {})
    return classes
