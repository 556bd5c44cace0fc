"""Guests that come and go: who lives where and when, as a plain simulation of events has it, and what is refused."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import signal
import threading
import tomllib
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.cluster.execution import batching
from coldfleet.cluster.execution.estimate import estimate
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.over_time import rows_over_time
from coldfleet.cluster.execution.ray_executor import RayExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.results.parts import Rows
from coldfleet.cluster.results.query import run_query
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.row_laws import ROW_LAWS
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.verify import verify
from coldfleet.cluster.study.arrivals import HOUR_NS, arriving, rate, read_guests, write_guests
from coldfleet.cluster.study.fleet import build_hosts, requested_guests
from coldfleet.cluster.study.fleet_tables import Arrivals, Fleet, GuestClass
from coldfleet.cluster.study.lives import all_hosts, all_lives, room_of, too_large_for_all
from coldfleet.cluster.study.model import INHERITED, as_amount, merge
from coldfleet.cluster.study.placement import REFUSALS, HostResources, Hosts, Request
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.cluster.study.timeline import HostOutage, place_in_time
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostSpec
from coldfleet.hostsim.spec.laws import hold
from tests.cluster.conftest import Said
from tests.cluster.study.azure_week import HOST_MIB, HOST_VCPUS, write_week
from tests.reference.fleet import Fleet as PlainFleet
from tests.reference.fleet import Out, Told, Vm

SECOND = 10**9
STUDY: dict[str, Any] = {
    "seed": 3,
    "replicates": 2,
    "ticks": 48,
    "overcommit": 1.5,
    "fleet": {
        "tick": "30 min",
        "host": {"node": {"count": 4, "memory": "32 MiB", "cpus": 4}},
        "guest": {
            "web": {"memory": "4 MiB", "vcpus": 2, "arrivals": {"per_hour": 3.0, "mean_lifetime": "6 h"}},
            "db": {"memory": "8 MiB", "count": 3},
        },
    },
    "guest": {"memory": "2 MiB", "accesses_per_tick": 256},
    "grid": {"policy": ["evict-only", "six-steps"]},
}

vms = st.builds(
    lambda memory, vcpus, start, life, priority: (memory, vcpus, start, life and max(start, 0) + life, priority),
    st.integers(1, 8), st.integers(1, 4), st.integers(-3, 20), st.none() | st.integers(1, 12), st.integers(0, 1),
)  # fmt: skip
outs = st.builds(
    lambda first, many, at, grace, back: Out(range(first, first + many), at, at + grace, back and at + grace + back),
    st.integers(0, 2), st.integers(1, 3), st.integers(0, 15), st.integers(0, 4), st.none() | st.integers(1, 6),
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["first-fit", "best-fit", "worst-fit"]),
    st.lists(st.tuples(st.integers(1, 16), st.integers(1, 8)), min_size=5, max_size=5),
    st.lists(vms, max_size=30),
    st.lists(outs, max_size=3),
)
def test_a_small_fleet_is_that_of_a_plain_simulation(
    rule: str, hosts: list[tuple[int, int]], some: list[tuple[int, int, int, int | None, int]], out: list[Out]
) -> None:
    some.sort(key=lambda vm: vm[2])
    requests = [
        Request("g", number, memory, vcpus, start * SECOND, None if end is None else end * SECOND, priority)
        for number, (memory, vcpus, start, end, priority) in enumerate(some)
    ]
    outages = [
        HostOutage(o.hosts.start, o.hosts.stop, int(o.at * SECOND), int(o.empty * SECOND), int((o.back or 0) * SECOND))
        for o in out
    ]
    machines = [HostResources(*host) for host in hosts]
    mine = Told()
    for life in place_in_time(machines, requests, rule, lambda *who: b"", outages, 18 * SECOND):
        name, start = f"g-{life.request}", max(life.start_ns or 0, 0) / SECOND
        if life.refused:
            mine.refusals.append((start, name, life.refused))
            continue
        mine.arrivals.append((start, name, life.host))
        if life.end_ns is not None and life.ended in ("left", "outage"):
            mine.departures.append((life.end_ns / SECOND, name))
    theirs = PlainFleet(list(hosts), [Vm(f"g-{n}", *vm) for n, vm in enumerate(some)], out, rule).run(18)
    assert mine.arrivals == theirs.arrivals
    assert mine.refusals == theirs.refusals
    assert sorted(mine.departures) == sorted(theirs.departures)


@pytest.mark.parametrize(
    ("room", "guest"),
    [((25600 * 1.14, 4.0), (29184, 1)), ((25600 * 1.15, 50 * 1.14), (29440, 57)), ((64.0, math.inf), (64, 99))],
)
def test_a_guest_that_fits_exactly_has_a_place_and_gives_it_back(
    room: tuple[float, float], guest: tuple[int, int]
) -> None:
    hosts = Hosts([HostResources(*room)], "best-fit", lambda *who: b"")
    there = hosts.pages.tolist(), hosts.vcpus.tolist()
    for request in [Request("g", number, *guest) for number in range(3)]:
        assert hosts.why_not(request) == "both"  # nothing is lacking
        assert hosts.put(request) == 0
        assert hosts.pages.tolist() == [0.0]
        assert hosts.put(Request("g", 9, 1, 1)) == -1
        assert hosts.why_not(Request("g", 9, 1, 1)) == "memory"
        hosts.take(request, 0)
        assert (hosts.pages.tolist(), hosts.vcpus.tolist()) == there
    assert hosts.put(Request("g", 9, guest[0] + 1, guest[1])) == -1
    if room[1] < math.inf:
        assert hosts.put(Request("g", 9, guest[0], int(there[1][0]) + 1)) == -1


def test_shares_of_a_host_that_is_full_are_one_and_its_guest_is_not_too_large() -> None:
    host = {"count": 1, "memory": "100 MiB", "cpus": 50}
    arrivals = {"per_hour": 6.0, "mean_lifetime": "2 h"}
    guest = {"memory": "114 MiB", "vcpus": 57, "accesses_per_page": 0.01, "arrivals": arrivals}
    fleet = {"tick": "30 min", "vcpus_per_cpu": 1.14, "host": {"a": host}, "guest": {"g": guest}}
    plan = read_study({"seed": 1, "replicates": 1, "ticks": 6, "policy": "kernel", "overcommit": 1.14, "fleet": fleet,
                       "guest": {"memory": "2 MiB"}, "reclaim": {"mode": "host"}})  # fmt: skip
    run = plan.run(0)
    assert [room_of(run.cell.spec).memory_pages, room_of(run.cell.spec).vcpus] == [114 * 256, 57]
    assert {each.life.refused for each in all_lives(run)} > {""}
    assert not too_large_for_all(run)


def test_all_vms_of_a_trace_are_taken_unless_it_is_said_how_many(
    tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    trace = tmp_path / "trace.sqlite"
    made = len(write_week(trace, 150))
    asked = ("fleet", trace, "--at", 0, "--days", 7, "--arrivals")
    said = coldfleet(*asked, tmp_path / "all.parquet")
    assert (said.code, said.err) == (0, "")
    assert pq.read_metadata(tmp_path / "all.parquet").num_rows == made
    said = coldfleet(*asked, tmp_path / "some.parquet", "--guests", 40)
    assert (said.code, said.err) == (0, f"coldfleet: 40 of {made} VMs are drawn (--guests)\n")
    assert pq.read_metadata(tmp_path / "some.parquet").num_rows == 40


def test_plan_says_who_finds_a_place_in_the_first_run(tmp_path: Path, coldfleet: Callable[..., Said]) -> None:
    study = tmp_path / "study.toml"
    coldfleet("new", "fleet-over-time", study)
    lives = [each.life for each in all_lives(read_study(study).run(0))]
    found = json.loads(coldfleet("plan", study, "--sample", 0, "--json").out)["fleet"]
    assert found["placed"] == sum(not life.refused and not life.number for life in lives)
    assert found["moved"] == sum(not life.refused and life.number > 0 for life in lives) > 0
    assert found["hosts_out"] == 1
    assert "guests of the first run: " in coldfleet("plan", study, "--sample", 0).out


def week(tmp_path: Path, coldfleet: Callable[..., Said], guests: int, hosts: int) -> tuple[Plan, list[Vm]]:
    """A study of a made-up week of Azure's, as the command line makes it, and the VMs that it is made of."""
    trace, table = tmp_path / "trace.sqlite", tmp_path / "week.parquet"
    made = write_week(trace, guests)
    said = coldfleet("fleet", trace, "--at", 0, "--days", 7, "--guests", guests, "--arrivals", table,
                     "--memory", f"{HOST_MIB} MiB", "--cpus", HOST_VCPUS, "--vcpus-per-cpu", 1)  # fmt: skip
    assert (said.code, said.err) == (0, "")
    head = 'seed = 1\nreplicates = 1\npolicy = "six-steps"\n'
    lines = said.out.replace('tick = "15 min"', 'tick = "1 h"').replace("ticks = 672\n", "ticks = 168\n").splitlines()
    lines = [f"count = {hosts}" if line.startswith("count") else line for line in lines]
    tail = '\n[guest]\nmemory = "2 MiB"\naccesses_per_tick = 256\n[output]\nepochs = "on"\nevery_ticks = 6\n'
    (tmp_path / "week.toml").write_text(head + "\n".join(lines) + tail)
    return read_study(tmp_path / "week.toml"), made


