"""CPU time of what a host does: constants, each with its unit and source, and the sums over counters.

"Assumed" marks a figure for which no published measurement was found; it is an order of magnitude. Figures that come
from a fit are in hostsim.spec.calibration. Waiting is not CPU time: hostsim.costs.rwlock and hostsim.clock.host_clock
have it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.state import CALLS, FLUSHES, LOCKS
from coldfleet.hostsim.spec.calibration import Calibration
from coldfleet.policies import Lock, Site

PTE_NS = 2.0  # assumed: reading one PTE in order and clearing its Accessed bit
MMU_LOCK_NS = 5.0  # assumed: an uncontended write_lock and unlock, over RCU
LOCKED_SHARE = 0.4  # assumed: of the aging of a page, the part under mmu_lock
RMAP_LOCK_NS = 10.0  # assumed: three rmap look-ups and one compare-and-exchange each way
RMAP_ADD_NS = 100.0  # assumed: a shadow fault adds its SPTE to the rmap, under the rmap's lock
SHADOW_FAULT_HOLD_NS = 1000.0  # assumed: FNAME(fetch), its prefetch and the rmaps, under mmu_lock for write
TLB_FLUSH_NS = 2000.0  # assumed: one IPI round; v1's cover letter shows flushing dominating reclaim before 6.13
SCAN_NS = 100.0  # assumed: isolating, locking and putting back one page, without its notifier call
SORT_NS = 20.0  # assumed: moving one page from list to list
RMAP_WALK_NS = 340.0  # from SWAP_OUT_NS: finding one PTE by the rmap, to clear its Accessed bit. A profile of kswapd
# (commit 018ee47f1489, "mm: multi-gen LRU: exploit locality in rmap") has 48.16 % of its time in compression and 8.20 %
# in page_vma_mapped_walk, which is called twice for a page that is swapped out: to ask, and to unmap it
SWAP_OUT_NS = 4000.0  # assumed: compressing 4 KiB on zram (lzo-rle) and unmapping it
SWAP_IN_NS = 2000.0  # assumed: decompressing 4 KiB on zram
HUGE_ZERO_NS = 2 * 2**20 / 11.76  # zeroing 2 MiB at 11.76 GB/s: what a CPU of an AMD Genoa does at demand faults until
# Linux 6.18 (commit 9890ecab6ad9, "mm: folio_zero_user: clear pages sequentially", which doubles that)
COLLAPSE_NS = 2 * HUGE_ZERO_NS  # assumed: copying 512 pages reads as much as it writes
THP_SPLIT_NS = 512 * SORT_NS + 2 * TLB_FLUSH_NS  # assumed: every page gets its flags and its place, and TLBs are
# flushed as the PMD goes and as its 512 PTEs come
IO_NS = 2000.0  # assumed: submitting and completing the I/O of one file page; its wait is not CPU time

_LOCK_NS = np.array(
    [{Lock.MMU_WRITE: MMU_LOCK_NS, Lock.MMU_READ: MMU_LOCK_NS, Lock.RMAP: RMAP_LOCK_NS}.get(lock, 0.0) for lock in Lock]
)


def notifier_call_ns(calibration: Calibration) -> float:
    """SRCU, the chain, the look-up of the gfn and the walk of the TDP MMU under RCU, for one page."""
    return max(0.0, calibration.aging_page_ns - PTE_NS)


def site_ns(site_counters: npt.NDArray[np.int64], calibration: Calibration) -> float:
    """CPU time (ns) of the notifier calls of one site, from its row of Machine.sites."""
    locks = site_counters[LOCKS : LOCKS + len(Lock)]
    calls = site_counters[CALLS] * notifier_call_ns(calibration) + site_counters[FLUSHES] * TLB_FLUSH_NS
    return float(calls + locks @ _LOCK_NS)


def cpu_ns(counters: Mapping[str, int], sites: npt.NDArray[np.int64], calibration: Calibration) -> dict[str, int]:
    """CPU time by cause, ns, from a guest's counters and its (3 sites, SITE_COLUMNS) of Machine.sites."""
    aging = (counters["walk_ptes"] + counters["split_sptes"]) * PTE_NS + site_ns(sites[Site.WALK], calibration)
    evicting = (
        (counters["pgscan"] + counters["damos_applied"]) * SCAN_NS
        + (counters["pgrefill"] + counters["pgactivate"]) * SORT_NS
        + counters["rmap_walks"] * RMAP_WALK_NS
        + counters["pswpout"] * SWAP_OUT_NS
        + counters["thp_split_page"] * THP_SPLIT_NS
        + site_ns(sites[Site.LOOK_AROUND], calibration)
        + site_ns(sites[Site.EVICT], calibration)
    )
    violations = counters["tdp_faults"] + counters["shadow_faults"]
    faults = (
        max(violations, counters["pgfault"]) * calibration.fault_ns
        + counters["nested_faults"] * calibration.nested_fault_ns
        + counters["thp_fault_alloc"] * HUGE_ZERO_NS
        + counters["pswpin"] * SWAP_IN_NS
        + counters["file_reads"] * IO_NS
    )
    return {
        "aging_cpu_ns": round(aging),
        "reclaim_cpu_ns": round(aging + evicting),
        "fault_cpu_ns": round(faults),
    }
