"""Kernels as records of named features: how each version of Linux differs in what a simulation sees.

No code asks for a version: it asks for a feature. The classes A (6.1), B (6.12) and C (since 6.14) are those
of docs/truth.md. Every feature was read from the kernel's rules and holds on the recordings of the build named
in ``release``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.state import LONG_WALK, MAX_LRU_BATCH, MEMCG_CHARGE_BATCH, MIN_LRU_BATCH, SWAP_CLUSTER_MAX


@dataclass(frozen=True)
class Kernel:
    """One kernel. ``release`` is the exact build that it was judged on; ``policy`` how it asks KVM itself."""

    name: str
    release: str
    policy: str
    lru_batch: int = 31
    """Pages of a per-CPU batch (lru_activate): PAGEVEC_SIZE."""

    lru_gen: bool = True
    """MGLRU is on (/sys/kernel/mm/lru_gen/enabled), else the classic active and inactive lists are in use."""

    two_touch: bool = False
    """The first young report only sets PG_referenced, the second promotes and sets PG_workingset (4d5d14a01e2c)."""
    birth_by_distance: bool = False
    """A faulted page starts in max_seq - 1, with PG_workingset in max_seq (lru_gen_folio_seq), not in max_seq."""

    birth_referenced: bool = False
    """A faulted page is marked accessed as it is born: the first walk that finds it young promotes it."""

    check_counts_references: bool = False
    """A page found young at the eviction check counts a reference before it is promoted (folio_mark_accessed)."""
    swapin_through_cache: bool = False
    """A page that is read from swap enters the lists while it is in the swap cache, if it fills its CPU's batch."""

    refault_counted_only_if_recent: bool = False
    """workingset_refault counts only refaults that are recent, not all."""
    activate_counted_with_workingset: bool = False
    """workingset_activate counts a recent refault only if the page was evicted with PG_workingset."""
    refault_window_by_max_seq: bool = False
    """A refault is recent fewer than four max_seq steps after the eviction, not: while min_seq is the same."""
    activate_counted_when_protected: bool = False
    """workingset_activate counts the pages that sort_folio protects, not recent refaults."""
    read_swapin_writable: bool = True
    """A page that a read swapped in is mapped writable at once if nobody shares it."""

    zap_marks_accessed: bool = True
    """A page whose young SPTE is zapped is marked accessed (until 66bc627e7fee, 6.13)."""
    stale_fault_marks: bool = True
    """A KVM fault that had to unmap the guest's own pages is repeated, and marks its page accessed once more."""

    pmd_filter_even_if_forced: bool = False
    """The walk skips a table whose PMD is not young also when it is forced."""
    min_mm_pages: int = 0
    """A walk that is not forced skips an mm with fewer pages."""
    aging_by_generations_only: bool = False
    """Aging is due with exactly three generations left, whatever they hold."""
    switch_after_faults: int = 128
    """Faults of a process after which the CPU has switched away from it and back: its mm may be walked again."""
    switch_after_checks: int = 256
    """Pages checked in one reclaim call after which it has, too."""
    switch_after_guest_walk: int = 0
    """A walk of many page tables of a guest takes that long itself; 1: but not its first one, 2: any."""
    switch_after_process_walk: int = 0
    """The same for the page tables of a process."""
    luck_of_faults: int = 10
    """Where the scheduler is drawn (hostsim.mm.scheduler): how often in 1,000 times the rule of switch_after_faults
    comes out the other way. This and the next ones are about as often as recordings leave the rule (docs/truth.md)."""
    luck_of_checks: int = 10
    """The same of switch_after_checks."""
    luck_of_guest_walk: int = 50
    """The same of switch_after_guest_walk."""
    luck_of_process_walk: int = 250
    """The same of switch_after_process_walk."""
    luck_of_kswapd: int = 10
    """The same of kswapd's rule: a process runs between any two agings of it, a guest doesn't."""
    kswapd_delay: int = 250
    """Where the scheduler is drawn: pages that may be allocated, at most, between waking kswapd and its start."""
    min_seq_independent: bool = False
    """Anonymous and file pages lose their oldest generations separately."""

    look_around_marks_target: bool = False
    """The window scan meets the checked page itself and leaves PG_referenced on it: it will be activated."""
    look_around_moves_many: bool = False
    """Young neighbours are collected: fewer than a batch are activated, more are renumbered in place."""
    look_around_needs_aged_walk: bool = False
    """A walk object that no aging has filled in says "no swap": look-around then skips anonymous pages."""
    look_around_spares_isolated: bool = False
    """Neighbours that are off the lists keep their Accessed bits."""

    damon_stat: bool = False
    """DAMON_STAT samples all memory from the boot on."""
    random_mapping_referenced: bool = False
    """Eviction, though not the walk, goes by the Accessed bits of a mapping with MADV_RANDOM."""

    swappiness_anon_only: bool = False
    """Swappiness may be 201: file pages are not evicted then."""
    pid_all_tiers: bool = False
    """The PID weighs types over all tiers, tiers 2:3, and counts protected pages of tier 0 too."""
    protected_to_head: bool = False
    """A protected page goes to the head of the next list, not to its tail."""
    scan_budget: bool = False
    """A batch looks at no more pages than the caller still wants, not always at up to 4,096."""
    kswapd_ages_first: bool = False
    """kswapd ages every lruvec that needs it before it evicts; from any other only eviction itself asks for aging."""
    sorts_unwritten: bool = False
    """sort_folio passes over a page that has to be written first; eviction does not even isolate it. Since 7.2 the page
    is isolated, and activated with its references (75d4c3f5fb98)."""
    wakes_flusher: bool = True
    """A visit that met nothing but dirty file pages wakes the flusher threads ..."""
    sorted_wake_flusher: bool = False
    """... and those that sort_folio passed over count."""
    batch_wakes_flusher: bool = False
    """A batch in which all file pages have to be written first wakes the flusher at once (f37d3708b676)."""
    scan_goal_fixed: bool = False
    """A visit takes its goal once, from the sizes it begins with; an aging is a step on the way and costs none of it.
    At the default priority only a lack of generations calls for an aging. In reclaim of the whole host the batch after
    an aging is the visit's last (12316f7902f8)."""
    batch_counts_sorted: bool = False
    """A batch looks at 64 pages at most, and counts as progress if it looked at any, isolated or not."""
    batch_looks_twice: bool = False
    """A batch that looked at pages and isolated none looks at as many again, of the same type, if both types may be
    evicted (16b475d2ac3c, "avoid reclaim type fall back when isolation makes no progress")."""
    aging_ends_visit: bool = True
    """A successful aging ends the visit to this lruvec instead of going on to evict."""
    stops_once_swapped_enough: bool = False
    """A visit ends when the target is met or max_seq grew by two (should_abort_scan of 6.1)."""

    stock_of_many_memcgs: bool = False
    """A CPU keeps pages charged in advance for several memcgs, not for the last one only."""
    starts_at_fitting_priority: bool = True
    """Reclaim of the whole host starts with the priority that fits its goal (set_initial_priority)."""
    memcg_lru: bool = True
    """kswapd visits memcgs by when they were last aged, and ends a pass once it has enough."""
    visit_minds_low: bool = False
    """A visit asks after every batch whether the memcg has come below its memory.low, not only its memory.min."""
    proportional_protection: bool = False
    """MGLRU scans a memcg the less the nearer it is to its memory.min or memory.low, as the classic LRU always does."""
    partial_tree_walk: bool = True
    """Reclaim of a parent stops at the memcg that meets the goal, and goes on behind it the next time."""
    proactive_has_walk: bool = True
    """memory.reclaim carries a walk object from the start."""
    rotations_cost: bool = True
    """Classic LRU: a page kept counts as reclaim cost, a page written 32 times as much (lru_note_cost since 6.6)."""
    reclaim_flushes_stats: bool = False
    """Classic LRU: a pass over a memcg goes by statistics that are up to date (prepare_scan_control up to 6.7)."""

    reclaim_request_quarter: bool = True
    """memory.reclaim asks for a quarter of what is left at a time, not for all of it."""

    def encode(self, scale: int = 1, call_scale: int = 1) -> npt.NDArray[np.void]:
        """The features and BATCHES as one record (shape (1,)) for the compiled kernels.

        ``scale``: pages that a page of the machine stands for: its lists are that much shorter. ``call_scale``: how
        much smaller its calls are; if they are not, there have to be fewer. No batch has less than a page.
        """
        record = np.zeros(1, FEATURES)
        for name in _FEATURES:
            record[name] = getattr(self, name) if self.lru_gen or name not in _OF_LRU_GEN else 0
        for name, pages in BATCHES.items():
            record[name] = pages
        for names, divisor in ((_PAGES_OF_LISTS, scale), (_PAGES_OF_CALLS, call_scale)):
            for name in names:
                record[name] = np.minimum(record[name], np.maximum(np.rint(record[name] / divisor), 1))
        record["max_lru_batch"] = np.maximum(record["max_lru_batch"], record["min_lru_batch"])
        record["scale"], record["call_scale"] = scale, call_scale
        return record