def assert_week(results: Results, made: list[Vm], hosts: int) -> None:
    """The tables of a week are those of a plain simulation."""
    theirs = PlainFleet([(HOST_MIB * 256, HOST_VCPUS)] * hosts, made, [], "best-fit").run(7 * 86_400)
    lives = results.table("lives").to_pylist()
    assert len({row["own_name"] for row in lives} - {""}) == len(made)
    there = [row for row in lives if not row["refused"]]
    assert [(max(row["start_s"], 0.0), row["name"], row["place"]) for row in there] == theirs.arrivals
    refusals = [(max(row["start_s"], 0.0), row["name"], row["refused"]) for row in lives if row["refused"]]
    assert refusals == theirs.refusals
    departures = [(row["end_s"], row["name"]) for row in there if row["ended"] == "left"]
    assert sorted(departures) == sorted(theirs.departures)
    assert {row["refused"] for row in lives} == {"", "memory", "both"}
    memory = {vm.name: vm.memory for vm in made}
    gone = {name: time for time, name in theirs.departures}
    since = -1
    for row in results.table("fleet").to_pylist():
        hour = row["tick"] * 3600
        alive = [name for time, name, _ in theirs.arrivals if time <= hour and gone.get(name, math.inf) > hour]
        refused = Counter(why for time, _, why in theirs.refusals if since < time <= hour)
        assert row["guests"] == len(alive)
        assert row["promised_pages"] == sum(memory[name] for name in alive)
        assert row["memory_share"] == row["promised_pages"] / (hosts * HOST_MIB * 256)
        assert 0 < row["memory_share"] <= 1
        assert 0 < row["vcpu_share"] <= 1
        assert [row[f"refused_{why}"] for why in REFUSALS] == [refused[why] for why in REFUSALS]
        assert row["departed"] == sum(since < time <= hour for time, _ in theirs.departures)
        since = hour
    on_hosts = {(row["host"], row["guest"]): row["name"] for row in there if row["guest"] >= 0}
    guests = results.table("guests", ["host", "guest", "name"]).to_pylist()
    assert {(row["host"], row["guest"]): row["name"] for row in guests} == on_hosts


