"""The memory of a host: pages as bits, one lruvec and one mm a guest.

64 PTEs are one uint64 word. The words of the same 64 pages lie side by side in ``bits`` (one cache
line), so an access and a walk touch one line. Page numbers run over the host; a guest owns the pages
``first`` .. ``first + pages`` and starts on a page table of its own (512 pages, 2 MiB).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.policies import Lock

Record = Any
"""One element of a structured array; compiled code sees a struct with attributes."""

# --- bits of a page: the column in Machine.bits -----------------------------------------------------
PRESENT = 0  # mapped by the primary MMU
PRIMARY = 1  # Accessed bit of the primary PTE
TDP = 2  # Accessed bit of the TDP MMU's SPTE
SHADOW = 3  # Accessed bit of the shadow MMU's SPTE
TDP_MAPPED = 4  # the TDP MMU has an SPTE
SHADOW_MAPPED = 5  # the shadow MMU has an SPTE: one rmap entry
TOUCHED = 6  # touched since a site last asked: the truth that policies are measured against
DIRTY = 7  # the primary PTE is dirty
BIT_COLUMNS = 8

# --- further bits, kept only where a machine has more than plain VMs: the column in Machine.extra_bits -----
MANY_SPTES = 0  # wherever the shadow MMU maps the page it does so several times: its rmap has several SPTEs
NO_AD = 1  # its shadow SPTEs have no A/D bits
CACHED = 2  # its Accessed bit was cleared without a TLB flush: a CPU may still have the translation
DEVICE_BITS = 3  # Accessed bits of the slow device's MMU, then of the fast one's
IDLE = 5  # PG_idle, set by idle page tracking and DAMON
PG_YOUNG = 6  # PG_young: idle page tracking took an Accessed bit that reclaim has not seen
MARKED = 7  # the access monitor has marked this page and not looked at it since
EXTRA_COLUMNS = 8  # one cache line

# --- subscribers of an mm's notifiers -------------------------------------------------------------------
KVM = 0
SLOW_DEVICE = 1  # its MMU can't be asked quickly: no has_fast_aging
FAST_DEVICE = 2
MAX_SUBSCRIBERS = 3

MONITOR = 3  # row of Machine.sites behind those of policies.Site: the access monitor

# --- what is counted at each site: the columns of Machine.sites ---------------------------------------
CALLS = 0  # calls of the notifier chain, one page each, or one for a batch
FAILED = 1  # of these, answered "failed"
FLUSHES = 2  # remote TLB flushes
YOUNG = 3  # pages found young
MISSED = 4
FALSE = 5
LOCKS = 6  # acquisitions, one column for each policies.Lock
SITE_COLUMNS = LOCKS + len(Lock)

# --- state byte of a page: laid out as the recordings write it ---------------------------------------
GEN_MASK = 7  # generation + 1; 0: on no list
ACTIVE = 8  # PG_active
REFERENCED = 16  # PG_referenced
WORKINGSET = 32  # PG_workingset
REFS_SHIFT = 6  # LRU_REFS, 2 bits
REFS_MASK = 0xC0

# --- flags of a page that recordings don't show -------------------------------------------------------
BUSY = 1  # waits in a per-CPU batch, which holds a reference: it can't be freed now
SWAPCACHE = 2  # has a copy of itself on the swap device, or a slot for one (PG_swapcache)
WRITABLE = 4  # the primary PTE allows writing
FILE_PAGE = 8  # a page of a file, for good: its type is FILE
IN_PAGE_CACHE = 16  # a page of a file that is in the page cache, mapped or not
PG_DIRTY = 32  # differs from its copy on the device
PG_WRITEBACK = 64  # is being written to it
PG_RECLAIM = 128  # is to be evicted as soon as it is written
LRU = 256  # PG_lru: on one of the lists of the classic LRU
PG_READAHEAD = 512  # was read from swap before somebody needed it, and nobody has since
FILE_PAGE_SHIFT = 3
ORDER_SHIFT = 12  # of the first page of a folio, the upper 4 bits: the folio has 1 << order pages

# --- Accessed bit of a PMD, and whether it has a PTE table --------------------------------------------
PMD_YOUNG = 1
PMD_POPULATED = 2

# --- 2 MiB of a guest that may have huge pages: bits of Machine.huge -----------------------------------
MAPS_HUGE = 1  # the PMD maps a huge page, and its PTE table is not in use
SMALL_SPTES = 2  # the TDP MMU has a table for small pages
SPLIT_SPTES = 4  # KVM never maps these 2 MiB by one SPTE (nx_huge_pages, dirty logging)

# --- constants of mm/vmscan.c, include/linux/mmzone.h, swap.h and memcontrol.h ------------------------
MIN_NR_GENS = 2
MAX_NR_GENS = 4
MAX_NR_TIERS = 4
DEF_PRIORITY = 12  # reclaim begins with a list's size >> 12
MIN_LRU_BATCH = 64  # pages: isolation batch, look-around window, noise floor of the PID controller
MAX_LRU_BATCH = 4096  # pages: one scan_folios at most
SWAP_CLUSTER_MAX = 32  # pages: the least that a reclaim call asks for
MEMCG_CHARGE_BATCH = 64  # pages: charged to a memcg in advance
LONG_WALK = 4096  # PTEs: a walk that lasts long enough for the CPU to switch
ANON = 0
FILE = 1
PTRS_PER_PTE = 512  # PTEs of one table
WORDS_PER_TABLE = PTRS_PER_PTE // 64
HPAGE_PMD_ORDER = 9  # a huge page: the folio that a PMD maps
UPPER_LEVELS = 2  # pages: the PMD and PUD tables of a mapping below 1 GiB
SHADOW_UPPER_LEVELS = 3  # levels of L1's nested page tables above the leaf tables (4-level paging)
PARENT_MEMCG = -1  # as a reclaim target: the memcg above all guests
NO_TASK = -1  # instead of a guest: another process
MAX_PAGEVEC = 31  # pages of the per-CPU lru_activate batch (15 up to 6.1)

# --- an access, as one uint32: page of the guest, and how ----------------------------------------------
ACCESS_L2 = 1 << 31  # made by the nested VM
ACCESS_MMAP = 1 << 31  # to a file: through its mapping, not by read(2) or write(2)
ACCESS_WRITE = 1 << 30
ACCESS_PAGE = ACCESS_WRITE - 1

PAGE = np.dtype(
    [
        ("towards_tail", np.int32),  # neighbours on the generation's list
        ("towards_head", np.int32),
        ("shadow", np.uint32),  # 0 never swapped out, else the workingset shadow (hostsim.mm.workingset)
        ("state", np.uint8),
        ("flags", np.uint16),
    ],
    align=True,
)
"""What bits can't hold, 16 bytes a page: a fault or an eviction then costs one cache miss instead of three."""

