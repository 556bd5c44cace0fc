"""Capacity: the true border lies where the answer says, and what can't be answered is said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldfleet.cluster.answers.capacity import LOOKS, Capacity, Probe, SloStatus, find_capacities, most_judged
from coldfleet.cluster.answers.slo import parse_slo
from coldfleet.hostsim.spec.errors import UserError
from tests.cluster.conftest import STUDY, Said

Excess = Callable[[float], float]
Command = Callable[..., Said]
ONE = ("--at", "nested_ratio=0")
SERIAL = ("--executor", "serial")
LOADS = np.round(np.arange(1, 4.01, 0.05), 2)


class SyntheticHost:
    """A host that breaks its SLO beyond a known load: the excess rises through 0 there, with noise."""

    def __init__(
        self, threshold: float, noise: float, seed: int, excess: Callable[[float], float] | None = None
    ) -> None:
        self.excess = excess or (lambda load: load - threshold)
        self.noise = noise
        self.seed = seed
        self.runs = 0

    def __call__(self, wanted: Mapping[Probe, range]) -> dict[Probe, list[Sequence[float]]]:
        self.runs += sum(map(len, wanted.values()))
        return {probe: [self.replicate(probe.level, r) for r in some] for probe, some in wanted.items()}

    def replicate(self, level: int, replicate: int) -> list[float]:
        """Two SLOs, of which the second is never in danger. A replicate is the same whenever it is asked for."""
        shared = np.random.default_rng((self.seed, replicate)).normal()  # one luck for all loads, as of real runs
        own = np.random.default_rng((self.seed, replicate, level)).normal()
        return [self.excess(float(LOADS[level])) + self.noise * (0.8 * shared + 0.6 * own), -1.0]


def find(host: SyntheticHost, budget: int = 10**9) -> Capacity:
    found = find_capacities(["a policy"], len(LOADS), host, confidence=95, runs_left=lambda: budget - host.runs)
    return found["a policy"]


def hits(trials: int, noise: float) -> float:
    """How often the known threshold lies in the answer's interval."""
    rng = np.random.default_rng(5)
    inside = 0
    widths = []
    for trial in range(trials):
        threshold = float(rng.uniform(1.5, 3.5))
        found = find(SyntheticHost(threshold, noise, trial))
        assert len(found.statuses) <= most_judged(len(LOADS))
        low = -np.inf if found.best is None else LOADS[found.best]
        high = np.inf if found.broken is None else LOADS[found.broken]
        widths.append(high - low)
        inside += low <= threshold <= high
    assert np.median(widths) <= 0.05 + 1.5 * noise + 1e-9, "not by saying nothing"
    return inside / trials


@pytest.mark.parametrize("noise", [0.01, 0.2])
def test_the_known_border_is_in_the_interval(noise: float) -> None:
    assert hits(20, noise) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.01, 0.05, 0.2, 0.5])
def test_the_known_border_is_in_the_interval_as_often_as_it_says(noise: float) -> None:
    assert hits(100, noise) >= 0.95


def test_little_noise_makes_a_narrow_answer_with_few_runs() -> None:
    host = SyntheticHost(2.33, 0.001, 1)
    found = find(host)
    assert [LOADS[index or 0] for index in (found.best, found.broken)] == [2.3, 2.35]
    assert host.runs <= most_judged(len(LOADS)) * LOOKS[0]


def test_a_level_near_the_border_gets_more_replicates() -> None:
    near = SyntheticHost(2.33, 0.3, 1)
    found = find(near)
    assert near.runs > len(found.statuses) * LOOKS[0]
    assert SloStatus.OPEN in found.statuses.values()


def test_an_unreachable_and_an_always_met_slo_are_told() -> None:
    never, always = find(SyntheticHost(0.5, 0.01, 1)), find(SyntheticHost(4.5, 0.01, 1))
    assert (never.unreachable, never.best, never.broken) == (True, None, 0)
    assert (always.always_met, always.best, always.broken) == (True, len(LOADS) - 1, None)
    assert not never.always_met
    assert not always.unreachable