def test_a_week_of_azure_is_that_of_a_plain_simulation(
    tmp_path: Path, coldfleet: Callable[..., Said], fake_engine: list[HostSpec]
) -> None:
    plan, made = week(tmp_path, coldfleet, 700, 28)
    assert_week(sweep(plan, tmp_path / "out", SerialExecutor()), made, 28)


@pytest.mark.slow
@pytest.mark.cluster
def test_a_week_of_200_hosts_and_5000_vms_is_that_of_a_plain_simulation_however_it_is_run(
    tmp_path: Path, coldfleet: Callable[..., Said], ray_token: str
) -> None:
    """Serial, by one worker and by two, one of which is killed on the way."""
    plan, made = week(tmp_path, coldfleet, 5000, 200)
    serial = sweep(plan, tmp_path / "serial", SerialExecutor())
    assert not serial.failed
    assert_week(serial, made, 200)
    one = sweep(plan, tmp_path / "one", RayExecutor(1))
    killed = tmp_path / "killed"
    with Killing(killed) as killing:
        two = sweep(plan, killed, RayExecutor(2))
    assert killing.killed
    for table in TABLES:
        assert serial.table(table).equals(one.table(table), check_metadata=True)
        assert serial.table(table).equals(two.table(table), check_metadata=True)
    assert list(verify(two)) == []


class Killing(AbstractContextManager["Killing"]):
    """Kills a worker of a sweep whenever there are five more receipts, three times."""

    def __init__(self, out: Path) -> None:
        self._journal = out / "journal.jsonl"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.killed = 0

    def __enter__(self) -> Killing:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.1) and self.killed < 3:
            receipts = self._journal.read_bytes().count(b"\n") if self._journal.exists() else 0
            workers = []
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it is gone meanwhile
                    workers += [child.pid] if "HostActor" in "".join(child.cmdline()[:1]) else []
            if receipts >= 5 * (self.killed + 1) and workers:
                os.kill(workers[0], signal.SIGKILL)
                self.killed += 1


def test_hosts_that_never_have_a_guest_are_free() -> None:
    fleet = {"host": {"node": {"count": 9}}, "guest": {"db": {"count": 1}, "web": {"arrivals": {"per_hour": 0.01}}}}
    change = {"fleet": fleet, "output": {"epochs": "on"}, "reclaim": {"mode": "host"}, "ticks": 4}
    run = read_study(merge(STUDY, change)).run(0)
    assert len(all_hosts(run)) < 9
    for row in simulate_run(run)["fleet"]:
        assert 0 < 9 * 32 * 256 - row["free_pages"] <= row["dram_used_pages"]


def test_a_real_day_obeys_all_laws() -> None:
    plan = read_study(merge(STUDY, {"output": {"epochs": "on", "every_ticks": 5}, "reclaim": {"mode": "host"}}))
    rows = simulate_run(plan.run(0), audit=True)
    ticks = [row["tick"] for row in rows["fleet"]]
    assert ticks == [*range(5, 48, 5), 48]
    for row in rows["fleet"]:
        assert 0 < row["dram_used_pages"] <= 4 * 32 * 256
        assert row["dram_used_pages"] <= row["promised_pages"] * 1.1
    assert sum(row["refaults"] for row in rows["fleet"]) == rows["cells"][0]["refaults"]
    guests = {row["name"]: row for row in rows["guests"]}
    assert {life["name"] for life in rows["lives"] if life["guest"] >= 0} == guests.keys()