LRUVEC = np.dtype(
    [
        ("max_seq", np.int64),
        ("min_seq", np.int64, (2,)),  # [type]
        ("nr_pages", np.int64, (MAX_NR_GENS, 2)),  # [gen][type]
        ("lists", np.int64),  # row of pages that is the head of list [gen 0][anon]; the others follow
        ("avg_refaulted", np.int64, (2, MAX_NR_TIERS)),  # [type][tier], as are the next four
        ("avg_total", np.int64, (2, MAX_NR_TIERS)),
        ("refaulted", np.int64, (2, MAX_NR_TIERS)),
        ("evicted", np.int64, (2, MAX_NR_TIERS)),
        ("protected", np.int64, (2, MAX_NR_TIERS)),
        ("swappiness", np.int64),  # 0..200, in class C 201: anonymous pages only
        ("timestamps", np.int64, (MAX_NR_GENS,)),  # ms: when the generation of this index was opened
    ],
    align=True,
)

MM = np.dtype(
    [
        ("first", np.int64),  # page number of the memslot's first page, a multiple of 512
        ("pages", np.int64),
        ("own_first", np.int64),  # the process' (VMM's) own anonymous pages beside the memslot ...
        ("own_pages", np.int64),  # ... in page tables of their own; of these,
        ("buffer_pages", np.int64),  # the first ones are a mapping apart from its stack, where the others are
        ("stack_first", np.int64),
        ("file_first", np.int64),  # a file that the process reads, writes and has mapped ...
        ("file_pages", np.int64),  # ... in page tables of their own
        ("file_random", np.int64),  # the mapping has MADV_RANDOM (VM_RAND_READ): it has no recency
        ("node_bytes", np.int64),  # left of the page that holds the newest nodes of the file's tree
        ("ra_pages", np.int64),  # the most that readahead reads at a time; 0: there is none
        ("ra_start", np.int64, (2,)),  # struct file_ra_state, of read(2) and of the mapping: the present window ...
        ("ra_size", np.int64, (2,)),
        ("ra_async", np.int64, (2,)),  # ... and how far before its end the next one is read
        ("ra_prev", np.int64),  # the page that read(2) read last
        ("swap_ra_page", np.int64, (2,)),  # swap readahead of the memslot and of own pages: the last fault, ...
        ("swap_ra_hits", np.int64, (2,)),  # ... pages read ahead that were touched since, ...
        ("swap_ra_window", np.int64, (2,)),  # ... and how many pages it read
        ("mmap_miss", np.int64),  # faults on the mapping that missed the page cache, less those that met it
        ("file_mapped", np.int64),  # of these, pages that its page tables map (MM_FILEPAGES)
        ("file_under_writeback", np.int64),  # of the next, pages of the file
        ("under_writeback", np.int64),  # pages being written, in Machine.in_flight from index ``first`` on
        ("seq", np.int64),  # mm_state.seq: the aging that was walked last
        ("walked", np.int64),  # a walk was completed before (mm_state.tail is not NULL)
        ("used", np.int64),  # the CPU switched to this mm since it was last walked
        ("decisions", np.int64),  # of the scheduler about its process that were drawn (hostsim.mm.scheduler)
        ("aged_at", np.int64),  # the faults (pgfault) at its last aging
        ("filter_made", np.int64, (2,)),  # the Bloom filter of seq % 2 exists
        ("notifiers", np.int64),  # KVM is subscribed to this mm
        ("tdp", np.int64),  # tdp_mmu_enabled
        ("had_rmaps", np.int64),  # sticky: a shadow root was made once
        ("indirect_shadow_pages", np.int64),
        ("unmapped", np.int64),  # pages that reclaim took out of this mm: KVM's notifier sequence
        ("memcg_seq", np.int64),  # the half of the memcg LRU that its memcg is in ...
        ("memcg_tail", np.int64),  # ... and that it was too small there once (MEMCG_LRU_TAIL)
        ("tables", np.int64),  # PTE tables made so far
        ("tdp_tables", np.int64),  # tables for small pages that KVM made so far
        ("huge_pages", np.int64),  # a first touch gets a huge page if it can (transparent_hugepage = always) ...
        ("huge_reclaims", np.int64),  # ... also if that means reclaim (defrag) ...
        ("huge_wakes", np.int64),  # ... or at least wakes kswapd (defrag = defer)
        ("l1_huge", np.int64),  # the page tables that KVM shadows map 2 MiB at a time, so its SPTEs can
        ("cpu", np.int64),  # the CPU that this guest and its reclaim run on
        ("runner", np.int64),  # runs ahead on the list that eviction comes to next (hostsim.mm.lru.run_ahead)
        ("max_pages", np.int64),  # memory.max in pages; 0: none
        ("memory_min", np.int64),  # memory.min, memory.low ...
        ("memory_low", np.int64),
        ("effective_min", np.int64),  # ... and what of them was effective when reclaim last came by
        ("effective_low", np.int64),
        ("least_charged", np.int64),  # after a batch of reclaim that was not of its own memcg, if there is protection
        ("memory_high", np.int64),  # 0: none
        ("over_high", np.int64),  # pages charged above memory.high since it last returned to user mode
        ("refaulted", np.int64),  # its last fault was a refault
        ("charged", np.int64),  # memory.current in pages, the stock included
        ("extras", np.int64),  # the guest is more than a plain one: hostsim.memory.extras
        ("stock", np.int64),  # pages charged in advance by its CPU
        ("first_fault_pages", np.int64),  # kernel memory that its first fault takes beside page tables ...
        ("file_upper_pages", np.int64),  # ... the tables above those of its mapped file, until they are made ...
        ("late_pages", np.int64),  # ... and KVM's cache of page tables when it is filled anew
        ("kernel_pages", np.int64),  # kernel memory that it has: page tables and all of the above
        ("pool_units", np.int64),  # what its swapped-out pages take of the pool (hostsim.mm.swap_slots.POOL_UNIT)
        ("oom_reason", np.int64),  # why the OOM killer killed it (hostsim.mm.oom_kill.OOM_REASONS), 0: it lives ...
        ("oom_tick", np.int64),  # ... in which tick, -1: none
        ("online", np.int64),  # its memcg is there: it has come, and has not left
        ("exited", np.int64),  # it has no memory: it isn't there, or was killed
    ],
    align=True,
)

