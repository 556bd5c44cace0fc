"""Studies on a clock and at sampled scale: their keys, and what the tables say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.results.metrics import find_metric
from coldfleet.cluster.results.schemas import schema
from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.counters.timing import CAUSES
from coldfleet.hostsim.spec.damon_spec import DamonSpec, PageoutSpec
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostSpec

TIMED = '[clock]\nmode = "timed"\ntick = "20 ms"\naccess = "500 ns"\nvcpus = 2\n'


def study(study_file: Path, tables: str) -> Path:
    study_file.write_text(study_file.read_text().replace("[grid]", f"{tables}\n[grid]"))
    return study_file


def test_the_tables_of_a_timed_study_account_for_all_time(study_file: Path) -> None:
    rows = simulate_run(read_study(study(study_file, TIMED)).run(0))
    cell = rows["cells"][0]
    vcpus = 2 * cell["fleet_hosts"] * cell["fleet_guests_per_host"]
    assert sum(cell[name] for name, _ in CAUSES.values()) == cell["ticks"] * 20_000_000 * vcpus
    assert 0 < find_metric("throughput").value(cell) < 1
    assert cell["latency_p99_ns"] >= cell["latency_p50_ns"] > 0
    assert sum(row["run_ns"] for row in rows["guests"]) == cell["run_ns"]


def test_without_a_clock_all_times_are_0(study_file: Path) -> None:
    cell = simulate_run(read_study(study_file).run(0))["cells"][0]
    assert all(cell[name] == 0 for name, _ in CAUSES.values())
    assert cell["latency_p50_ns"] == cell["psi_some_avg10"] == cell["pgmajfault_ci95"] == 0


def test_a_sampled_study_has_intervals(study_file: Path) -> None:
    study_file.write_text(study_file.read_text().replace('"4 MiB"', '"64 MiB"'))
    cell = simulate_run(read_study(study(study_file, '[host]\nsample = "1/4"\n')).run(0))["cells"][0]
    guests = cell["fleet_hosts"] * cell["fleet_guests_per_host"]
    assert cell["accesses"] == pytest.approx(guests * (16384 + cell["ticks"] * 2048), rel=1e-3)
    assert cell["pswpout_ci95"] > 0


def test_a_study_of_hosts_that_are_short_of_memory_wakes_kswapd(study_file: Path) -> None:
    text = study_file.read_text().replace('mode = "limit"', 'mode = "host"')
    study_file.write_text(text)
    short = simulate_run(read_study(study_file).run(0))["cells"][0]
    assert short["kswapd_runs"] > 0
    assert short["limit_hits"] == short["allocstall"] == 0
    study_file.write_text(text.replace("[grid]", '[host]\nmemory = "64 MiB"\n[grid]'))
    assert simulate_run(read_study(study_file).run(0))["cells"][0]["kswapd_runs"] == 0


@pytest.mark.parametrize("tables", [TIMED, '[host]\nmemory = "40 MiB"\n', '[host]\nsample = "1/4"\n'])
def test_epochs_are_how_the_host_stood_after_each_tick(study_file: Path, tables: str) -> None:
    study_file.write_text(study_file.read_text().replace('memory = "4 MiB"', 'memory = "16 MiB"'))
    run = read_study(study(study_file, f'[output]\nepochs = "on"\n{tables}')).run(0)
    rows = simulate_run(run)
    ticks = run.cell.spec.ticks
    assert [(row["host"], row["tick"]) for row in rows["epochs"]] == [
        (row["host"], tick) for row in rows["hosts"] for tick in range(1, ticks + 1)
    ]
    for host in rows["hosts"]:
        own = [row for row in rows["epochs"] if row["host"] == host["host"]]
        assert all(own[-1][name] == host[name] for name in schema("epochs").names if name in host)
        for name in ("accesses", "pgfault", "pswpout", "run_ns"):
            assert [row[name] for row in own] == sorted(row[name] for row in own)
        assert all((row["free_pages"] > 0) == ("memory" in tables) for row in own)


def test_epochs_are_a_table_of_the_results(study_file: Path, tmp_path: Path) -> None:
    plan = read_study(study(study_file, '[output]\nepochs = "on"\n'))
    results = sweep(plan, tmp_path / "out", SerialExecutor())
    assert results.table("epochs").num_rows == len(plan) * 2 * 4
    without = sweep(replace(plan, base={**plan.base, "output.epochs": "off"}), tmp_path / "off", SerialExecutor())
    assert without.table("epochs").num_rows == 0


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0.3, 0.4), (1.0, 1.0, 1.0)])
def test_what_zram_can_not_compress_saves_no_memory(study_file: Path, share: float, least: float, most: float) -> None:
    swap = f"[swap]\nincompressible_share = {share}\n"
    cell = simulate_run(read_study(study(study_file, TIMED + swap)).run(0))["cells"][0]
    swapped = cell["pool_page_ms"] + cell["reclaimed_page_ms"]
    assert swapped > 0
    assert least <= cell["pool_page_ms"] / swapped <= most


def test_a_monitor_s_intervals_are_whole_ticks_of_the_clock(study_file: Path) -> None:
    monitor = '[monitor]\nsample_interval = "60 ms"\naggregation_interval = "300 ms"\n'
    (host,) = {(each.monitor_every_ticks, each.damon) for each in _specs(study(study_file, TIMED + monitor))}
    assert host == (3, DamonSpec(samples_per_aggregation=5))


def test_the_scheme_of_a_study_is_damon_reclaim_s_unless_it_says_otherwise(study_file: Path) -> None:
    tables = '[monitor]\nkind = "damon-paddr"\naction = "pageout"\nscheme.quota = "4 MiB"\nscheme.min_age = 6\n'
    (damon,) = {each.damon for each in _specs(study(study_file, tables))}
    assert damon == DamonSpec(pageout=PageoutSpec(quota=1024, min_age=6))
    cell = simulate_run(read_study(study_file).run(0))["cells"][0]
    assert cell["monitor_scheme_quota_pages"] == 1024


def _specs(path: Path) -> list[HostSpec]:
    return build_hosts(read_study(path).run(0))


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ('[clock]\nmode = "timid"\n', "it should be 'replay' or 'timed'"),
        ('[clock]\ntick = "0 ms"\n', "greater than or equal to 1"),
        ("[clock]\ntick = 5\n", 'clock.tick: 5 has no unit: write "5 ms" or "5 ns"'),
        ('[clock]\ntick = "5 MiB"\n', "unknown unit 'MiB'"),
        ("[clock]\ntick_ms = 5\n", 'did you mean "tick"?'),
        ("[clock]\naccess_ns = 5\n", 'did you mean "access"?'),
        ('[host]\nsample = "16"\n', 'write "1/16"'),
        ('[host]\nsample = "1/4"\n[monitor]\nkind = "idle"\n', "knows no scenario, monitor or device_share"),
        ('[monitor]\nsample_interval = "5 ms"\n', 'are times: set clock.mode = "timed", or count with every_ticks'),
        (f'{TIMED}[monitor]\nsample_interval = "15 ms"\n', "15 ms is no multiple of clock.tick, 20 ms: change one"),
        (
            f'{TIMED}[monitor]\nsample_interval = "40 ms"\naggregation_interval = "60 ms"\n',
            "monitor.aggregation_interval 60 ms is no multiple of a sampling interval, 40 ms",
        ),
        ("[monitor]\nmin_nr_regions = 2\n", "monitor.min_nr_regions = 2: it should be greater than or equal to 3"),
        ("[monitor]\nmin_nr_regions = 1001\n", "monitor: min_nr_regions 1001 is more than max_nr_regions 1000"),
        ("[monitor.scheme]\nmax_age = 7\n", "monitor.scheme: min_age 1200 is more than max_age 7"),
        ('[monitor]\naction = "page_out"\n', "it should be 'none' or 'pageout'"),
    ],
)
def test_a_mistake_is_one_line(study_file: Path, tables: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        read_study(study(study_file, tables))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reclaim_by_pressure_needs_a_clock(study_file: Path) -> None:
    study_file.write_text(study_file.read_text().replace('mode = "limit"', 'mode = "pressure"'))
    with pytest.raises(UserError, match=r'set clock\.mode = "timed"'):
        read_study(study_file)