def test_shards_make_the_same_tables(
    tmp_path: Path, fake_engine: list[HostSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = {"fleet": {"outage": {"a": {"at": "5 h"}}}, "output": {"epochs": "on"}}
    plan = read_study(merge(STUDY, failing))
    whole = sweep(plan, tmp_path / "whole", SerialExecutor())
    for name in ("_FIRST_S", "TARGET_S", "LEAST_S"):
        monkeypatch.setattr(batching, name, 1e-12)
    cut = sweep(plan, tmp_path / "cut", SerialExecutor())
    assert cut.status.merged
    assert not whole.status.merged
    for table in TABLES:
        assert cut.table(table).equals(whole.table(table), check_metadata=True)
    assert whole.table("fleet").num_rows == 4 * 48
    sql = "SELECT refused, count(*) AS n FROM lives GROUP BY ALL ORDER BY ALL"
    assert run_query(whole, sql).to_pylist() == [
        {"refused": why, "n": n} for why, n in sorted(Counter(whole.table("lives")["refused"].to_pylist()).items())
    ]
    assert set(run_query(whole, "SELECT guest_class FROM guests")["guest_class"].to_pylist()) == {"web", "db"}
    assert list(verify(cut)) == []


def test_an_estimate_simulates_hosts_to_their_end(fake_engine: list[HostSpec]) -> None:
    plan = read_study(STUDY)
    found = estimate(plan, 2)
    assert found.hosts > 0
    hosts = [host for number in range(2) for host in build_hosts(plan.run(number))]
    assert sum(spec in hosts for spec in fake_engine) == found.hosts


def law(**keys: Any) -> Arrivals:
    return Arrivals(**{"per_hour": 20.0, "mean_lifetime": "5 h", **keys})


@pytest.mark.parametrize(
    "how",
    [law(), law(lifetime="fixed"), law(lifetime="lognormal", shape=0.8), law(lifetime="pareto", shape=2.5),
     law(day_swing=0.9, weekend=0.25)],
    ids=lambda how: f"{how.lifetime} {how.day_swing}",
)  # fmt: skip
def test_drawn_guests_follow_littles_law_from_the_first_hour_on(how: Arrivals) -> None:
    """Guests at any time are Poisson: rate x lifetime, by the rate of those hours in which they came."""
    kind = GuestClass.model_validate({"memory": "2 MiB", "accesses_per_page": 1.0, "arrivals": how})
    fleet = Fleet.model_construct(guest={"web": kind}, arrivals="")
    runs, hours = 30, 168
    at = np.array([0.0, 6.0, 12.0, 100.0, 130.0]) * HOUR_NS
    there, came = np.zeros(len(at)), 0
    for seed in range(runs):
        generator = np.random.default_rng(seed)
        found = arriving(fleet, None, hours * HOUR_NS, lambda name, generator=generator: generator)  # type: ignore[misc]
        starts, ends = (np.array(times, float) for times in zip(*((r.start_ns, r.end_ns) for r in found), strict=True))
        there += [((starts <= time) & (ends > time)).sum() for time in at]
        came += int((starts > 0).sum())
    expected = runs * float(rate(how, np.arange(0, hours, 0.25) * HOUR_NS).mean()) * hours
    assert came == pytest.approx(expected, abs=5 * math.sqrt(expected))
    ages = np.arange(0.005, 200, 0.01) * HOUR_NS
    alive = {"exponential": np.exp(-ages / how.mean_lifetime), "fixed": ages < how.mean_lifetime}
    for time, number in zip(at, there, strict=True):
        mean = runs * how.per_hour * how.mean_lifetime / HOUR_NS
        if how.lifetime in alive:
            mean = runs * float((rate(how, time - ages) * alive[how.lifetime]).sum()) * 0.01
        assert number == pytest.approx(mean, abs=5 * math.sqrt(mean))


LAWS = st.fixed_dictionaries(
    {
        "per_hour": st.floats(0.5, 6.0),
        "mean_lifetime": st.sampled_from(["40 min", "5 h", "2 d"]),
        "lifetime": st.sampled_from(["exponential", "lognormal", "pareto", "fixed"]),
        "day_swing": st.floats(0, 1),
    }
)
OUTAGE = st.fixed_dictionaries(
    {
        "host": st.integers(0, 3),
        "at": st.sampled_from(["1 ns", "5 h", "20 h"]),
        "grace": st.sampled_from(["0 ns", "3 h"]),
        "back": st.sampled_from(["0 ns", "24 h"]),
    }
)


@settings(deadline=None, max_examples=25)
@given(
    LAWS,
    st.sampled_from(["first-fit", "best-fit", "worst-fit", "random"]),
    st.dictionaries(st.sampled_from("ab"), OUTAGE),
    st.integers(0, 100),
)
def test_guests_are_conserved_and_littles_law_is_an_identity(
    arrivals: dict[str, Any], rule: str, outage: dict[str, Any], seed: int
) -> None:
    change = {"fleet": {"placement": rule, "outage": outage, "guest": {"web": {"arrivals": arrivals}}}}
    plan = read_study(merge(STUDY, {**change, "seed": seed, "replicates": 1, "output": {"epochs": "on"}}))
    run = plan.run(0)
    rows: Rows = {"cells": [], "hosts": [], "guests": [], "epochs": [], **rows_over_time(run, lambda name: [])}
    hold({"over time": ROW_LAWS["guests over time"]}, "rows", rows)
    ticks = run.cell.spec.ticks
    lived = sum(
        (guest.leaves or ticks + 1) - max(guest.arrives, 1) for host in build_hosts(run) for guest in host.guests
    )
    assert sum(row["guests"] for row in rows["fleet"]) == lived  # mean guests x ticks = guests x mean lifetime
    for row in rows["fleet"]:
        assert 0 <= row["memory_share"] <= 1
        assert 0 <= row["vcpu_share"] <= 1
    asked = {row["name"] for row in rows["lives"] if not row["again"]}
    assert len(asked) == sum(not row["again"] for row in rows["lives"])
    again, lost = (
        Counter(row["name"].partition(".")[0] for row in rows["lives"] if row[name] == value or row[name] in more)
        for name, value, more in (("again", 1, range(1, 9)), ("ended", "outage", ()))
    )
    assert again == lost  # whoever lost a host asked for another


def test_a_guest_of_a_failed_host_starts_anew_on_another() -> None:
    fleet = {
        "tick": "1 h",
        "placement": "first-fit",
        "host": {"node": {"count": 2, "memory": "16 MiB"}},
        "guest": {"web": {"memory": "8 MiB", "count": 2}, "low": {"memory": "8 MiB", "count": 1, "priority": 1}},
        "outage": {"power": {"host": 0, "at": "5 h", "back": "20 h"}},
    }
    plan = read_study({**STUDY, "overcommit": 1.0, "fleet": fleet, "replicates": 1})
    lives = {each.name: each for each in all_lives(plan.run(0))}
    first = {
        name: (each.life.host, each.arrives, each.leaves, each.life.ended)
        for name, each in lives.items()
        if not each.life.number
    }
    assert first == {"web-0": (0, 0, 5, "outage"), "web-1": (0, 0, 5, "outage"), "low-0": (1, 0, 0, "end")}
    again = [lives["web-0.1"], lives["web-1.1"]]
    assert sorted((each.life.host, each.arrives, each.life.refused) for each in again) == [
        (-1, 5, "memory"),
        (1, 5, ""),
    ]


def test_a_drained_host_keeps_its_guests_for_a_while_and_takes_no_others() -> None:
    fleet = {
        "host": {"node": {"count": 1, "memory": "8 MiB"}},
        "guest": {"web": {"memory": "2 MiB", "arrivals": {"per_hour": 6.0, "mean_lifetime": "1 h"}}},
        "outage": {"update": {"at": "10 h", "grace": "3 h", "back": "15 h"}},
    }
    plan = read_study({**STUDY, "fleet": {"tick": "30 min", **fleet}})
    lives = [each.life for each in all_lives(plan.run(0))]
    hours = [((life.start_ns or 0) / HOUR_NS, (life.end_ns or 0) / HOUR_NS, life) for life in lives]
    assert {life.refused for start, _, life in hours if 10 < start < 15} == {"outage"}
    assert "outage" not in {life.refused for start, _, life in hours if not 10 <= start < 15}
    assert any(10 < end < 13 and life.ended == "left" for _, end, life in hours)
    assert not any(life.host == 0 and start < 13 < end for start, end, life in hours)


def test_nested_guests_are_the_same_share_of_those_that_are_there_at_any_time() -> None:
    arrivals = {"per_hour": 10.0, "mean_lifetime": "9 h"}
    fleet = {
        "tick": "30 min",
        "host": {"node": {"count": 40, "memory": "32 MiB"}},
        "guest": {"web": {"memory": "4 MiB", "nested_ratio": 0.25, "arrivals": arrivals}},
    }
    plan = read_study({**STUDY, "fleet": fleet, "replicates": 6})
    excess = []
    for replicate in range(6):
        guests = [guest for host in build_hosts(plan.run(replicate)) for guest in host.guests]
        for tick in range(0, 48, 6):
            there = [guest for guest in guests if guest.arrives <= tick and not 0 < guest.leaves <= tick]
            excess.append(sum(guest.nested is not None for guest in there) - len(there) / 4)
    assert np.std(excess) < 0.75 * math.sqrt(90 * 0.25 * 0.75)  # the latter is what drawing them at random has


def test_nested_guests_are_the_same_share_of_long_and_short_lives_in_whatever_order_they_come(tmp_path: Path) -> None:
    rows = ["class,start_s,end_s"]
    for hour in range(40):
        rows += [f"web,{3600 * hour},{3600 * (hour + 23)}", f"web,{3600 * hour + 60},{3600 * hour + 360}"]
    (tmp_path / "guests.csv").write_text("\n".join(rows) + "\n")
    fleet = {
        "tick": "1 h",
        "arrivals": "guests.csv",
        "host": {"node": {"count": 40, "memory": "32 MiB"}},
        "guest": {"web": {"memory": "4 MiB", "nested_ratio": 0.5}},
    }
    plan = read_study({**STUDY, "fleet": fleet, "replicates": 20}, tmp_path)
    found, every_second = [], 0
    for replicate in range(20):
        asked = requested_guests(plan.run(replicate))
        guests = sorted((request.number, spec.nested is not None) for request, spec in asked)
        assert sum(nested for _, nested in guests) == 40
        long = [nested for number, nested in guests if number % 2 == 0]
        found += [sum(long[hour - 22 : hour + 1]) for hour in range(22, 40)]
        every_second += all(a != b for a, b in pairwise(long))
    assert {11, 12} <= set(found) <= set(range(9, 15))  # of 23 that live at a time
    assert not every_second


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fleet": {"tick": "0 ns"}}, "set fleet.tick"),
        ({"clock": {"mode": "timed"}}, "leave fleet.tick out"),
        ({"fleet": {"outage": {"a": {"host": 3, "count": 2, "at": "1 h"}}}}, "[fleet.outage.a] has hosts up to 4"),
        ({"fleet": {"outage": {"a": {"at": "2 h", "grace": "1 h", "back": "3 h"}}}}, "back is not after at and grace"),
        ({"fleet": {"guest": {"idle": {"memory": "2 MiB"}}}}, "[fleet.guest.idle] has no guests"),
        ({"fleet": {"guest": {"web": {"arrivals": {"lifetime": "pareto", "shape": 1.0}}}}}, "only one above 1"),
        ({"fleet": {"guest": {"web": {"arrivals": {"per_hour": 4.5e4}}}}}, "1,000,000 are"),
        ({"fleet": {"guest": {"web": {"arrivals": {"mean_lifetime": "0 ns"}}}}}, "mean_lifetime is 0"),
        ({"fleet": {"arrivals": "gone.csv"}}, "no file 'gone.csv'"),
        ({"fleet": {"arrivals": "builtin:sqlite"}}, "unknown column"),
        ({"fleet": {"arrivals": "x" * 300}}, "File name too long"),
        (
            {"fleet": {"outage": {"a": {"at": "10:00"}}}},
            """fleet.outage.a.at: '10:00' is not a time: write for example "10 h", """,
        ),
        ({"fleet": {"outage": {"a": {"host": 0}}}}, "fleet.outage.a.at is missing: set it in [fleet.outage.a]"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        read_study(merge(STUDY, change))
    assert "\n" not in str(caught.value)


def test_a_table_in_another_encoding_is_said_in_one_line(tmp_path: Path) -> None:
    for row, said in (
        ("web,08:00,,x", "line 2: start_s is '08:00'"),
        ("wäb,8,,x", "no table of guests"),
        ("web,8,,ä", "no table of guests"),
    ):
        (tmp_path / "guests.csv").write_text(f"class,start_s,end_s,name\n{row}\nweb,1,,Süd\n", "latin-1")
        with pytest.raises(UserError, match=said) as caught:
            read_study(merge(STUDY, {"fleet": {"arrivals": "guests.csv"}}), tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class,start_s\nweb,1\n", "has no column 'end_s'"),
        ("class,start_s,end_s,sort\nweb,1,,x\n", "unknown column 'sort'"),
        ("class,start_s,end_s,end_s\nweb,1,,2\n", "has the column 'end_s' twice"),
        ("class,start_s,end_s,priority\nweb,1,,2147483648\n", "priority is 2147483648: from 0 to 2,147,483,647"),
        ("class,start_s,end_s\n", "has 0 guests"),
        ("class,start_s,end_s\nweb,1,1\n", "guest 1 of 1, line 2: it ends at end_s 1, which isn't after its start_s 1"),
        ("class,start_s,end_s\nweb,1,\nweb,nan,\n", "guest 2 of 2, line 3: start_s is nan, not a time"),
        ("class,start_s,end_s\nweb,1,NULL\nweb,1,NaN\n", "guest 2 of 2, line 3: end_s is nan, not a time of less than"),
        ("class,start_s,end_s\nweb,1,-nan\n", "guest 1 of 1, line 2: end_s is nan, not a time of less than"),
        (
            "class,start_s,end_s\nweb,2026-01-01 08:00:00,\n",
            "line 2: start_s is '2026-01-01 08:00:00', not a number of sec",
        ),
        ("class,start_s,end_s\nweb,08:00,\n", "line 2: start_s is '08:00', not a number of seconds since the start"),
        ("class,start_s,end_s\nweb,,\n", "guest 1 of 1, line 2: start_s is missing, not a time"),
        ("class,start_s,end_s,vcpus\n\nweb,1,,1\nweb,1,,1.5\n", "line 4: vcpus is '1.5', not a whole number"),
        ("class,start_s,end_s,vcpus\nweb,1,,1\n\n\nweb,1,,0\n", "guest 2 of 2, line 5: vcpus is 0: from 1 to"),
        ("\nclass,start_s,end_s\nweb,0,08:00\n", "line 3: end_s is '08:00', not a number of seconds"),
        ("\ufeffstart_s,class,end_s\n08:00,web,09:00\n", "line 2: start_s is '08:00', not a number of seconds"),
        ("class,start_s,end_s," + "x" * 140_000 + "\nweb,08:00,,\n", "no table of guests in Parquet or CSV: In CSV"),
        ("class;start_s;end_s\nweb;1;\n", "separate them by commas"),
        ("class,start_s,end_s\nweb front,1,\n", "guest 1 of 1, line 2: class 'web front' can't name a table"),
        ("class,start_s,end_s,memory_mib\nweb,1,,3\n", "memory_mib is 3, not a multiple of 2 from 2 to 4,194,302"),
        ("class,start_s,end_s,vcpus\nweb,1,,0\n", "vcpus is 0: from 1 to"),
        ("class,start_s,end_s,priority\nweb,1,,-1\n", "priority is -1: from 0 to"),
        (
            "class,start_s,end_s\nweb,1,\nwob,1,\n",
            "guests of the class 'wob': did you mean 'web'? Or add [fleet.guest.wob]",
        ),
        ("class,start_s,end_s\nzzz,1,\n", "the class 'zzz': there are 'web', 'db'; or add [fleet.guest.zzz]"),
    ],
)
def test_a_table_that_is_wrong_is_said_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "guests.csv").write_text(text)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        read_study(merge(STUDY, {"fleet": {"arrivals": "guests.csv"}}), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "of_class", "said"),
    [
        (
            "web,1,,2",
            {"memory_min": "4 MiB"},
            "guest 2 of 2, line 3, of fleet.guest.web with 2 MiB: memory_min 4 MiB is more",
        ),
        ("web,1,,4194302", {}, "accesses in a tick; at most"),
        ("web,1,,2", {"workload": {"kind": "trace", "file": "builtin:numpy"}}, "distinct pages, a guest 512"),
    ],
)
def test_a_row_has_to_be_a_guest_that_its_class_allows(
    row: str, of_class: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "guests.csv").write_text(f"class,start_s,end_s,memory_mib\nweb,1,,\n{row}\n")
    classes = {"web": {"memory": "64 MiB", **of_class}, "db": {"count": 1}}
    study = {**STUDY, "fleet": {**STUDY["fleet"], "arrivals": "guests.csv", "guest": classes}}
    if "file" not in str(of_class):
        study = {**study, "reclaim": {"mode": "host"}, "guest": {"memory": "2 MiB"}}
    with pytest.raises(UserError, match=re.escape(said)):
        read_study(study, tmp_path)