VM = np.dtype(
    [
        ("accessed_mask", np.int64),  # shadow_accessed_mask: KVM uses Accessed bits
        ("l1_shadow_paging", np.int64),  # L1 shadows L2's page tables: to KVM its accesses are L1's
        ("rmap_entries", np.int64),  # SPTEs of a page that has MANY_SPTES
        ("subscribers", np.int64),
        ("chain", np.int64, (MAX_SUBSCRIBERS,)),  # who they are, in the order in which they are asked
        ("fast_devices", np.int64),  # of these, devices with has_fast_aging
        ("tlb_hit", np.int64),  # probabilities, hostsim.engine.philox.CERTAIN is 1: a TLB hides an access,
        ("race", np.int64),  # ... a writer of the SPTE undoes what happened to its Accessed bit,
        ("contended", np.int64),  # ... mmu_lock is taken
        ("key", np.uint64),  # of the random numbers
        ("host", np.int64),
        ("guest", np.int64),  # the guest word of their counter (hostsim.engine.streams)
        ("draws", np.int64),  # random numbers used
        ("tick", np.int64),  # now
        ("hot_since", np.int64),  # pages touched after this tick are the true working set
        ("newest_seq", np.int64),  # the youngest generation whose birth was written down
        ("born", np.int64, (MAX_NR_GENS,)),  # the ticks in which the generations became the youngest
    ],
    align=True,
)
"""What of a guest only hostsim.memory.extras and hostsim.kvm.mmu_notifier look at."""

