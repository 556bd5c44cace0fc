"""The figures that people read: what they count, and the laws that they obey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.results.metrics import find_metric
from coldfleet.cluster.stats.metrics import DERIVED, SUMMARY
from coldfleet.cluster.study.reader import read_study

HEAD = """
seed = 5
replicates = 1
ticks = 6
overcommit = 3
nested_ratio = 0.5
policy = "POLICY"

[fleet]
hosts = 1
guests_per_host = 2

[guest]
memory = "4 MiB"
accesses_per_tick = 2048

[reclaim]
aging_every_ticks = 2
"""
PLAIN = ""
FILE = """
[guest.page_cache]
memory = "4 MiB"
access_share = 0.9
mmap_share = 0.5
kind = "scan"
"""
DEVICE = """
[vm]
subscribers = "kvm, slow device"
device_share = 0.5
"""
SCAN = '\n[guest.workload]\nkind = "scan"\n'


def guest_rows(tmp_path: Path, more: str, policy: str = "fast-only-v5", head: str = HEAD) -> list[dict[str, Any]]:
    study = tmp_path / "study.toml"
    study.write_text(head.replace("POLICY", policy) + more)
    return simulate_run(read_study(study).run(0))["guests"]


@pytest.mark.parametrize("more", [PLAIN, FILE, DEVICE, SCAN])
@pytest.mark.parametrize("policy", ["fast-only-v5", "bitmap-v1", "evict-only"])
def test_shares_lie_between_0_and_1(more: str, policy: str, tmp_path: Path) -> None:
    shares = [metric for metric in DERIVED if metric.unit == "share" and not metric.needs_clock]
    assert {"fault_rate", "promotion_rate", "needless_failures", "precision", "recall"} <= {
        metric.key for metric in shares
    }
    for row in guest_rows(tmp_path, more, policy):
        for metric in shares:
            assert 0 <= metric.value(row) <= 1, metric.key


def test_accesses_to_a_file_are_accesses(tmp_path: Path) -> None:
    """The fault rate of a guest that uses a file was five times as high as there can be."""
    rows = guest_rows(tmp_path, FILE)
    populate = 1024 * 2  # tick 0: each page of the memory once; the file's are read as they are used
    assert all(6 * 2048 <= row["accesses"] <= 6 * 2048 + populate for row in rows)


def test_what_was_not_asked_about_is_missed_too(tmp_path: Path) -> None:
    """evict-only asks for nothing as it ages, so all that it misses there it has not asked for."""
    missed, not_seen, not_asked = (find_metric(key) for key in ("missed_young", "missed_not_seen", "missed_not_asked"))
    rows = guest_rows(tmp_path, PLAIN, "was-fast") + guest_rows(tmp_path, PLAIN, "evict-only")
    assert any(not_asked.value(row) for row in rows)
    for row in rows:
        assert missed.value(row) == not_seen.value(row) + not_asked.value(row)
        assert not_asked.value(row) == row["missed_young_skipped"]
    assert SUMMARY[1] is missed