def test_who_lives_where_is_not_taken_from_a_plan_without_its_files(tmp_path: Path) -> None:
    (tmp_path / "guests.csv").write_text("class,start_s,end_s\nweb,1,\nweb,2,\nweb,3,7000\n")
    plan = read_study(merge(STUDY, {"fleet": {"arrivals": "guests.csv"}, "replicates": 6}), tmp_path)
    wanted = [all_lives(plan.run(number)) for number in range(6)]  # more than are remembered
    for number, lives in enumerate(wanted):
        assert all_lives(plan.without_files().run(number)) != lives
        assert all_lives(plan.run(number)) == lives


def test_who_is_nested_is_not_taken_from_a_plan_without_its_files(tmp_path: Path) -> None:
    (tmp_path / "guests.csv").write_text("class,start_s,end_s\n" + "web,1,\n" * 8)
    fleet = {**STUDY["fleet"], "arrivals": "guests.csv", "guest": {"web": {"memory": "4 MiB"}}}
    plan = read_study({**STUDY, "nested_ratio": 0.5, "fleet": fleet}, tmp_path)
    run, warm_up = plan.run(0), plan.without_files().run(0)
    build_hosts(warm_up)
    guests = [guest for host in build_hosts(run) for guest in host.guests]
    assert sum(guest.nested is not None for guest in guests) == len(guests) / 2 == 4