CPU = np.dtype(
    [
        ("count", np.int64),  # pages waiting in the lru_activate batch
        ("pages", np.int32, (MAX_PAGEVEC,)),
        ("guests", np.int32, (MAX_PAGEVEC,)),
        ("added_count", np.int64),  # the same for the lru_add batch, which only the classic LRU needs
        ("added_pages", np.int32, (MAX_PAGEVEC,)),
        ("added_guests", np.int32, (MAX_PAGEVEC,)),
        ("added", np.int64),  # pages in the lru_add batch, counted where it matters (swapin_through_cache)
        ("stock_guest", np.int64),  # the guest whose memcg pages were charged to in advance last
    ],
    align=True,
)

CLASSIC = np.dtype(
    [
        ("lists", np.int64),  # row of pages that is the head of list [anon][inactive]; the others follow
        ("size", np.int64, (2, 2)),  # pages [type][inactive, active]
        ("flushed_size", np.int64, (2, 2)),  # the same as the memcg's statistics had it when they were last flushed
        ("flushed_activations", np.int64, (2,)),  # workingset_activate of each type, likewise
        ("seen_activations", np.int64, (2,)),  # ... at the end of the last reclaim call
        ("nonresident_age", np.int64),  # evictions and activations so far
        ("cost", np.int64, (2,)),  # what reclaim of each type has cost recently
    ],
    align=True,
)
"""What the classic LRU knows of a memcg; of the one above all guests only the statistics, age and cost."""

PARENT = np.dtype(
    [
        ("max_pages", np.int64),  # memory.max of the memcg above all guests'; 0: none
        ("charged", np.int64),
        ("position", np.int64),  # the member that reclaim visited last: 0 the parent, g + 1 guest g, -1 none
        ("below_root", np.int64),  # it is there: without it the guests' memcgs are the root's children
        ("memory_min", np.int64),
        ("memory_low", np.int64),
    ],
    align=True,
)

RECLAIM = np.dtype(
    [
        ("nr_to_reclaim", np.int64),
        ("nr_reclaimed", np.int64),
        ("priority", np.int64),
        ("proactive", np.int64),  # memory.reclaim
        ("walk", np.int64),  # a walk object exists: look-around moves pages at once
        ("task", np.int64),  # the guest in whose own fault this reclaim runs; -1: none
        ("interrupts", np.int64),  # the guest whose fault waits for it, kswapd's too if that takes no time; -1: none
        ("checked", np.int64),  # pages checked since the last aging of this call
        ("kswapd", np.int64),  # it is kswapd's ...
        ("root", np.int64),  # ... or a task's, of all guests: the host is short of free pages
        ("visited", np.int64),  # guests that its present pass has come to
        ("scanned", np.int64),  # pages isolated in this pass
        ("freed", np.int64),  # pages of the present batch that were freed
        ("swapped", np.int64),  # this visit isolated anonymous pages (need_swapping)
        ("file_taken", np.int64),  # file pages that a pass took off the oldest generation (sc->nr.file_taken) ...
        ("unqueued_dirty", np.int64),  # ... and those that were dirty and not being written
        ("walk_aged", np.int64),  # ... and an aging has filled it in
        ("swappiness", np.int64),
        ("ignore_references", np.int64),  # its pages go, young or not (hostsim.mm.pageout)
        ("target", np.int64),  # the guest whose memcg is to shrink, -1 for the one above all
        ("may_deactivate", np.int64, (2,)),  # classic LRU: active pages of a type may be made inactive
        ("skipped_deactivate", np.int64),  # ... and some were spared because they may not
        ("force_deactivate", np.int64),  # ... so that now they may in any case
        ("low_skipped", np.int64),  # memcgs were spared, or scanned less, for their memory.low ...
        ("low_reclaim", np.int64),  # ... and are no longer
        ("cost", np.int64, (2,)),  # CLASSIC's of the target, as its present pass began
        ("cache_trim_mode", np.int64),  # this pass takes inactive file pages only ...
        ("file_is_tiny", np.int64),  # ... or anonymous pages only
        ("to_scan", np.int64, (2, 2)),  # pages of each list that a visit still has to look at ...
        ("goals", np.int64, (2, 2)),  # ... of so many that it set out to
    ],
    align=True,
)
"""struct scan_control: one reclaim call."""