_OF_LRU_GEN = ("starts_at_fitting_priority", "memcg_lru", "birth_referenced")  # the classic LRU has none of them
_NOT_FEATURES = ("name", "release", "policy")
_FEATURES = tuple(f.name for f in fields(Kernel) if f.name not in _NOT_FEATURES)
_PAGES_OF_LISTS = ("max_lru_batch", "long_walk", "min_mm_pages")
_PAGES_OF_CALLS = (
    "min_lru_batch", "swap_cluster_max", "charge_batch", "switch_after_faults", "switch_after_checks", "kswapd_delay",
)  # fmt: skip
BATCHES = {
    "min_lru_batch": MIN_LRU_BATCH,
    "max_lru_batch": MAX_LRU_BATCH,
    "swap_cluster_max": SWAP_CLUSTER_MAX,
    "charge_batch": MEMCG_CHARGE_BATCH,
    "long_walk": LONG_WALK,
}
"""What all kernels count in pages of the whole memory, not of a page table or a CPU."""
FEATURES = np.dtype([(name, np.int64) for name in (*_FEATURES, *BATCHES, "scale", "call_scale")], align=True)

_6_1 = Kernel(
    "6.1",
    "6.1.0-50-amd64",
    policy="evict-only",
    lru_batch=15,
    refault_counted_only_if_recent=True,
    activate_counted_when_protected=True,
    read_swapin_writable=False,
    pmd_filter_even_if_forced=True,
    min_mm_pages=64,
    luck_of_faults=0,
    luck_of_checks=1,
    luck_of_guest_walk=1,
    luck_of_process_walk=60,
    look_around_marks_target=True,
    look_around_moves_many=True,
    look_around_needs_aged_walk=True,
    random_mapping_referenced=True,
    kswapd_ages_first=True,
    sorts_unwritten=True,
    wakes_flusher=False,
    aging_ends_visit=False,
    stops_once_swapped_enough=True,
    starts_at_fitting_priority=False,
    memcg_lru=False,
    rotations_cost=False,
    reclaim_flushes_stats=True,
    visit_minds_low=True,
    partial_tree_walk=False,
    proactive_has_walk=False,
    reclaim_request_quarter=False,
)
_6_12 = Kernel(
    "6.12",
    "6.12.107+deb13-amd64",
    policy="locked-6.12",
    switch_after_guest_walk=1,
    luck_of_faults=2,
    luck_of_checks=20,
    luck_of_guest_walk=100,
    luck_of_process_walk=100,
)
_6_16 = Kernel(
    "6.16",
    "6.16.12+deb13-amd64",
    policy="lockless-6.15",
    zap_marks_accessed=False,
    switch_after_guest_walk=1,
    switch_after_process_walk=1,
    luck_of_faults=1,
    luck_of_checks=4,
    luck_of_guest_walk=30,
    stock_of_many_memcgs=True,
    stale_fault_marks=False,
    two_touch=True,
    birth_by_distance=True,
    refault_window_by_max_seq=True,
    aging_by_generations_only=True,
    min_seq_independent=True,
    look_around_spares_isolated=True,
    swappiness_anon_only=True,
    pid_all_tiers=True,
    protected_to_head=True,
    sorts_unwritten=True,
    sorted_wake_flusher=True,
)
_6_18 = replace(
    _6_16,
    name="6.18",
    release="6.18.15+deb13-amd64",
    switch_after_process_walk=2,
    luck_of_checks=100,
    luck_of_guest_walk=50,
    scan_budget=True,
    proportional_protection=True,
)
_7_3 = replace(
    _6_18,
    name="7.3",
    release="7.3.4+deb13-amd64",
    birth_referenced=True,
    check_counts_references=True,
    swapin_through_cache=True,
    activate_counted_with_workingset=True,
    scan_goal_fixed=True,
    batch_counts_sorted=True,
    batch_looks_twice=True,
    sorts_unwritten=False,
    sorted_wake_flusher=False,
    batch_wakes_flusher=True,
    aging_ends_visit=False,
    damon_stat=True,
    luck_of_faults=10,
    luck_of_checks=40,
)

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (_6_1, _6_12, _6_16, _6_18, _7_3)}