def test_a_table_of_a_fleet_that_is_wrong_is_told_by_its_own_line(tmp_path: Path) -> None:
    text = """\
ticks = 2
fleet.tick = "1 h"
[fleet.host.node]
count = 2
[fleet.guest.web]
count = 1
[fleet.outage.power]
host = 2
at = "1 h"
[guest]
memory = "2 MiB"
accesses_per_page = 1.0
[grid]
policy = ["evict-only"]
"""
    for wrong, said in ((text, ":7: [fleet.outage.power] has hosts up to 2"),
                        (text.replace("[fleet.guest.web]\ncount = 1", "[fleet.guest.web]\ncount = 0"),
                         ":5: [fleet.guest.web] has no guests")):  # fmt: skip
        (tmp_path / "study.toml").write_text(wrong)
        with pytest.raises(UserError, match=re.escape(said)):
            read_study(tmp_path / "study.toml")


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ([0.0], [math.nan], "guest 1 of 1: end_s is nan, not a time of less than 1e+09 s"),
        ([math.nan], [9.0], "guest 1 of 1: start_s is nan, not a time of less than 1e+09 s"),
        (pa.array([0], pa.timestamp("s")), [9.0],
         "start_s is of the type timestamp[ms], not a number of seconds since the start of the run"),
    ],
)  # fmt: skip
def test_times_of_parquet_that_are_no_numbers_are_said(start: Any, end: Any, said: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"class": ["web"], "start_s": start, "end_s": end}), tmp_path / "guests.parquet")
    with pytest.raises(UserError, match=re.escape(said)):
        read_study(merge(STUDY, {"fleet": {"arrivals": "guests.parquet"}}), tmp_path)