TASK = 0  # index in Machine.reclaim: the call of whoever is running ...
KSWAPD = 1  # ... and that of kswapd, which on a clock goes on after others


NODE = np.dtype(
    [
        ("now_ms", np.int64),  # the caller's clock
        ("min_ttl_ms", np.int64),  # /sys/kernel/mm/lru_gen/min_ttl_ms; 0: none
        ("tick", np.int64),  # now, for whoever watches and for what is written down
        ("async_swap", np.int64),  # the swap device is asynchronous: a page is freed only after its I/O has ended
        ("page_cluster", np.int64),  # vm.page-cluster, 0 for a synchronous swap device
        ("rotating_swap", np.int64),  # the swap device rotates: its slots are read ahead, not pages around the fault
        ("swap_ra_slot", np.int64),  # MM's three, for the device, if it rotates
        ("swap_ra_hits", np.int64),
        ("swap_ra_window", np.int64),
        ("next_slot", np.int64),  # where the search for a free slot begins
        ("flusher_woken", np.int64),  # reclaim met nothing but dirty file pages
        ("isolated", np.int64),  # pages of the present batch of eviction, in Machine.victims
        ("memory_pages", np.int64),  # all that the guests, their kernel memory and the pool may take
        ("free_pages", np.int64),
        ("swap_pages", np.int64),  # slots of the swap device ...
        ("free_slots", np.int64),  # ... and those of them that are free
        ("pool_units", np.int64),  # what the pool holds, in POOL_UNITs, ...
        ("pool_pages", np.int64),  # ... in whole pages, ...
        ("pool_limit", np.int64),  # ... and the most pages that it may take; 0: no limit
        ("min_pages", np.int64),  # watermarks: tasks reclaim below the min one if kswapd takes time,
        ("low_pages", np.int64),  # kswapd is woken below the low one, and reclaims up to the high one;
        ("high_pages", np.int64),  # 0: the host's memory is not limited
        ("kswapd_takes_time", np.int64),  # it runs on a clock, in time slices of its own
        ("kswapd_woken", np.int64),  # by guest n - 1; 0: it sleeps ...
        ("kswapd_runs", np.int64),  # ... and it has begun since
        ("kswapd_failures", np.int64),  # runs without any success, since anybody reclaimed a page
        ("goal_pages", np.int64),  # what kswapd sets out to reclaim in one pass
        ("memcgs_need_aging", np.int64),  # kswapd ages before it evicts (6.1)
        ("protection", np.int64),  # some guest has a memory.min or memory.low
        ("recursive_protection", np.int64),  # memory_recursiveprot
        ("memcg_seq", np.int64),  # the memcg LRU's older half ...
        ("memcg_position", np.int64),  # ... and the guest where its next pass begins
        ("scheduler_drawn", np.int64),  # what the scheduler decides is drawn
        ("kswapd_delay", np.int64),  # pages until kswapd, which was woken, gets the CPU; only if that is drawn
        ("asks", np.int64),  # rows of Machine.asks that are filled
    ],
    align=True,
)
"""What all memcgs of the host share: pg_data_t, the swap device, the flusher threads."""


ASK = np.dtype(
    [
        ("page", np.int64),
        ("site", np.int8),  # of policies.Site, or SKIPPED
        ("bits", np.uint8),  # of the page just before: bit n is column n of Machine.bits
        ("young", np.uint8),  # the answer
        ("fast", np.uint8),  # it carried "fast"
        ("failed", np.uint8),  # KVM answered "failed"
        ("huge", np.uint8),  # it asked for a huge page, of which the followed one is a part
    ],
    align=True,
)
"""A site of MGLRU asks for a page that is followed."""
SKIPPED = -1  # no site: the aging walk left out the page's table


