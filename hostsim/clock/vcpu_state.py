"""What compiled code knows of the guests of a host on a clock: their vCPUs, what they wait for, what was measured."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.clock import psi, time_account
from coldfleet.hostsim.clock.latency import BUCKETS
from coldfleet.hostsim.counters.timing import RESOURCES, TIMES, Cause
from coldfleet.hostsim.workload.batches import WATCHED

TIME = np.dtype([(time.name, np.int64) for time in TIMES], align=True)
RULES = np.dtype(
    [
        ("tick_ns", np.int64),
        ("access_ns", np.int64),
        ("free", np.int64),  # nothing takes time
        ("scale", np.float64),  # pages that a page of the simulation stands for
        ("aging_page_ns", np.float64),  # aging a page under mmu_lock takes so long, but for the wait, ...
        ("aging_hold_ns", np.float64),  # ... and holds it for so long
        ("fault_ns", np.float64),  # a fault while nobody else on the host has one, ...
        ("serial_ns", np.float64),  # ... the part of it in which it keeps all others out, ...
        ("coherency_ns", np.float64),  # ... and what that takes longer from another socket (hostsim.costs.scalability)
        ("swap_io", np.int64),  # who reads from swap waits for a device: it isn't zram
        ("tlb_saving", np.float64),  # share of the time of an access that it saves in a huge page
        ("aging_thread", np.int64),  # the number of the aging thread, ...
        ("kswapd", np.int64),  # ... and of kswapd's; 0: there is none
        ("workers", np.int64),  # there are further kernel threads, which work in Python ...
        ("extras", np.int64),  # ... and guests with extras (hostsim.workload.guest_extras)
    ],
    align=True,
)
"""What stays as it is; hostsim.spec.host_spec.ClockSpec has most of it."""

PROGRESS = np.dtype(
    [
        ("tick", np.int64),
        ("began_ns", np.int64),  # when the tick began
        ("slice", np.int64),  # its present time slice, the first is 1 ...
        ("slices", np.int64),  # ... of so many, and more where CPUs are left to those that want them
        ("level_ns", np.int64),  # up to where all work in that, in each thread's time of the tick; ...
        ("share_ns", np.int64),  # ... up to where an equal share of the CPUs reaches, of which all have ...
        ("capacity_ns", np.int64),  # ... so much in a tick
        ("beside", np.int64),  # others than guests and kswapd work in the tick
        ("stage", np.int64),  # who works: of GUESTS and those after it
        ("guest", np.int64),  # the next guest, ...
        ("turn", np.int64),  # ... and how far it is: of EXTRAS_BEGIN and those after it
        ("visit", np.int64),  # kswapd's visit that was made under the eyes of Python, or NOT_MADE; ...
        ("step", np.int64),  # ... and the aging thread's step
        ("missing", np.int64),  # the state of a lock that has to be solved (hostsim.costs.mmu_lock)
        ("faults", np.int64),  # of all guests (pgfault), when the last tick began
        ("newcomers", np.int64),  # vCPUs of guests that were not there in the last tick
    ],
    align=True,
)
"""How far the host's time has come."""
NOT_MADE = -2

GUESTS, AGING_THREAD, WORKERS, TICK_END = range(4)
"""The stages of a time slice."""
EXTRAS_BEGIN, ACCESSES, KSWAPD, EXTRAS_AFTER, USER_SPACE, EXTRAS_END = range(6)
"""The stages of a guest's turn in it. While Python does what its extras do, the stage is the one after that."""

VISIT, STEP, EXTRAS, WORK, SOLVE = range(WATCHED + 1, WATCHED + 6)
"""What compiled code needs, beside hostsim.workload.batches.DRAW and WATCHED: that Python makes kswapd's next visit, or
takes user space's next step; does what a guest's extras do; lets the further kernel threads work; or solves a lock."""

MEMORY, IO = range(len(RESOURCES))

