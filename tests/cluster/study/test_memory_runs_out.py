"""Studies whose memory runs out: what is refused at the door, and what rows, summary and report say of the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError
from tests.cluster.conftest import Said

HEAD = """\
ticks = 2
replicates = 1
policy = "kernel"
overcommit = 2.0
fleet.hosts = 1
fleet.guests_per_host = 2
guest.memory = "4 MiB"
"""
NOTHING_TO_EVICT = HEAD + 'reclaim.mode = "host"\nreclaim.swappiness = 0\noutput.epochs = "on"\n'


def study(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('host.memory = "16 pages"', "host.memory 64 KiB is no more than the 192 KiB that the kernel keeps free"),
        ('swap.device = "none"\nswap.size = "1 MiB"', 'size is there, but device = "none" is no swap at all'),
        ('swap.device = "nvme"\nswap.pool_limit = "1 MiB"', 'pool_limit is of zram, but device = "nvme"'),
        ("reclaim.min_ttl_ms = 1000", 'reclaim.min_ttl_ms is a time: set clock.mode = "timed"'),
    ],
)
def test_what_cannot_be_is_refused(lines: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_study(study(tmp_path / "s.toml", HEAD + lines))


def test_the_keys_reach_the_host(tmp_path: Path) -> None:
    lines = 'swap.size = "3 MiB"\nswap.pool_limit = "1 MiB"\nreclaim.min_ttl_ms = 9\nclock.mode = "timed"'
    host = build_hosts(read_study(study(tmp_path / "s.toml", HEAD + lines)).run(0))[0]
    assert (host.swap_pages, host.pool_pages, host.min_ttl_ms) == (768, 256, 9)


def test_a_host_with_nothing_to_evict_kills_and_everybody_says_so(
    tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    """Anonymous memory twice the host, swappiness 0, no file. Not even one guest fits beside the watermarks."""
    out = tmp_path / "out"
    said = coldfleet("sweep", study(tmp_path / "s.toml", NOTHING_TO_EVICT), "--executor", "serial", "--out", out)
    assert said.code == 0
    assert "memory ran out: the OOM killer killed 2 guests in 1 of 1 runs" in " ".join(said.out.split())
    assert "*" in said.out.partition("memory ran out")[0]  # a mark in the table
    guests = pq.read_table(next((out / "parts").glob("guests-*"))).to_pylist()
    assert [(row["oom_kills"], row["oom_tick"], row["oom_reason"]) for row in guests] == [(1, 0, "host")] * 2
    cells = pq.read_table(next((out / "parts").glob("cells-*"))).to_pylist()
    assert cells[0]["oom_kills"] == 2
    epochs = pq.read_table(next((out / "parts").glob("epochs-*"))).to_pylist()
    assert [row["free_pages"] for row in epochs] == [1024, 1024]
    as_json = json.loads(coldfleet("resume", out, "--executor", "serial", "--json").out)
    assert as_json["summary"][0]["oom_kills"]["mean"] == 2


def test_where_memory_suffices_nobody_speaks_of_it(tmp_path: Path, coldfleet: Callable[..., Said]) -> None:
    said = coldfleet("sweep", study(tmp_path / "s.toml", HEAD), "--executor", "serial", "--out", tmp_path / "out")
    assert said.code == 0
    assert "OOM" not in said.out