@dataclass(frozen=True, eq=False)
class Machine:
    """All that the compiled kernels work on; plain arrays, one element a page or a guest.

    ``pages``: PAGE rows; behind the pages stand the heads of the lists, which are circular through them as the
    kernel's list_head is: a page leaves its list without knowing which one it is.
    ``filters``: uint8 (page tables, 2), the two Bloom filters as exact sets: a simulator does not know
    the kernel addresses that decide which tables collide.
    ``steps``, ``calls``, ``policy``: STEP, CALL and CONTROL (1,) records of policies.PolicyCode.
    ``sites``: int64 (guests, sites and access monitor, SITE_COLUMNS), what each asked and was told.
    ``step_pages``: int64 (guests, steps), pages that each step of the policy acted on.
    ``pmds``, ``shadow_tables``: uint8 a page table: PMD_YOUNG and PMD_POPULATED; the shadow MMU has a table.
    ``huge``: uint8 a page table: MAPS_HUGE, SMALL_SPTES and SPLIT_SPTES (hostsim.mm.huge_pmd); ``huge_touched``: uint64
    (words), the pages of huge pages that were touched in this tick, as far as it was noted; both empty: nobody has any.
    ``extra_bits``: uint64 (words, EXTRA_COLUMNS), ``last_touch``: int32 (pages), the tick in which each page was last
    touched; both empty unless some guest has ``extras``.
    ``classic``: CLASSIC records of the guests' memcgs, and of the one above as the last.
    ``victims``, ``neighbours``: scratch, the isolated pages of one batch and the young ones of one window.
    ``in_flight``: int32 a page: the pages under writeback in the order in which their I/O was started, each guest's
    in the part that belongs to its pages.
    ``slots``: int32, of a swap device that rotates the page that holds each slot, plus 1 (0: it is free); empty: the
    device does not. ``slot_of``: int32 a page, its slot.
    ``size_classes``: uint8 a page, the size class that it has in zram's pool; empty: there is none. ``class_units``:
    int64 (classes), what a page of each class takes (hostsim.mm.swap_slots.POOL_UNIT).
    ``followed``: uint64 (words), a bit for each page for which every ask is written down in ``asks``, ASK records;
    both empty: nobody watches.

    ``places``: of each array its address and its shape, which is all that compiled code gets: the ``address`` of them
    (hostsim.engine.machine_type).
    """

    bits: npt.NDArray[np.uint64]
    pages: npt.NDArray[Any]
    filters: npt.NDArray[np.uint8]
    pmds: npt.NDArray[np.uint8]
    shadow_tables: npt.NDArray[np.uint8]
    huge: npt.NDArray[np.uint8]
    huge_touched: npt.NDArray[np.uint64]
    lruvecs: npt.NDArray[Any]
    mms: npt.NDArray[Any]
    cpus: npt.NDArray[Any]
    parent: npt.NDArray[Any]
    classic: npt.NDArray[Any]
    node: npt.NDArray[Any]
    events: npt.NDArray[Any]
    sites: npt.NDArray[np.int64]
    step_pages: npt.NDArray[np.int64]
    steps: npt.NDArray[Any]
    calls: npt.NDArray[Any]
    policy: npt.NDArray[Any]
    features: npt.NDArray[Any]
    reclaim: npt.NDArray[Any]
    vms: npt.NDArray[Any]
    extra_bits: npt.NDArray[np.uint64]
    last_touch: npt.NDArray[np.int32]
    victims: npt.NDArray[np.int32]
    neighbours: npt.NDArray[np.int32]
    in_flight: npt.NDArray[np.int32]
    slots: npt.NDArray[np.int32]
    slot_of: npt.NDArray[np.int32]
    size_classes: npt.NDArray[np.uint8]
    class_units: npt.NDArray[np.int64]
    followed: npt.NDArray[np.uint64]
    asks: npt.NDArray[Any]

    places: npt.NDArray[np.uint64] = field(init=False)
    address: int = field(init=False)

    def __post_init__(self) -> None:
        arrays = [getattr(self, each.name) for each in fields(self) if each.init]
        places = np.array([number for array in arrays for number in (array.ctypes.data, *array.shape)], np.uint64)
        object.__setattr__(self, "places", places)
        object.__setattr__(self, "address", places.ctypes.data)
