"""What differs between kernel classes, as named features (specification, sections 0 and 11)."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Kernel:
    """One kernel's rules. Every flag names a behaviour; nothing in the model asks for a version."""

    name: str
    default_policy: str
    lru_add_batch: int = 31
    """Pages that wait per CPU before they join the lists."""

    # Section 2: references and promotion.
    two_touch: bool = False
    """A page table's first young report only sets PG_referenced; the second one promotes."""
    birth_by_distance: bool = False
    """Faulted pages start in max_seq - 1 (max_seq with PG_workingset), not in max_seq."""

    # Section 4: refaults.
    refault_counted_only_if_recent: bool = False
    refault_window_by_max_seq: bool = False
    """Recent means fewer than four max_seq steps ago, not: same min_seq."""
    activate_counted_when_protected: bool = False
    """workingset_activate counts pages protected by sort_folio instead of recent refaults."""

    read_swapin_writable: bool = True
    """A page swapped in for a read is mapped writable at once if nobody shares it."""

    stale_fault_marks: bool = True
    """A KVM fault that must be repeated marks the page accessed in both attempts."""

    # Section 5: aging.
    pmd_filter_even_if_forced: bool = False
    min_mm_pages: int = 0
    """A walk skips an mm with fewer pages, unless forced."""
    aging_by_generations_only: bool = False
    min_seq_independent: bool = False
    """anon and file lose their oldest generations separately."""

    # Section 6: look-around.
    look_around_marks_target: bool = False
    """The window scan meets the checked page itself and leaves PG_referenced on it."""
    look_around_moves_many: bool = False
    """Without a walk object, 15 or more neighbours are renumbered in place."""
    look_around_needs_aged_walk: bool = False
    """A walk object that no aging has filled in yet says "no swap": look-around skips anon pages.

    So eviction through the debugfs file never looks around.
    """
    look_around_spares_isolated: bool = False
    """Neighbours that are off the lists keep their Accessed bits."""

    # Section 7: eviction.
    pid_all_tiers: bool = False
    protected_to_head: bool = False
    scan_budget: bool = False
    """A batch looks at no more pages than the caller still wants, not always at up to 4096."""
    aging_ends_visit: bool = True
    """A successful aging ends this lruvec's visit instead of going on to evict (section 7.2)."""
    stops_once_swapped_enough: bool = False
    kswapd_ages_first: bool = False
    sorts_unwritten: bool = False
    """Pages under writeback, and dirty pages of files, are sorted into the next generation, not isolated."""
    wakes_flusher: bool = True
    sorted_wake_flusher: bool = False
    """Those sorted pages count when the flusher is woken because every file page was dirty."""

    # The classic LRU.
    rotations_cost: bool = True
    """A kept page counts towards anon's reclaim cost, a page-out 32 times as much."""

    reclaim_flushes_stats: bool = False
    """Every pass over a memcg first brings its statistics up to date."""

    # Section 11, class D, as the recordings of 7.3.4 show it.
    birth_referenced: bool = False
    """A fault marks its page accessed instead of activating it, but for pages that come back with PG_workingset."""
    swapin_through_cache: bool = False
    """A page read from swap is in the swap cache while it is queued for the lists."""
    check_counts_references: bool = False
    """The eviction check counts a second reference before it promotes."""
    activate_counted_with_workingset: bool = False
    batch_wakes_flusher: bool = False
    scan_goal_fixed: bool = False
    batch_counts_sorted: bool = False
    batch_looks_twice: bool = False
    """A batch that isolated none of the pages it looked at looks at more of the same type."""

    # When the scheduler switches to the process again.
    switch_after_faults: int = 128
    switch_after_checks: int = 256
    switch_after_guest_walk: int = 0
    switch_after_process_walk: int = 0

    # Section 8: callers.
    partial_tree_walk: bool = True
    """Reclaim of a parent stops at the memcg that meets the goal; the next one goes on there."""
    proactive_has_walk: bool = True
    """memory.reclaim carries a walk object from the start (section 5.2)."""
    reclaim_request_quarter: bool = True
    """memory.reclaim asks for a quarter of what is left at a time (section 8)."""


A = Kernel(
    name="6.1",
    default_policy="evict-only",
    lru_add_batch=15,
    refault_counted_only_if_recent=True,
    activate_counted_when_protected=True,
    read_swapin_writable=False,
    pmd_filter_even_if_forced=True,
    min_mm_pages=64,
    look_around_marks_target=True,
    look_around_moves_many=True,
    look_around_needs_aged_walk=True,
    aging_ends_visit=False,
    stops_once_swapped_enough=True,
    kswapd_ages_first=True,
    sorts_unwritten=True,
    wakes_flusher=False,
    rotations_cost=False,
    reclaim_flushes_stats=True,
    partial_tree_walk=False,
    proactive_has_walk=False,
    reclaim_request_quarter=False,
)
B = Kernel(name="6.12", default_policy="locked-6.12", switch_after_guest_walk=1)
C = Kernel(
    name="6.16",
    default_policy="lockless-6.15",
    stale_fault_marks=False,
    two_touch=True,
    birth_by_distance=True,
    refault_window_by_max_seq=True,
    aging_by_generations_only=True,
    min_seq_independent=True,
    look_around_spares_isolated=True,
    pid_all_tiers=True,
    protected_to_head=True,
    sorts_unwritten=True,
    sorted_wake_flusher=True,
    switch_after_guest_walk=1,
    switch_after_process_walk=1,
)
LATE_C = replace(C, name="6.18", scan_budget=True, switch_after_process_walk=2)
D = replace(
    LATE_C,
    name="7.3",
    birth_referenced=True,
    swapin_through_cache=True,
    check_counts_references=True,
    activate_counted_with_workingset=True,
    scan_goal_fixed=True,
    batch_counts_sorted=True,
    batch_looks_twice=True,
    sorts_unwritten=False,
    sorted_wake_flusher=False,
    batch_wakes_flusher=True,
    aging_ends_visit=False,
)

KERNELS = {kernel.name: kernel for kernel in (A, B, C, LATE_C, D)}