def test_a_table_none_of_whose_guests_live_in_the_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "guests.csv").write_text("class,start_s,end_s\nweb,-9,-1\nweb,86401,\n")
    guests = {"arrivals": "guests.csv", "guest": {"web": {"memory": "4 MiB"}}}
    with pytest.raises(UserError, match=r"all rows of guests\.csv are before or after the run, of 1 d"):
        read_study({**STUDY, "fleet": {**STUDY["fleet"], **guests}}, tmp_path)


@pytest.mark.parametrize(
    ("days", "ticks", "memory", "warned"), [(7, 672, 64, False), (0.5, 48, 16, True), (0.001, 1, 64, False)]
)
def test_classes_with_a_table_are_a_study_as_long_as_it(
    days: float, ticks: int, memory: int, warned: bool, tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    write_week(tmp_path / "trace.sqlite", 60)
    said = coldfleet("fleet", tmp_path / "trace.sqlite", "--at", 0, "--days", days, "--memory", f"{memory} MiB",
                     "--arrivals", tmp_path / "week.parquet")  # fmt: skip
    small = [name for name, each in tomllib.loads(said.out)["fleet"]["guest"].items() if each["memory"] == "2 MiB"]
    told = f"coldfleet: {', '.join(small)}: guests of less than 4 MiB, of which kernel memory is "
    assert said.err.startswith(told) if warned else not said.err
    assert bool(small) == warned
    rest = '[guest]\nmemory = "8 MiB"\naccesses_per_page = 0.5\n[reclaim]\nmode = "host"\n'
    (tmp_path / "week.toml").write_text(f'policy = "evict-only"\n{said.out}\n{rest}')
    spec = read_study(tmp_path / "week.toml").cell(0).spec
    assert (spec.ticks, spec.fleet.tick) == (ticks, 15 * 60 * 10**9)


def test_what_no_run_sees_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["class,start_s,end_s,memory_mib", "web,1,,", "web,86401,,", "web,-9,-1,", "web,7,,96", "web,8,,64"]
    (tmp_path / "guests.csv").write_text("\n".join(rows) + "\n")
    late = {"arrivals": "guests.csv", "outage": {"a": {"at": "30 h"}, "b": {"at": "3 h", "back": "4 h"}}}
    read_study(merge(STUDY, {"fleet": late}), tmp_path)
    assert capsys.readouterr().err.splitlines() == [
        "coldfleet: study:fleet.arrivals: 2 of 5 guests of guests.csv start after the end of the run of 1 d or end "
        "before it: they are left out",
        "coldfleet: study:fleet.guest.web: 2 guests of this class (96 MiB, 2 vCPUs) can't live on any host, not even "
        "on an empty one: they are refused",
        "coldfleet: study:fleet.outage.a.at: this outage begins at 30 h, after the end of the run of 1 d",
    ]


def test_a_file_is_called_as_the_study_calls_it(tmp_path: Path) -> None:
    (tmp_path / "guests.csv").write_text("class,start_s,end_s\nweb,1,1\n")
    uri = (tmp_path / "guests.csv").as_uri()
    with pytest.raises(UserError, match=re.escape(f"fleet.arrivals: {uri}: guest 1 of 1")):
        read_study(merge(STUDY, {"fleet": {"arrivals": uri}}))


def test_it_says_why_nobody_has_a_place() -> None:
    guests = {"web": {"memory": "64 MiB", "arrivals": {"per_hour": 1.0}}}
    study = {**STUDY, "fleet": {**STUDY["fleet"], "guest": guests}, "replicates": 1}
    with pytest.raises(UserError, match="guests refused, as no host had enough memory left"):
        read_study(study)


def test_guests_that_come_one_after_the_other_have_all_their_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldfleet.cluster.study.lives.MAX_HOST_PAGES", 16_384)
    with pytest.raises(UserError, match="guests that live on host 0 in the course of a run have 32,768"):
        read_study(STUDY)


def test_a_packed_table_is_refused_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "guests.csv.gz").write_bytes(gzip.compress(b"class,start_s,end_s\nweb,1,\n"))
    with pytest.raises(UserError, match="no table of guests in Parquet or CSV"):
        read_guests(tmp_path / "guests.csv.gz", "")


