"""Studies with a page cache and an asynchronous swap device: their keys, and the study that ships."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError

STUDY = Path(__file__).parents[3] / "configs" / "page_cache.toml"


@pytest.fixture(scope="module")
def rows() -> dict[tuple[Any, ...], dict[str, Any]]:
    """The cells of the study that ships by (kernel, swappiness, device), one replicate, half its length."""
    plan = read_study(STUDY)
    short = replace(plan, replicates=1, base={**plan.base, "ticks": 12, "fleet.hosts": 1})
    found = {}
    for run in short.runs():
        (row,) = simulate_run(run)["cells"]
        found[row["kernel"], row["reclaim_swappiness"], row["swap_device"]] = row
    return found


def test_swappiness_decides_between_anonymous_memory_and_file(rows: dict[tuple[Any, ...], dict[str, Any]]) -> None:
    for kernel in ("6.1", "6.12", "6.18"):
        for device in ("zram", "async"):
            none, some, much = (rows[kernel, swappiness, device] for swappiness in (0, 60, 200))
            assert none["pswpout"] == 0
            assert none["pgsteal"] == none["pgsteal_file"] > 0
            assert much["pswpout"] > some["pswpout"]
            assert none["cached_pages"] < much["cached_pages"]


def test_an_asynchronous_device_scans_more_than_it_steals(rows: dict[tuple[Any, ...], dict[str, Any]]) -> None:
    for kernel in ("6.1", "6.12", "6.18"):
        zram, device = rows[kernel, 200, "zram"], rows[kernel, 200, "async"]
        assert device["pgrotated"] > zram["pgrotated"]
        assert device["pgscan"] - device["pgsteal"] > zram["pgscan"] - zram["pgsteal"]


def test_accesses_are_the_same_whatever_is_reclaimed(rows: dict[tuple[Any, ...], dict[str, Any]]) -> None:
    assert len({row["access_hash"] for row in rows.values()}) == 1


def plan_of(study_file: Path, *lines: str) -> Plan:
    study_file.write_text(study_file.read_text().replace("[grid]", "\n".join([*lines, "[grid]"])))
    return read_study(study_file)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["[swap]", 'device = "ssd"'], "'ssd': it should be 'zram', 'async', 'nvme', 'remote', 'disk' or 'none'"),
        (["[guest.page_cache]", "memory = 16"], '16 has no unit: write "16 MiB"'),
        (["[guest.page_cache]", "mmap_share = 1.5"], "less than or equal to 1"),
        (["[guest.page_cache]", "mmap_shares = 0.5"], 'did you mean "mmap_share"?'),
    ],
)
def test_a_mistake_in_the_new_tables_is_one_line(study_file: Path, lines: list[str], complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_of(study_file, *lines)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_swappiness_201_needs_a_kernel_that_knows_it(study_file: Path) -> None:
    study_file.write_text(study_file.read_text().replace("[reclaim]", "[reclaim]\nswappiness = 201"))
    with pytest.raises(UserError, match=r"swappiness 201 is only known since 6\.14: at most 200"):
        read_study(study_file)
