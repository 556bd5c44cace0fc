"""The plan knows every run before anything runs, and names cells by what they compute."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.cluster.results.schemas import schema
from coldfleet.cluster.results.storage import open_storage
from coldfleet.cluster.results.writing import create
from coldfleet.cluster.study.fleet import build_hosts, limit_pages, nested_guests
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study

BASE: dict[str, str | int | float] = {
    "ticks": 1,
    "overcommit": 1.5,
    "fleet.hosts": 3,
    "fleet.guests_per_host": 7,
    "guest.memory": "2 MiB",
}


def plan_with_ratios(*ratios: float, seed: int = 1) -> Plan:
    axes = {"nested_ratio": ratios, "policy": ("evict-only", "six-steps")}
    return Plan("", "", seed, 2, BASE, axes)


def test_plan_has_every_cell_times_replicate_once(plan: Plan) -> None:
    runs = list(plan.runs())
    assert len(runs) == len(plan) == 2 * 3 * 3
    assert len({(run.cell.cell_id, run.replicate) for run in runs}) == len(runs)
    assert [run.index for run in runs] == list(range(len(plan)))
    assert [run.replicate for run in runs] == [0] * 6 + [1] * 6 + [2] * 6
    assert [plan.run(run.index) for run in runs] == runs
    assert [plan.index_of(run.cell.cell_id, run.replicate) for run in runs] == [run.index for run in runs]
    assert plan.index_of(runs[0].cell.cell_id, 3) == plan.index_of("nobody", 0) == -1


def test_cell_id_changes_with_what_the_cell_computes_only(plan: Plan) -> None:
    ids = plan.cell_ids
    assert replace(plan, title="x", description="y", replicates=9, name="z").cell_ids == ids
    assert not set(replace(plan, seed=8).cell_ids) & set(ids)
    assert not set(replace(plan, base={**plan.base, "ticks": 5}).cell_ids) & set(ids)


def test_plan_survives_json_and_runs_survive_pickle(plan: Plan) -> None:
    again = Plan.thaw(json.loads(json.dumps(plan.frozen())))
    assert again == plan
    assert again.cell_ids == plan.cell_ids
    assert again.difference(plan) == ""
    run = plan.run(3)
    assert pickle.loads(pickle.dumps(run)) == run


def test_plan_file_has_parameters_as_columns_with_units(plan: Plan, tmp_path: Path) -> None:
    create(open_storage(str(tmp_path / "out")), plan)
    table = pq.read_table(tmp_path / "out" / "plan.parquet")
    assert table.schema.equals(schema("plan"), check_metadata=True)
    assert table.num_rows == len(plan)
    assert table["guest_memory_pages"].unique().to_pylist() == [1024]
    assert sorted(table["nested_ratio"].unique().to_pylist()) == [0, 0.5, 1]
    assert table.schema.field("guest_memory_pages").metadata[b"unit"] == b"pages"
    for field in table.schema:
        assert field.metadata[b"description"]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted), st.integers(0, 2**63 - 1), st.integers(0, 1))
def test_nested_guests_at_a_small_ratio_are_among_those_at_a_larger_one(
    ratios: list[float], seed: int, replicate: int
) -> None:
    plan = plan_with_ratios(*ratios, seed=seed)
    low, low_other_policy, high, _ = (nested_guests(plan.cell(n).spec, seed, replicate) for n in range(4))
    assert low <= high
    assert low == low_other_policy
    assert len(low) == int(ratios[0] * 21 + 0.5)


def test_nested_guests_differ_between_replicates_and_seeds() -> None:
    spec = plan_with_ratios(0.3).cell(0).spec
    assert len({frozenset(nested_guests(spec, seed, replicate)) for seed in (1, 2) for replicate in range(5)}) > 5


def test_hosts_are_what_the_study_says(plan: Plan) -> None:
    run = next(run for run in plan.runs() if run.cell.spec.nested_ratio == 0.5)
    hosts = build_hosts(run)
    assert [len(host.guests) for host in hosts] == [2, 2]
    guests = [guest for host in hosts for guest in host.guests]
    assert sum(guest.nested is not None for guest in guests) == 2
    assert {guest.memory_pages for guest in guests} == {1024}
    assert {guest.limit_pages for guest in guests} == {limit_pages(run.cell.spec)} == {682}
    assert len({guest.name for guest in guests}) == 4


def test_policy_kernel_is_the_kernels_own(study_text: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        study_text.replace(
            'policy = ["evict-only", "six-steps"]',
            'policy = ["kernel"]\nkernel = ["6.1", "6.12", "6.12 with policy of 6.18"]',
        ).replace("nested_ratio = [0, 0.5, 1]", "")
    )
    plan = read_study(path)
    own = [plan.cell(number).policy.name for number in range(plan.cell_count)]
    assert own == ["evict-only", "locked-6.12", "lockless-6.15"]