def test_load_that_helps_is_noticed() -> None:
    found = find(SyntheticHost(0, 0.01, 1, lambda load: 1 - abs(load - 2.61)))  # broken from 1.61 to 3.61
    assert [LOADS[index or 0] for index in (found.best, found.broken)] == [1.6, 1.65]
    assert found.met_above is not None
    assert LOADS[found.met_above] == 4
    assert find(SyntheticHost(2, 0.01, 1)).met_above is None


def test_what_the_budget_doesn_t_pay_for_stays_open() -> None:
    poor = find(SyntheticHost(2.33, 0.01, 1), budget=27)
    assert set(poor.statuses.values()) == {SloStatus.MEETS, SloStatus.FAILS, SloStatus.OPEN}
    assert LOADS[poor.best] <= 2.33 <= LOADS[poor.broken]
    nothing = find(SyntheticHost(2.33, 0.01, 1), budget=3)
    assert set(nothing.statuses.values()) == {SloStatus.OPEN}
    assert (nothing.best, nothing.broken, nothing.always_met, nothing.unreachable) == (None, None, False, False)


def test_searches_go_side_by_side() -> None:
    rounds: list[set[object]] = []
    host = SyntheticHost(2.33, 0.001, 1)

    def evaluate(wanted: Mapping[Probe, range]) -> dict[Probe, list[Sequence[float]]]:
        rounds.append({probe.who for probe in wanted})
        return host(wanted)

    found = find_capacities(["a", "b"], len(LOADS), evaluate, confidence=95, runs_left=lambda: None)
    assert found["a"] == found["b"]
    assert all(who == {"a", "b"} for who in rounds)


FAULTS = [{"pgmajfault": n, "refaults": n, "resident_page_ticks": 100, "pgsteal": 0} for n in range(1, 101)]
GUESTS = [{**faults, "nested": False, "guest": n} for n, faults in enumerate(FAULTS, 1)]


@pytest.mark.parametrize(
    ("text", "value", "bound", "met"),
    [
        ("pgmajfault<100", 100, 100, True),  # the worst guest is on the bound
        ("pgmajfault < 99", 100, 99, False),
        ("pgmajfault_p98<98", 98, 98, True),
        ("pgmajfault_mean<50", 50.5, 50, False),
        ("pgmajfault>=1", 1, 1, True),  # the worst guest is the one with the least
        ("pgmajfault_p90>11", 11, 11, True),
        ("promotion_rate<50%/tick", 1.0, 0.5, False),
        ("pgmajfault / resident_page_ticks <= 1e2%", 1.0, 1.0, True),
        ("refaults_p50<60 pages", 50, 60, True),
    ],
)
def test_an_slo_bounds_the_guests(text: str, value: float, bound: float, met: bool) -> None:
    slo = parse_slo(text)
    assert slo.value(GUESTS) == pytest.approx(value)
    assert slo.bound == pytest.approx(bound)
    assert (slo.excess(GUESTS) <= 0) is met


