"""What a clock measures: the columns of a timed run, each with its unit and meaning. Without a clock they are 0."""

from __future__ import annotations

from enum import IntEnum

from coldfleet.hostsim.counters.columns import Counter

KINDS = ("some", "full")  # of pressure stall information
RESOURCES = {"memory": "psi", "io": "psi_io"}  # with the names of their columns
WINDOWS = (10, 60, 300)  # s, of its averages


class Cause(IntEnum):
    """What a vCPU, or a kernel thread, does with a ns. The first six are work: they accrue, and are worked off."""

    RUN = 0  # its own instructions and accesses; a kernel thread's work
    FAULT = 1  # faults of the primary MMU, the TDP MMU and the shadow MMU, and those that track accesses
    SWAP_IN = 2  # waiting for the swap device
    LOCK = 3  # waiting for mmu_lock
    RECLAIM = 4  # direct reclaim
    FILE_READ = 5  # waiting for the device of its file
    STEAL = 6  # it could run, but there was no CPU (the guest's steal time)
    IDLE = 7  # nothing to do


WORK = range(Cause.STEAL)

CAUSES = {
    Cause.RUN: ("run_ns", "vCPU time in the guest: its own instructions and accesses"),
    Cause.FAULT: ("fault_stall_ns", "vCPU time in faults: primary MMU, TDP MMU, shadow MMU, access tracking"),
    Cause.SWAP_IN: ("swap_in_stall_ns", "vCPU time waiting for pages from swap"),
    Cause.LOCK: ("lock_stall_ns", "vCPU time waiting for mmu_lock"),
    Cause.RECLAIM: ("direct_reclaim_stall_ns", "vCPU time in direct reclaim"),
    Cause.FILE_READ: ("file_read_stall_ns", "vCPU time waiting for pages of its file from their device"),
    Cause.STEAL: ("steal_ns", "vCPU time waiting for a CPU"),
    Cause.IDLE: ("idle_ns", "vCPU time with nothing to do"),
}
"""A column for each cause; their sum is the time that passed, of all vCPUs together."""

TIMES: tuple[Counter, ...] = (
    *(Counter(name, "ns", description) for name, description in CAUSES.values()),
    Counter(
        "unreclaimed_ns",
        "ns",
        "vCPU time that the same accesses take without reclaim; over the time not idle: the relative throughput",
    ),
    Counter("batches", "batches", "batches of accesses that were completed"),
    Counter("behind_ticks", "ticks", "how far the guest's work is behind at the end, for want of time"),
    Counter("aging_thread_cpu_ns", "ns", "CPU time of the aging thread, which ages and reclaims for user space"),
    Counter("aging_thread_lock_ns", "ns", "time for which that thread waited for mmu_lock"),
    Counter("kswapd_cpu_ns", "ns", "CPU time of kswapd on this guest's pages"),
    Counter("write_wait_ns", "ns", "time for which reclaim waited for writes to end, whoever reclaimed"),
    Counter("monitor_cpu_ns", "ns", "CPU time of the access monitor (DAMON, idle tracking, khugepaged)"),
    Counter("khugepaged_cpu_ns", "ns", "CPU time of khugepaged on this guest's pages"),
    Counter("aging_passes", "passes", "agings that the aging thread finished"),
    Counter("aging_pass_ns", "ns", "how long these took, from their first page table to their last"),
    Counter("mmu_lock_hold_ns", "ns", "time for which aging, and the access monitor, held mmu_lock for write"),
    Counter("resident_page_ms", "page ms", "pages in memory, times how long"),
    Counter("pool_page_ms", "page ms", "memory that the swap device's pool takes, times how long"),
    Counter(
        "reclaimed_page_ms", "page ms", "pages swapped out, less what the swap device's pool takes, times how long"
    ),
)
"""Times that are added up over guests and hosts."""

GAUGES: tuple[Counter, ...] = (
    Counter("latency_p50_ns", "ns", "median time that a batch of accesses took, waits for a CPU included"),
    Counter("latency_p99_ns", "ns", "99th percentile of the same"),
    *(
        gauge
        for resource, name in RESOURCES.items()
        for gauge in (
            *(
                Counter(
                    f"{name}_{kind}_avg{window}",
                    "percent",
                    f"{resource} pressure at the end: {kind} avg{window} of PSI",
                )
                for kind in KINDS
                for window in WINDOWS
            ),
            *(
                Counter(f"{name}_{kind}_ns", "ns", f"time under {resource} pressure: {kind} total of PSI")
                for kind in KINDS
            ),
        )
    ),
)
"""What can't be added up, float64: of a guest its memcg's, of a host its own, of a fleet the mean of its hosts.
Latencies are of all batches of the guest, host or fleet together."""


def no_gauges() -> dict[str, float]:
    """The gauges of a run without a clock."""
    return {gauge.name: 0.0 for gauge in GAUGES}


def no_time() -> dict[str, int]:
    """The times of a guest without a clock."""
    return {time.name: 0 for time in TIMES}
