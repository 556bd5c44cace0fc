"""The counters that a host keeps for every guest, each with its unit and meaning.

Names that a kernel has are the kernel's (memory.stat, /proc/vmstat). The column reference and the
schemas of the result tables are generated from this list.
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.counters.columns import Counter
from coldfleet.hostsim.counters.timing import TIMES

COUNTERS: tuple[Counter, ...] = (
    Counter(
        "accesses",
        "accesses",
        "accesses made by the guest, L1 and L2, and by its process to its file and its own memory",
    ),
    Counter("l2_accesses", "accesses", "accesses made by its nested VM"),
    Counter("pgfault", "faults", "faults of the primary MMU on the guest's memory"),
    Counter("pgmajfault", "faults", "of these, those that read a page from swap or from a file"),
    Counter(
        "refaults",
        "pages",
        "accesses that waited for a page to be read again that reclaim had evicted: from swap, or by fault or read(2) "
        "from a file, but not a first read",
    ),
    Counter("tdp_faults", "faults", "violations that made KVM map a page in the TDP MMU"),
    Counter(
        "shadow_faults",
        "faults",
        "violations that made KVM map a page in the shadow MMU (one rmap entry each)",
    ),
    Counter(
        "nested_faults",
        "faults",
        "of these, violations by a nested VM, which take it to the host, to L1 and back (L2, L0, L1, L0, L2)",
    ),
    Counter("access_track_faults", "faults", "violations of SPTEs without A/D bits that aging had made fault"),
    Counter("device_accesses", "accesses", "accesses made by the devices that share the guest's memory"),
    Counter("tlb_hidden", "accesses", "accesses that a TLB served, so that no Accessed bit was set"),
    Counter("indirect_shadow_pages", "pages", "page tables that the shadow MMU holds at the end"),
    Counter("resident_pages", "pages", "pages of the guest in memory at the end"),
    Counter(
        "resident_page_ticks",
        "page ticks",
        "pages in memory, the file's included, at the end of each tick but 0, summed over these ticks",
    ),
    Counter("pool_page_ticks", "page ticks", "memory that the guest takes of zram's pool then, summed in the same way"),
    Counter(
        "kernel_page_ticks",
        "page ticks",
        "what else it takes then: page tables of the primary MMU and KVM, and whatever is charged to it; summed",
    ),
    Counter("anon_huge_pages", "pages", "of resident_pages, those that are part of huge pages (AnonHugePages)"),
    Counter("huge_page_ticks", "page ticks", "of resident_page_ticks, those of pages that were part of huge pages"),
    Counter(
        "split_page_ticks", "page ticks", "of these, those of pages that KVM maps by SPTEs of 4 KiB (vm.split_share)"
    ),
    Counter(
        "bloat_page_ticks",
        "page ticks",
        "of these, pages that nobody touched in the tick, in huge pages of which another page was touched: these stay "
        "in memory for their neighbours. The first page of each, which speaks for all, is left out",
    ),
    Counter("thp_fault_alloc", "huge pages", "faults that got a huge page"),
    Counter("thp_fault_fallback", "faults", "faults that could have got one, and got a small page for want of room"),
    Counter("thp_collapse_alloc", "huge pages", "huge pages that khugepaged made of small ones"),
    Counter("thp_split_page", "huge pages", "huge pages that became 512 small ones"),
    Counter("thp_swpout", "huge pages", "huge pages that were written to swap whole"),
    Counter(
        "thp_swpout_fallback",
        "huge pages",
        "of thp_split_page, those for which swap had no 512 slots in a row",
    ),
    Counter("khugepaged_ptes", "PTEs", "PTEs that khugepaged looked at"),
    Counter("khugepaged_swpin", "pages", "of pswpin, pages that khugepaged read; in pgmajfault, too"),
    Counter("cached_pages", "pages", "pages of the guest's file in the page cache at the end"),
    Counter(
        "file_reads",
        "pages",
        "pages read into the page cache: first reads, refaults, and what readahead read beside them",
    ),
    Counter("file_read_requests", "requests", "requests that read them, each of pages in a row"),
    Counter("file_readahead_requests", "requests", "of these, those made before somebody needed their pages"),
    Counter("file_readahead_pages", "pages", "pages that the latter read"),
    Counter(
        "thrashing_waits",
        "requests",
        "of file_read_requests, those for a page of the working set: a memory stall of PSI",
    ),
    Counter("file_writes", "pages", "dirty pages of the page cache that the flusher wrote"),
    Counter("pswpin", "pages", "pages read from swap"),
    Counter("swap_ra", "pages", "of these, pages that swap readahead read beside the one that a fault waited for"),
    Counter("swap_ra_hit", "pages", "of these, pages that were touched before reclaim met them"),
    Counter("pswpout", "pages", "pages written to swap"),
    Counter("workingset_refault_anon", "pages", "refaults as the kernel counts them"),
    Counter("workingset_activate_anon", "pages", "refaults that the kernel takes for recent"),
    Counter("workingset_restore_anon", "pages", "recent refaults that get the workingset flag back"),
    Counter("workingset_refault_file", "pages", "the same for pages of the page cache"),
    Counter("workingset_activate_file", "pages", "the same for pages of the page cache"),
    Counter("workingset_restore_file", "pages", "the same for pages of the page cache"),
    Counter("kswapd_runs", "runs", "times that the guest's allocations woke kswapd"),
    Counter(
        "allocstall", "events", "times that an allocation had to reclaim for itself, below the host's min watermark"
    ),
    Counter("pgscan", "pages", "pages isolated by eviction"),
    Counter("pgscan_file", "pages", "of these, pages of the page cache"),
    Counter("pgsteal", "pages", "pages reclaimed"),
    Counter("pgsteal_file", "pages", "of these, pages of the page cache"),
    Counter("pgrotated", "pages", "pages whose writeback ended, so that eviction will meet them next"),
    Counter(
        "pgrefill",
        "pages",
        "pages that eviction sorted into a younger generation; classic LRU: active pages scanned",
    ),
    Counter("pgactivate", "pages", "pages activated"),
    Counter("pgdeactivate", "pages", "pages that the classic LRU moved from the active to the inactive list"),
    Counter(
        "rmap_walks",
        "pages",
        "of these, mapped pages, whose rmap was walked to clear their Accessed bits; MGLRU walks page tables instead",
    ),
    Counter("reclaim_write_waits", "pages", "pages for whose write to end a reclaim waited"),
    Counter("reclaim_file_write_waits", "pages", "of these, pages of files"),
    Counter("limit_hits", "events", "times that a charge ran into memory.max (memory.events max)"),
    Counter(
        "low_events",
        "events",
        "times that it was reclaimed although it was below its memory.low (memory.events low)",
    ),
    Counter(
        "high_events",
        "events",
        "times that it was reclaimed for being above its memory.high (memory.events high)",
    ),
    Counter("high_delay_ns", "ns", "time that it was made to sleep because that did not help"),
    Counter("oom_kills", "guests", "guests that the OOM killer killed: of a guest 0 or 1"),
    Counter("agings", "passes", "steps of max_seq"),
    Counter("mm_walks", "passes", "agings that walked the page tables"),
    Counter("walk_tables", "page tables", "PTE tables that the walks scanned"),
    Counter("walk_ptes", "PTEs", "PTEs that the walks scanned, present or not"),
    Counter("look_arounds", "windows", "look-arounds at eviction"),
    Counter("young_walk", "pages", "pages that the walk found young"),
    Counter("young_look_around", "pages", "neighbours that look-around found young"),
    Counter("young_evict", "pages", "pages that the eviction check found young"),
    Counter(
        "missed_young_walk",
        "pages",
        "pages reported old by the walk though touched since they were last asked",
    ),
    Counter("missed_young_look_around", "pages", "the same for the neighbours of look-around"),
    Counter("missed_young_evict", "pages", "the same for the eviction check: hot pages lost"),
    Counter(
        "missed_young_skipped",
        "pages",
        "touched pages that an aging took for old without asking: in tables that it did not walk (PMD, Bloom filter)",
    ),
    Counter("false_young_walk", "pages", "pages reported young by the walk though not touched since last asked"),
    Counter("false_young_look_around", "pages", "the same for the neighbours of look-around"),
    Counter("false_young_evict", "pages", "the same for the eviction check"),
    Counter("notifier_calls_walk", "calls", "calls of the MMU notifier chain, for one page each, by the walk"),
    Counter("notifier_calls_look_around", "calls", "the same by look-around"),
    Counter("notifier_calls_evict", "calls", "the same by the eviction check"),
    Counter("notifier_calls_monitor", "calls", "the same by the access monitor, and by khugepaged"),
    Counter("monitor_asked", "pages", "pages that the access monitor judged"),
    Counter("monitor_young", "pages", "of these, pages that it found young"),
    Counter("monitor_missed_young", "pages", "of these, pages that it took for old though they were touched"),
    Counter("monitor_false_young", "pages", "of these, pages that it took for young though they were not touched"),
    Counter("collapse_candidates", "page tables", "page tables that khugepaged found young enough to collapse"),
    Counter("damon_samples", "page samples", "samples that DAMON took, each standing for all pages of its region"),
    Counter("damon_rate_error", "page samples", "how far its access counts were from the truth, regions added up"),
    Counter(
        "damon_hot_accesses",
        "page samples",
        "samples in which hot pages were touched; hot: touched in at least half of the samples of an aggregation",
    ),
    Counter(
        "damon_hot_rate_error", "page samples", "how far their regions' access counts were from these, pages added up"
    ),
    Counter("damos_tried", "pages", "pages of the regions that DAMOS set out to page out, in memory or not"),
    Counter("damos_applied", "pages", "of these, pages that it freed; they are not in pgsteal"),
    Counter("notifier_failed", "calls", "calls that answered 'failed, can't tell'"),
    Counter("failed_pages", "pages", "pages that these calls were about: one each, or those of a batch"),
    Counter(
        "failed_needlessly",
        "pages",
        "of these, pages that were not young in the shadow MMU alone: a look at the TDP MMU would have said the same",
    ),
    Counter("rmap_sptes", "SPTEs", "shadow SPTEs that aging looked at"),
    Counter(
        "split_sptes", "SPTEs", "SPTEs of the TDP MMU that aging looked at beyond the one that a huge page can have"
    ),
    Counter("rcu_walks", "acquisitions", "walks under RCU"),
    Counter("rmap_lock_acquisitions", "acquisitions", "locks of one rmap"),
    Counter("mmu_lock_read_acquisitions", "acquisitions", "kvm->mmu_lock taken for read by aging"),
    Counter("mmu_lock_write_acquisitions", "acquisitions", "kvm->mmu_lock taken for write by aging"),
    Counter("tlb_flushes", "flushes", "remote TLB flushes after a young answer"),
    Counter(
        "wrong_evictions", "faults", "refaults within the true working set, which LRU would have kept (0 without truth)"
    ),
    Counter("resident_samples", "page ticks", "pages in memory, added up over all ticks (0 without truth)"),
    Counter("too_old_ticks", "page ticks", "how much older than true their generations said they were"),
    Counter("too_young_ticks", "page ticks", "how much younger"),
    Counter("cold_samples", "page ticks", "of resident_samples, those outside the true working set"),
    Counter("cold_found", "page ticks", "of these, those in generations that may be evicted; the rest is lost"),
    Counter("cold_mistaken", "page ticks", "pages of the true working set in generations that may be evicted"),
    Counter("aging_cpu_ns", "ns", "CPU time of aging walks, their notifier calls included"),
    Counter("reclaim_cpu_ns", "ns", "CPU time of reclaim: eviction, look-around, aging, swap-out"),
    Counter("fault_cpu_ns", "ns", "CPU time of faults: mapping, swap-in, KVM; without the reclaim they ran into"),
    *TIMES,
)

_SITES = ("walk", "look_around", "evict")
_DERIVED = {
    *(f"{what}_{site}" for what in ("young", "missed_young", "false_young", "notifier_calls") for site in _SITES),
    "notifier_calls_monitor",
    "monitor_young",
    "monitor_missed_young",
    "monitor_false_young",
    "notifier_failed",
    "rcu_walks",
    "rmap_lock_acquisitions",
    "mmu_lock_read_acquisitions",
    "mmu_lock_write_acquisitions",
    "tlb_flushes",
    "indirect_shadow_pages",
    "anon_huge_pages",
    "aging_cpu_ns",
    "reclaim_cpu_ns",
    "fault_cpu_ns",
    *(counter.name for counter in TIMES),
}

EVENTS = np.dtype(
    [(counter.name, np.int64) for counter in COUNTERS if counter.name not in _DERIVED],
    align=True,
)
"""One record a memcg: the counters that the compiled kernels keep; the others are derived at the end."""