def test_times_have_units() -> None:
    assert parse_slo("reclaim_cpu_ns<2.5ms").bound == 2.5e6
    assert parse_slo("reclaim_cpu_ns_p99 < 3 s").show(3e9) == "3s"
    assert parse_slo("promotion_rate<1%/tick").show(0.0123) == "1.23%/tick"
    every_half_second = parse_slo("promotion_rate<0.2%/min", 0.5)
    assert every_half_second.bound == pytest.approx(0.002 / 120)
    assert every_half_second.show(0.004 / 120) == "0.4%/min"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("promotion_rat<1%/tick", "unknown metric 'promotion_rat': did you mean 'promotion_rate'"),
        ("pgmajfalt_p99<1", "unknown metric 'pgmajfalt': did you mean 'pgmajfault'"),
        ("pgmajfault", "slo 'pgmajfault': write METRIC<BOUND"),
        ("pgmajfault<", "write METRIC<BOUND"),
        ("pgmajfault=5", "write METRIC<BOUND"),
        ("pgmajfault<5%", "pgmajfault is a number of faults"),
        ("promotion_rate<1%", "promotion_rate is a share, such as 0.2%/min or 0.2%/tick"),
        ("promotion_rate<1%/min", "no clock says how long a tick is: write /tick, or add --at clock.mode=timed"),
        ("fault_rate<1%/tick", "fault_rate is a share, such as 0.2%"),
        ("reclaim_cpu_ns<5", "reclaim_cpu_ns is a time, such as 5ms"),
    ],
)
def test_a_bad_slo_is_told(text: str, why: str) -> None:
    with pytest.raises(UserError) as error:
        parse_slo(text)
    assert why in str(error.value)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "pressed.toml"
    path.write_text(STUDY.replace("ticks = 4", "ticks = 12").replace("hosts = 2", "hosts = 1"))
    return path


def test_capacity_in_json_and_in_words(study: Path, tmp_path: Path, coldfleet: Command) -> None:
    ask: tuple[object, ...] = ("capacity", study, "--at", "nested_ratio=1", "--slo", "fault_rate_mean<18%", *SERIAL)
    ask = (
        *ask,
        "--from",
        "1.6",
        "--to",
        "2.2",
        "--step",
        "0.05",
        "--at",
        "policy=lockless-6.15",
        "--hosts",
        "1000",
        "--confidence",
        "90",
        "--out",
        tmp_path / "runs",
    )
    found = json.loads(coldfleet(*ask, "--json").out)
    best, base = found["policies"]
    assert [best["policy"], base["policy"]] == ["lockless-6.15", "evict-only"], "evict-only is what it is held against"
    low, high = best["interval"]
    assert best["capacity"] == low < high
    assert best["capacity"] > base["capacity"]
    assert best["judged"][f"{low:g}"] == "meets"
    assert best["judged"][f"{high:g}"] == "fails"
    for each in (best, base):
        promised, used, saved = (each[f"dram_{what}pages"] for what in ("", "used_", "saved_"))
        assert promised > 1000 * 2 * 1024, "with kernel memory"
        assert saved == pytest.approx(promised - used)
        assert 0 < saved < promised * (1 - 1 / each["capacity"]), "the pool takes some"
        assert each["dram_saved_interval"][0] < saved < each["dram_saved_interval"][1]
        assert each["dram_saved_share"] == pytest.approx(saved / promised)
        assert each["dram_saved_share_interval"][0] < each["dram_saved_share"] < each["dram_saved_share_interval"][1]
        assert each["hosts_uncut_interval"][0] < each["hosts_uncut"] < each["hosts_uncut_interval"][1] < each["hosts"]
        assert (each["guests_per_host"], each["hosts_of_one_guest"]) == (2, 500)
        assert each["checked"] is True
        assert each["check_free_pages"] > 0
    assert found["fleet_hosts"] == best["hosts_without_overcommit"] == 1000
    assert best["hosts"] == 1000, "no third guest fits on a host"
    assert best["hosts_binding"] == "fragmentation"
    assert found["best"] == ["lockless-6.15", "evict-only"]
    assert best["binding"]["slo"] == "fault_rate_mean<18%"
    assert best["binding"]["value"] > 0.18
    assert best["binding"]["nested"] is True
    said = coldfleet(*ask)
    assert max(map(len, said.out.splitlines())) <= 100
    text = " ".join(said.out.split())
    assert f"every SLO is met up to overcommit {low:g}; at {high:g} fault_rate_mean<18% is broken" in text
    assert "(nested)" in said.out
    assert f"{found['recommendation']}." in text
    assert found["recommendation"].startswith("lockless-6.15 and evict-only need the same number of hosts, 1,000; ")
    assert f" GiB, {100 * best['dram_saved_share']:.1f}" in text