def test_a_table_replaces_no_file(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        write_guests(tmp_path / "there", [("web", 0.0, None, 0, "")])
    assert (tmp_path / "there").read_text() == "precious"


def test_a_table_says_of_each_guest_what_its_class_does_not(tmp_path: Path) -> None:
    rows = ["class,start_s,end_s,memory_mib,vcpus,priority,name", "web,-60,7200,,,,", "web,1800,,8,4,2,vm-17"]
    rows += ["web,1801,1802,2,,,"]
    (tmp_path / "guests.csv").write_text("\n".join(rows) + "\n")
    fleet = {"arrivals": "guests.csv", "guest": {"web": {"arrivals": {"per_hour": 0.0}}, "db": {"count": 1}}}
    study = merge({**STUDY, "guest": {"memory": "2 MiB", "accesses_per_page": 2.0}}, {"fleet": fleet})
    plan = read_study(study, tmp_path)
    guests = {guest.name: guest for host in build_hosts(plan.run(0)) for guest in host.guests}
    assert {name: (guest.arrives, guest.leaves) for name, guest in guests.items()} == {
        "web-0": (0, 4), "web-1": (1, 0), "db-0": (0, 0)
    }  # fmt: skip
    assert (guests["web-1"].memory_pages, guests["web-1"].vcpus, guests["web-1"].accesses_per_tick) == (2048, 4, 4096)
    assert (guests["web-0"].memory_pages, guests["web-0"].vcpus, guests["web-0"].accesses_per_tick) == (1024, 2, 2048)
    lives = [row for row in rows_over_time(plan.run(0), lambda name: [])["lives"] if row["guest_class"] == "web"]
    assert [row["own_name"] for row in lives] == ["", "vm-17", ""]
    last = all_lives(plan.run(0))[-1]
    assert (last.name, last.is_simulated, last.request.priority) == ("web-2", False, 0)


@pytest.mark.parametrize(("kind", "own", "path"), [
    (kind, own, path) for kind, keys in INHERITED.items() for own, path in keys.items()
])  # fmt: skip
def test_a_class_follows_the_study_where_it_says_nothing(kind: str, own: str, path: str) -> None:
    values: dict[str, str | float] = {"kernel": "6.18", "memory": "48 MiB", "cpus": 6, "nested_ratio": 0.5}
    value = values[own]
    section, _, key = path.rpartition(".")
    classes = {"host": {"node": {"count": 4}}, "guest": {"db": {"memory": "8 MiB", "count": 3}}}
    study = {
        **STUDY,
        "fleet": {"tick": "30 min", "outage": {"a": {"at": "1 h"}}, **classes},
        "host": {"memory": "32 MiB"},
    }
    spec = read_study(merge(study, {section: {key: value}} if section else {key: value})).cell(0).spec
    (one,) = (spec.fleet.host if kind == "host" else spec.fleet.guest).values()
    assert getattr(one, own) == as_amount(path, value) != type(one).model_fields[own].default
