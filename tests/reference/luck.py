"""What happened in single recordings besides their schedule, as a replay must be told.

The VMM's own stray page is touched now and then, and the VMM may be switched to in the middle of a
reclaim, so that a second aging walks it too. Both were found by comparing repeats of one recording.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Luck:
    stray_touched: frozenset[int] = frozenset()
    """Rounds in whose touches the process also touched its own pages outside the mapping."""
    used: frozenset[int] = frozenset()
    """max_seq at agings before which the process was switched to in the middle of a reclaim call."""
    stray_pages: int = 1
    """How many of those pages, counted from the first."""
    late_stat: bool = False
    """memory.stat lags behind in some records: the kernel skips flushing fewer than 64 updates."""


EVERY_ROUND = frozenset(range(1, 17))

LUCK: dict[str, Luck] = {
    "k6.1_duohv_hotcold-hotcold_reclaim_r2": Luck(late_stat=True),
    "k6.1_nested_hotcold_debugfs_r2": Luck(late_stat=True),
    "k6.1_nested_phase_debugfs_r2": Luck(stray_touched=EVERY_ROUND, late_stat=True),
    "k6.1_nested_uniform_debugfs_r1": Luck(stray_touched=EVERY_ROUND, late_stat=True),
    "k6.1_nested_zipf_debugfs_r2": Luck(stray_touched=EVERY_ROUND, late_stat=True),
    "k6.1_shadow_phase_reclaim_r1": Luck(stray_touched=EVERY_ROUND),
    "k6.1_shadow_zipf_debugfs_r1": Luck(stray_touched=EVERY_ROUND, late_stat=True),
    "k6.1_write_zipf_reclaim_r2": Luck(late_stat=True),
    "k6.1_shadow_zipf_reclaim_r1": Luck(late_stat=True),
    "k6.12_vm_hotscan_reclaim_r3": Luck(used=frozenset({25})),
    "k6.12_vm_zipf_debugfs_r3": Luck(late_stat=True),
    "k6.12_shadow_scan_debugfs_r1": Luck(stray_touched=EVERY_ROUND),
    "k6.12_shadow_scan_debugfs_r2": Luck(stray_touched=EVERY_ROUND, late_stat=True),
    "k6.12_shadow_scan_reclaim_r1": Luck(stray_touched=EVERY_ROUND),
    "k6.12_shadow_zipf_debugfs_r2": Luck(stray_touched=EVERY_ROUND),
    "k6.16_vm_hotcold_debugfs_r1": Luck(stray_touched=EVERY_ROUND, late_stat=True),
    "k6.16_vm_hotscan_debugfs_r1": Luck(late_stat=True),
    "k6.16_vm_hotscan_debugfs_r2": Luck(late_stat=True),
    "k6.18_nested_hotcold_debugfs_r1": Luck(stray_touched=EVERY_ROUND, late_stat=True),
    "k6.18_shadow_phase_reclaim_r1": Luck(stray_touched=EVERY_ROUND),
    "k6.18_shadow_zipf_reclaim_r1": Luck(stray_touched=EVERY_ROUND),
    "k6.18_vm_hotcold_reclaim_r1": Luck(stray_touched=EVERY_ROUND),
    "k6.18_vm_zipf_reclaim_r1": Luck(stray_touched=EVERY_ROUND),
    "k6.18_vm_hotscan_debugfs_r1": Luck(stray_touched=EVERY_ROUND, late_stat=True),
    "k6.18_vm_hotscan_debugfs_r2": Luck(stray_touched=EVERY_ROUND, late_stat=True),
}