def test_what_is_not_known_is_a_dash(study: Path, coldfleet: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ("capacity", study, *ONE, "--at", "policy=evict-only", *SERIAL)
    (row,) = re.findall(r"(?m)^evict-only .*", coldfleet(*ask, "--slo", "fault_rate<0.01%").out.partition(":")[0])
    assert row.split()[1:7] == ["-", "?", "to", "1", "-", "-"], "it is out of reach"

    def nothing(who: Iterable[str], levels: int, *_: object, **__: object) -> dict[str, Capacity]:
        return {each: Capacity(levels, {}) for each in who}

    monkeypatch.setattr("coldfleet.cluster.answers.study_capacity.find_capacities", nothing)
    said = coldfleet(*ask, "--slo", "fault_rate<18%")
    (row,) = re.findall(r"(?m)^evict-only .*", said.out.partition(":")[0])
    assert row.split()[1:] == ["-", "-", "-", "-", "-"]
    assert "nothing is certain" in said.out


def test_density_can_be_the_load(study: Path, coldfleet: Command) -> None:
    ask = (
        "capacity",
        study,
        "--at",
        "nested_ratio=0",
        "--vary",
        "guests_per_host",
        "--from",
        "1",
        "--to",
        "3",
        *SERIAL,
    )
    data = json.loads(coldfleet(*ask, "--slo", "fault_rate<99%", "--json").out)
    assert all(each["always_met"] and each["hosts"] == 1 for each in data["policies"])  # 2 guests fit where 3 do
    assert all(each["hosts_binding"] == "one host" for each in data["policies"])
    said = coldfleet(*ask, "--slo", "fault_rate<0.01%").out
    assert "out of reach: even at fleet.guests_per_host 1 fault_rate<0.01% is broken" in " ".join(said.split())


def test_the_slos_of_a_clock_can_be_asked_for(study: Path, coldfleet: Command) -> None:
    ask = ["capacity", study, *ONE, "--at", "ticks=3", "--at", "clock.mode=timed", "--at", "policy=lockless-6.15"]
    ask += ["--from", "1", "--to", "2", "--step", "0.1", "--json", *SERIAL]
    ticks, minutes, both = (
        json.loads(coldfleet(*ask, *slos).out)["policies"]
        for slos in (
            ("--slo", "promotion_rate<20%/tick"),
            ("--slo", "promotion_rate<1200%/min"),  # ticks of one second
            ("--slo", "promotion_rate<0.2%/min", "--slo", "slowdown_p99<5%"),
        )
    )
    assert [each["interval"] for each in ticks] == [each["interval"] for each in minutes]
    assert ticks[0]["capacity"] > 1
    assert all(each["unreachable"] for each in both), "0.2 % a minute is next to nothing in three seconds"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--slo", "slowdwn<1%"), "unknown metric 'slowdwn': did you mean 'slowdown'"),
        (("--slo", "fault_rate<1%", "--vary", "overcomit"), "unknown key 'overcomit': did you mean 'overcommit'"),
        (("--slo", "fault_rate<1%"), "nested_ratio (0, 0.5, 1): choose one value of each, such as --at nested_ratio=0"),
        (("--slo", "fault_rate<1%", *ONE, "--vary", "ticks"), "ticks: give its range, from where to where"),
        (("--slo", "fault_rate<1%", *ONE, "--vary", "guest.memory"), "guest.memory has no range of numbers: choose"),
        (("--slo", "fault_rate<1%", *ONE, "--from", "5"), "overcommit from 5 to 4 is not a range"),
        (("--slo", "fault_rate<1%", *ONE, "--step", "9"), "step 9: it must divide"),
        (("--slo", "fault_rate<1%", *ONE, "--at", "overcommit=2"), "at overcommit=2: that is what varies here"),
        (("--slo", "fault_rate<1%", *ONE, "--at", "limit=50%"), "at limit=50%: that is what varies here"),
        (("--slo", "fault_rate<1%", *ONE, "--budget", "49"), "budget 49: the pilot takes 50 runs: give more"),
        (("--slo", "fault_rate<1%", *ONE, "--from", "0.5"), "overcommit = 0.5: it should be"),
        ((), "--slo"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(study: Path, coldfleet: Command, arguments: tuple[str, ...], why: str) -> None:
    said = coldfleet("capacity", study, *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert why in said.err


TINY = """\
seed = 3
ticks = 8
overcommit = 2.0
policy = "evict-only"
[guest]
memory = "4 MiB"
accesses_per_tick = 2048
"""
ALIKE = "[fleet]\nhosts = 1\nguests_per_host = 8\n"
CLASSES = """\
[fleet]
vcpus_per_cpu = 1
[fleet.host.h]
count = 2
memory = "32 MiB"
cpus = 8
[fleet.guest.w]
count = 16
memory = "4 MiB"
"""


@pytest.fixture
def ask(tmp_path: Path, coldfleet: Command) -> Callable[..., dict[str, Any]]:
    """The first policy's answer about a tiny study."""

    def call(more: str, *arguments: object, slo: str = "fault_rate<99%") -> dict[str, Any]:
        path = tmp_path / "tiny.toml"
        path.write_text(TINY + more)
        said = coldfleet("capacity", path, "--slo", slo, "--json", *SERIAL, *arguments)
        assert said.code == 0, said.err
        data: dict[str, Any] = json.loads(said.out)
        return {**data["policies"][0], "placement_binds": data["placement_binds"]}

    return call


FAR = ("--from", 1, "--to", 3, "--step", 2, "--hosts", 100)


def test_a_better_compression_ratio_never_saves_less_and_none_saves_nothing(ask: Callable[..., dict[str, Any]]) -> None:
    saved = [
        ask(f"{ALIKE}[swap]\n{swap}\n", *FAR)
        for swap in ("incompressible_share = 1.0", "ratio = 1.5", "ratio = 3", "ratio = 6")
    ]
    pages = [each["dram_saved_pages"] / each["dram_pages"] for each in saved]
    assert pages[0] < 0.001
    assert pages == sorted(pages)
    assert pages[3] < 1 - 1 / 3, "what stays resident is not saved"
    hosts = [each["hosts"] for each in saved]
    assert hosts[0] == 100
    assert hosts == sorted(hosts, reverse=True)
    assert all(each["checked"] for each in saved)


def test_no_host_is_saved_where_vcpus_bind_and_counts_end_where_placement_does(
    ask: Callable[..., dict[str, Any]],
) -> None:
    by_overcommit = ask(CLASSES, *FAR)
    assert (by_overcommit["hosts"], by_overcommit["hosts_binding"]) == (100, "vCPUs")
    by_count = ask(CLASSES, "--vary", "fleet.guest.w.count", "--from", 8, "--to", 32, "--step", 8)
    assert (by_count["capacity"], by_count["always_met"]) == (16, True)
    assert by_count["placement_binds"].startswith("there is no room for more than fleet.guest.w.count 16: ")
    assert by_count["sentence"].startswith(
        "every SLO is met up to fleet.guest.w.count 16, the most that there is room for"
    )


def test_a_metric_that_falls_with_the_load_is_answered_as_it_is(ask: Callable[..., dict[str, Any]]) -> None:
    answer = ask(ALIKE, "--vary", "skew", "--from", 0.2, "--to", 1.8, "--step", 0.4, slo="fault_rate<12%")
    assert answer["capacity"] is None
    assert f"every SLO is met from guest.workload.skew {answer['met_above']:g} on; at 0.2" in answer["sentence"]


def test_a_killed_guest_breaks_every_slo(ask: Callable[..., dict[str, Any]]) -> None:
    answer = ask(f'{ALIKE}[reclaim]\nmode = "host"\nswappiness = 0\n', *FAR)
    assert answer["judged"]["3"] != "meets", "without anything to evict guests are killed"
    assert answer["judged"]["1"] == "meets" or answer["capacity"] is None