GUEST = np.dtype(
    [
        ("first", np.int64),  # the thread that is its first vCPU ...
        ("vcpus", np.int64),  # ... of so many
        ("arrives", np.int64),  # the tick in which it populates its memory
        ("has_work", np.int64),  # accesses of its ticks so far are left
        ("watched", np.int64),  # its next batch was made in memory, under the eyes of Python
        ("swapped_in", np.int64),  # pages: all, ...
        ("restored", np.int64),  # ... and those of the working set
        ("file_requests", np.int64),  # reads from files: all, ...
        ("thrashing", np.int64),  # ... and those for a page of the working set
        ("extras", np.int64),  # it has some
        ("huge_share", np.float64),  # share of its memory that is huge pages, at the end of the last tick, ...
        ("whole_share", np.float64),  # ... and the same if every whole 2 MiB were one
        ("file_queue", np.int64),  # of VCpus.file_queues, that of its file's device
        ("tdp_wait_ns", np.float64),  # waits for mmu_lock, at the rates of the last tick: of a TDP fault, ...
        ("shadow_wait_ns", np.float64),  # ... of a shadow fault, ...
        ("aging_wait_ns", np.float64),  # ... of an aging step, ...
        ("own_aging_wait_ns", np.float64),  # ... and of one by a vCPU that reclaims the guest's memory
        ("faults", np.int64, (2,)),  # TDP and shadow faults up to the last tick, ...
        ("new_faults", np.int64, (2,)),  # ... and in it
        ("locks", np.int64, (2,)),  # what aging took: mmu_lock for write, and locks of rmaps, up to the last tick, ...
        ("new_locks", np.int64, (2,)),  # ... in it, but for what vCPUs of the guest took, ...
        ("new_own_locks", np.int64, (2,)),  # ... and they, ...
        ("own_locks", np.int64, (2,)),  # ... and in this tick; ...
        ("batch_locks", np.int64, (2,)),  # ... all of aging's, before the batch that is under way
        ("locks_changed", np.int64),  # somebody wrote under mmu_lock in it, or waited, and the new waits aren't set yet
    ],
    align=True,
)


class VCpus(NamedTuple):
    """All guests of a host on a clock.

    ``rules``: RULES (1,). ``progress``: PROGRESS (1,). ``guests``: GUEST. ``threads``: time_account.THREAD, the vCPUs,
    then the kernel threads.
    ``tasks``: int64 (RESOURCES, vCPUs, 3), what each did in the last tick, for PSI; ``cpus``: int64 (vCPUs,), on which
    CPU; ``seen``: int64 (vCPUs, causes), what they had done before. ``times``: TIME of each guest. ``latencies``: int64
    (guests, latency.BUCKETS). ``psis``: psi.PSI (guests + 1, RESOURCES) of the guests' memcgs, then of the host.
    ``pressure``: float64 (CPUs, 4), scratch.
    ``queue``: hostsim.swap.queue.SWAP (1,). ``file_queues``: the same of each kind of device for files; without files,
    of one that takes no time.
    ``fault_ps``: int64 (1,), what a fault costs now: CostModel.fault_ps. ``solved``: hostsim.costs.mmu_lock.SOLUTION.
    """

    rules: npt.NDArray[Any]
    progress: npt.NDArray[Any]
    guests: npt.NDArray[Any]
    threads: npt.NDArray[Any]
    tasks: npt.NDArray[np.int64]
    cpus: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]
    times: npt.NDArray[Any]
    latencies: npt.NDArray[np.int64]
    psis: npt.NDArray[Any]
    pressure: npt.NDArray[np.float64]
    queue: npt.NDArray[Any]
    file_queues: npt.NDArray[Any]
    fault_ps: npt.NDArray[np.int64]
    solved: npt.NDArray[Any]


def new_vcpus(
    vcpus: list[int],
    arrives: list[int],
    workers: int,
    pcpus: int,
    rules: tuple[Any, ...],
    queue: npt.NDArray[Any],
    file_queues: npt.NDArray[Any],
    fault_ps: npt.NDArray[np.int64],
    solved: npt.NDArray[Any],
) -> VCpus:
    """The guests' ``vcpus``, of those who come in the ticks ``arrives``, and so many kernel threads, that have done
    nothing yet; ``pcpus`` 0: one for each vCPU."""
    count = sum(vcpus)
    progress = np.zeros(1, PROGRESS)
    progress["visit"] = progress["step"] = NOT_MADE
    guests = np.zeros(len(vcpus), GUEST)
    guests["vcpus"], guests["arrives"] = vcpus, arrives
    guests["first"] = np.cumsum(vcpus) - vcpus
    return VCpus(
        np.array([rules], RULES),
        progress,
        guests,
        np.zeros(count + workers, time_account.THREAD),
        np.zeros((len(RESOURCES), count, 3), np.int64),
        np.zeros(count, np.int64),
        np.zeros((count, len(Cause)), np.int64),
        np.zeros(len(vcpus), TIME),
        np.zeros((len(vcpus), BUCKETS), np.int64),
        np.zeros((len(vcpus) + 1, len(RESOURCES)), psi.PSI),
        np.zeros((pcpus or count, 4)),
        queue,
        file_queues,
        fault_ps,
        solved,
    )
