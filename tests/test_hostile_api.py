"""Calls of the public Python API with anything for any argument: they answer, or raise UserError with one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import coldfleet
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster.conftest import fake_engine
from tests.fuzzing import BOUNDED, JUNK, LONG, outcome

__all__ = ["fake_engine"]  # a fixture

STUDY: dict[str, Any] = {
    "ticks": 3,
    "replicates": 1,
    "overcommit": 1.5,
    "policy": "locked-6.12",
    "fleet": {"hosts": 1, "guests_per_host": 1},
    "guest": {"memory": "2 MiB"},
}
OBJECTS: list[Any] = [
    object(), print, type, range(3), np.int64(3), np.float32("nan"), np.array([1]), np.datetime64("2020"),
    Path("."), complex(1, 2), set(), b"x", (), (1, "a"),
]  # fmt: skip
ANYTHING = JUNK | st.sampled_from(OBJECTS)
Call = Callable[[coldfleet.Results, Any], object]


def compare(**more: Any) -> object:
    return coldfleet.compare(STUDY, **{"a": "locked-6.12", "b": "nobody", "executor": "serial", **more})


def capacity(**more: Any) -> object:
    return coldfleet.capacity(STUDY, **{"slo": "fault_rate<5%", "vary": "nothing", "executor": "serial", **more})


def draw_map(**more: Any) -> object:
    return coldfleet.policy_map(STUDY, **{"x": "nested_ratio", "y": "nothing", "executor": "serial", **more})


def sweep(**more: Any) -> object:
    return coldfleet.sweep({**STUDY, "policy": "nobody"}, **{"executor": "serial", **more})


def guest(**more: Any) -> coldfleet.GuestSpec:
    return coldfleet.GuestSpec(**{"name": "g", "memory_pages": 1024, "limit_pages": 512, **more})


CALLS: dict[str, Call] = {
    "read_study": lambda results, value: coldfleet.read_study(value),
    "Results.open": lambda results, value: coldfleet.Results.open(value),
    "get_policy": lambda results, value: coldfleet.get_policy(value),
    "replay": lambda results, value: coldfleet.replay(value),
    "summary": lambda results, value: coldfleet.summary(value),
    "run_query results": lambda results, value: coldfleet.run_query(value, "SELECT 1"),
    "run_query sql": lambda results, value: coldfleet.run_query(results, value),
    "table": lambda results, value: results.table(value),
    "columns": lambda results, value: results.table("cells", value),
    "column": lambda results, value: results.table("cells", [value]),
    "filter": lambda results, value: results.table("cells", None, value),
    "name": lambda results, value: coldfleet.read_study(STUDY, name=value),
    "base": lambda results, value: coldfleet.read_study(STUDY, base=value),
}


def add(what: str, use: Callable[..., object], *names: str) -> None:
    CALLS.update({f"{what} {name}": lambda results, value, name=name: use(**{name: value}) for name in names})  # type: ignore[misc]


COMMON = ("at", "confidence", "budget", "executor", "workers", "progress")
add("study", lambda **more: coldfleet.read_study({**STUDY, **more}), "ticks", "overcommit", "policy", "fleet", "guest",
    "where", "grid", "zip", "sample", "seed", "replicates", "title", "kernel", "nested_ratio", "calibration",
    "scenario", "clock")  # fmt: skip
add("compare", compare, "a", "b", "metric", "precision", *COMMON)
add("capacity", capacity, "slo", "vary", "low", "high", "step", "hosts", "headroom", "spare_hosts", *COMMON)
add("map", draw_map, "x", "y", "x_range", "y_range", "metric", "highest", "depth", *COMMON)
add("sweep", sweep, "executor", "progress", "workers", "address")
add("guest", guest, "name", "memory_pages", "limit_pages", "nested", "workload", "page_cache", "vm")
add("host", lambda **more: HostSpec(**{"kernel": "6.12", "guests": (guest(),), "ticks": 2, **more}),
    *HostSpec.__dataclass_fields__)  # fmt: skip
add("vm", coldfleet.VmSpec, *coldfleet.VmSpec.__dataclass_fields__)
add("workload", coldfleet.WorkloadSpec, *coldfleet.WorkloadSpec.__dataclass_fields__)
add("nested", coldfleet.NestedSpec, *coldfleet.NestedSpec.__dataclass_fields__)
add("clock", coldfleet.ClockSpec, *coldfleet.ClockSpec.__dataclass_fields__)
add("compression", coldfleet.CompressionSpec, *coldfleet.CompressionSpec.__dataclass_fields__)
add("huge pages", coldfleet.HugePageSpec, *coldfleet.HugePageSpec.__dataclass_fields__)
add("page cache", lambda **more: coldfleet.PageCacheSpec(**{"pages": 4, **more}),
    *coldfleet.PageCacheSpec.__dataclass_fields__)  # fmt: skip


@pytest.fixture
def results(tmp_path: Path, fake_engine: list[HostSpec], monkeypatch: pytest.MonkeyPatch) -> coldfleet.Results:
    monkeypatch.chdir(tmp_path)
    return coldfleet.sweep(STUDY, "out", "serial")


@settings(BOUNDED, max_examples=300)
@given(st.sampled_from(list(CALLS)), ANYTHING)
def test_a_call_with_anything_answers_or_refuses(results: coldfleet.Results, call: str, value: Any) -> None:
    outcome(lambda: CALLS[call](results, value))


@pytest.mark.slow
@LONG
@given(st.sampled_from(list(CALLS)), ANYTHING)
def test_fuzz_calls(results: coldfleet.Results, call: str, value: Any) -> None:
    outcome(lambda: CALLS[call](results, value))


@pytest.mark.parametrize("call", CALLS)
def test_a_call_with_an_object_of_no_use_is_refused(results: coldfleet.Results, call: str) -> None:
    for value in OBJECTS:
        outcome(lambda value=value: CALLS[call](results, value))  # type: ignore[misc]
