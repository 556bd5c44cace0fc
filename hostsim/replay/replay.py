"""Replays a recording's schedule through the engine and writes down what a recorder would have seen.

The steps come out in the recordings' own format (tests/recordings/README.md), so that anyone can compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.kernels import KERNELS, Kernel
from coldfleet.hostsim.engine.state import (
    ACCESS_L2,
    ACCESS_MMAP,
    ACCESS_PAGE,
    ACCESS_WRITE,
    DIRTY,
    MEMCG_CHARGE_BATCH,
    MIN_NR_GENS,
    PMD_POPULATED,
    PRESENT,
    PTRS_PER_PTE,
    REFERENCED,
    SWAP_CLUSTER_MAX,
    TOUCHED,
    UPPER_LEVELS,
    Machine,
)
from coldfleet.hostsim.memory.access import access, access_file
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot, Watermarks
from coldfleet.hostsim.mm.faults import KVM_CACHE_REFILL, TDP_UPPER_TABLES
from coldfleet.hostsim.mm.readahead import XA_CHUNK_SIZE, XA_NODE_BYTES
from coldfleet.hostsim.replay.luck import AT_ONCE, Luck
from coldfleet.hostsim.replay.observe import memory_stat, observe
from coldfleet.hostsim.replay.recording import MAPPED, MAX_PAGES, Header, RecordedGuest, Recording
from coldfleet.hostsim.replay.tlb import Tlb
from coldfleet.hostsim.spec.errors import UserError, cited
from coldfleet.hostsim.spec.units import PAGE_BYTES
from coldfleet.hostsim.workload.mix_schedule import MixSchedule
from coldfleet.hostsim.workload.schedule import Schedule, fnv1a
from coldfleet.policies import Policy, get_policy

FIRST_KERNEL_PAGES = {"host": 2, "vm": 39}
"""Kernel memory of a memcg before the first touch, where the recording doesn't show it."""
LEFT_OF_FIRST_BYTES = 1024
"""Of these, what objects of a process (its VMAs) have left of the newest page: small objects are charged by bytes from
a page (struct memcg_stock_pcp), and the first nodes of its file's tree are taken from the rest. Any figure from 592 to
2,047 gives the same: one node at least, and no page less for 128 nodes."""
LATE_KERNEL_PAGES = {"vm": 37, "mix": 37, "nested": 37, "rmap": 73, "shadow": 73}
"""Pages that KVM adds to its caches of page tables at each refill: 36 tables, as many lists of what a shadow page table
maps, and their headers, which are small: whether these need a page more goes by how full the last one was ..."""
MORE_LATE_PAGES = {
    "6.1": {"vm": 1, "shadow": 1, "nested": 37},
    "6.18": {"vm": 1, "nested": 1},
}
"""... as it was on these; and 6.1 has lists for a nested guest, too."""
NESTED_TABLES = 2  # KVM page tables that a nested guest's L1 has beside those of its memory
LOWMEM_RESERVE_RATIO = 256  # sysctl vm.lowmem_reserve_ratio of the zones DMA and DMA32
DIRECT_IO_PAGES = 16  # of the recorder's process, 64 KiB: its buffer for the file's first contents
STACK_TOUCHED_EVERY = 64  # accesses; in truth at every one
LIST_ENTRY_BYTES = 4  # of the lists that the recorder gives to a guest; they lie in that buffer
RECORDER_PAGES = 8  # pages that the recorder itself adds to the CPU's batch while it writes a step: 8 or 9 on 7.3


def kernel_of(recording: Recording) -> Kernel:
    """The kernel that was recorded; raises UserError if it isn't modelled."""
    kernel = KERNELS.get(recording.header.kernel)
    if kernel is None:
        raise UserError(
            f"{recording.path}: header field 'rel' names kernel {cited(recording.header.kernel)}; "
            f"known are {', '.join(KERNELS)}"
        )
    return kernel


def rules_of(recording: Recording) -> tuple[Kernel, Policy]:
    """The kernel that was recorded, with the LRU that was on, and how it asks KVM."""
    kernel = kernel_of(recording)
    return replace(kernel, lru_gen=recording.header.lru_gen), get_policy(kernel.policy)


def check_replayable(recording: Recording) -> None:
    """Raises UserError, before anything is run, if the recording's kernel or schedule is not known."""
    kernel_of(recording)
    _check_memory(recording)
    _all_lists(recording)


def _check_memory(recording: Recording) -> None:
    """Raises UserError if guests had memory beside their own that no host could have given them."""
    for slot in slots_of(recording):
        beside = {"the first 'lg'": slot.own_pages, "counter kernel of 'st'": slot.first_fault_pages}
        for what, pages in beside.items():
            if pages > MAX_PAGES:
                raise UserError(f"{recording.path}: {what} tells of {pages} pages; at most {MAX_PAGES} are replayed")


def slots_of(recording: Recording) -> list[Memslot]:
    """The recorded guests' memory: MMUs, limit, and the pages and kernel memory that each had beside it.

    Kernel memory is as it was when the guest's memory was all there, in round 0.
    """
    header = recording.header
    own_limit = header.mode == "limit" and len(header.guests) == 1
    slots = []
    for number, guest in enumerate(header.guests):
        steps = [step for step in _first_round(recording) if recording.guest_of(step) == number]
        tables = -(-header.anon_pages // PTRS_PER_PTE)  # the engine charges these itself, and all of a file
        late = LATE_KERNEL_PAGES.get(guest.kind, 0) + MORE_LATE_PAGES.get(header.kernel, {}).get(guest.kind, 0)
        small = tables
        first = _first_kernel_pages(steps[0], guest)
        upper = _file_upper_pages(header)
        if header.huge and len(steps) > 1:  # later on KVM's cache grows as small pages come
            small = str(steps[1]["hp"]).count("s")
            steps = steps[:2]
        beside = _kernel_pages(steps) - late * ((small + TDP_UPPER_TABLES) // KVM_CACHE_REFILL)
        slots.append(
            Memslot(
                pages=header.anon_pages,
                file_pages=header.file.pages if header.file else 0,
                readahead_pages=header.file.readahead_pages if header.file else 0,
                file_upper_pages=upper,
                node_bytes=LEFT_OF_FIRST_BYTES if header.file and guest.kind == "host" else 0,
                file_random=header.file is not None and header.file.access == "mmaprnd",
                own_pages=_own_pages(header, steps[0]),
                buffer_pages=min(DIRECT_IO_PAGES, _own_pages(header, steps[0])) if header.file else 0,
                kernel_pages=first,
                first_fault_pages=max(
                    beside - first - tables - UPPER_LEVELS - upper - _kernel_pages_of_file(header), 0
                ),
                late_pages=late,
                kvm=guest.kind != "host",
                tdp=guest.kind not in ("shadow", "rmap"),
                max_pages=header.target if own_limit else 0,
                min_pages=header.protected_pages if number == 0 and header.protection == "min" else 0,
                low_pages=header.protected_pages if number == 0 and header.protection == "low" else 0,
                swappiness=header.swappiness,
                huge_pages=header.huge is not None,
                huge_reclaims=header.huge is not None and header.huge.reclaims,
            )
        )
    return slots


def _kernel_pages_of_file(header: Header) -> int:
    """Kernel memory that the engine charges for the file: nodes of its tree, and page tables if it is mapped."""
    if header.file is None:
        return 0
    nodes = -(-header.file.pages // XA_CHUNK_SIZE)
    tables = -(-header.file.pages // PTRS_PER_PTE) if header.file.access in MAPPED else 0
    return -(-nodes * XA_NODE_BYTES // PAGE_BYTES) + tables


def _file_upper_pages(header: Header) -> int:
    """Page tables above those of the file's mapping, if that lies apart from anonymous memory, with tables of its own.

    Without anonymous memory the file's mapping is the first one, for which the engine charges them.
    """
    apart = header.file is not None and header.file.access in MAPPED and header.anon_pages > 0
    return UPPER_LEVELS if apart else 0


def _own_pages(header: Header, start: dict[str, Any]) -> int:
    """Pages that the guest's process had before it touched its memory. The classic LRU shows no generations."""
    if header.lru_gen:
        return sum(anon for _, anon, _ in start["lg"])
    return int(start["st"].get("anon", 0)) // PAGE_BYTES


def _kernel_pages(steps: list[dict[str, Any]]) -> int:
    return int(max((step["st"].get("kernel", 0) for step in steps), default=0)) // PAGE_BYTES


def _first_kernel_pages(start: dict[str, Any], guest: RecordedGuest) -> int:
    """Kernel memory before the first touch: memory.stat may not show it yet, memory.current may hold a stock."""
    known: int = _kernel_pages([start]) or start.get("cur", 0)
    if 0 < known < MEMCG_CHARGE_BATCH:
        return known
    return FIRST_KERNEL_PAGES["host" if guest.kind == "host" else "vm"]


def _parent_kernel_pages(recording: Recording) -> int:
    """Kernel memory of the memcg above the guests' that is not theirs: the hierarchical sum less the members'."""
    guests = range(len(recording.header.guests))
    own = _first_round(recording)
    members = sum(_kernel_pages([step for step in own if recording.guest_of(step) == g]) for g in guests)
    parent = [step for step in recording.steps if step["ev"] == "parent" and step["r"] == 0]
    return max(_kernel_pages(parent) - members, 0)


def _first_round(recording: Recording) -> list[dict[str, Any]]:
    """The guests' steps of round 0: what comes later is not known yet."""
    return [step for step in recording.steps if step["ev"] != "parent" and step["r"] == 0]


def _free_pages(header: Header) -> int:
    """What can be allocated before it is filled: the uppermost zone's free pages, and what it may take of those below.

    A lower zone keeps its low watermark, and a reserve against allocations that could have come from above
    (lowmem_reserve: the size of the zones above over LOWMEM_RESERVE_RATIO).
    """
    free = managed_above = 0
    for zone in reversed(header.zones):
        kept = zone["low"] + managed_above // LOWMEM_RESERVE_RATIO if managed_above else 0
        free += max(zone["free"] - kept, 0)
        managed_above += zone["managed"]
    return free


def _watermarks(header: Header) -> Watermarks | None:
    if not header.zones:
        return None
    goal = sum(max(zone["high"], SWAP_CLUSTER_MAX) for zone in header.zones)
    return Watermarks(header.zones[-1]["low"], header.zones[-1]["high"], goal)


def first_writes(header: Header, guest: RecordedGuest) -> npt.NDArray[np.uint32]:
    """Round 0: every page is written, in order."""
    if guest.mixed:
        return _by_kind(_mix(header, guest).first_writes(), guest) | np.uint32(ACCESS_WRITE)
    return _by_kind(np.arange(header.pages, dtype=np.uint32), guest) | np.uint32(ACCESS_WRITE)


def access_lists(header: Header, guest: RecordedGuest) -> npt.NDArray[np.uint32]:
    """The accesses as the recorder listed them, uint32 (rounds, accesses)."""
    if guest.mixed:
        return _mix(header, guest).lists()
    schedule = Schedule(guest.workload, header.pages, header.accesses, header.rounds, guest.seed, header.layout)
    return schedule.lists()


def _mix(header: Header, guest: RecordedGuest) -> MixSchedule:
    return MixSchedule(guest.workload, header.pages, header.accesses, header.rounds, guest.seed, header.layout)


def _all_lists(recording: Recording) -> list[npt.NDArray[np.uint32]]:
    """Every guest's lists; raises UserError where a hash in the recording contradicts them."""
    header = recording.header
    lists = [access_lists(header, guest) for guest in header.guests]
    for (guest, round_number), digest in recording.list_hashes.items():
        if guest >= len(lists) or not 0 <= round_number <= header.rounds:
            raise UserError(f"{recording.path}: ev=list of guest {guest}, round {round_number}: there is none")
        if round_number:
            listed = lists[guest][round_number - 1]
        else:
            listed = first_writes(header, header.guests[guest]) & np.uint32(ACCESS_PAGE)
        ours = f"{int(fnv1a(listed)):016x}"
        if ours != digest:
            raise UserError(
                f"{recording.path}: round {round_number}: schedule hash is {digest:.60}, but this header's schedule "
                f"gives {ours}: header or recording was changed"
            )
    return lists


def _by_kind(accesses: npt.NDArray[np.uint32], guest: RecordedGuest) -> npt.NDArray[np.uint32]:
    """Who makes the accesses: a nested guest's L2 all of them, a mix' L2 those marked, else L1."""
    if guest.kind == "nested":
        return accesses | np.uint32(ACCESS_L2)
    return accesses if guest.kind == "mix" else accesses & np.uint32(ACCESS_PAGE)


def simulate_recording(
    recording: Recording,
    vmm_touches: bool = False,
    luck: np.uint64 | None = None,
    rules: tuple[Kernel, Policy] | None = None,
) -> Iterator[dict[str, Any]]:
    """Runs the recorded schedule; yields one step for each of the recording's, as the recorder writes it.

    ``vmm_touches``: a guest's VMM touches a page of its own in every round, which no recording tells. ``luck``: what
    a kernel doesn't repeat is drawn with this key (hostsim.replay.luck); None: all is as usual. ``rules``: other ones
    than the recorded kernel's.
    """
    header = recording.header
    kernel, policy = rules or rules_of(recording)
    _check_memory(recording)
    lists = _all_lists(recording)
    parent_limit = header.target if header.mode == "limit" and len(header.guests) > 1 else 0
    memory = HostMemory(
        slots_of(recording),
        kernel,
        policy,
        parent_max_pages=parent_limit,
        parent_kernel_pages=_parent_kernel_pages(recording),
        shared_cpu=True,
        free_pages=_free_pages(header),
        min_ttl_ms=header.min_ttl_ms,
        watermarks=_watermarks(header),
        sampled=luck is not None and kernel.damon_stat,
    )
    guests = list(range(len(header.guests)))
    drawn = None if luck is None else Luck(memory, luck, kernel.damon_stat)
    tlb = Tlb(drawn.tlb_entries()) if drawn else Tlb()
    done: tuple[str, int, int] | None = None
    asked = 0
    for step in recording.steps:
        half = recording.guest_of(step, "h")
        action = (step["ev"], step["r"], half)
        if step["ev"] != "parent" and action != done:
            if vmm_touches and step["ev"] == "touch" and header.guests[half].kind != "host":
                memory.touch_own(half, 0, min(1, memory.own_pages(half)))
            asked = _perform(memory, header, lists, *action, tlb, drawn)
            memory.drain()
            memory.flush_stats()
            memory.machine.cpus["added"] = RECORDER_PAGES
            done = action
        fields: dict[str, Any] = {name: step[name] for name in ("ev", "of", "r", "c", "h") if name in step}
        shown = {}
        if step["r"] == 0:  # what slots_of has read: no result, but whoever replays this needs it, too
            fields |= {"cur": step["cur"]} if "cur" in step else {}
            shown = {"kernel": step["st"]["kernel"]} if "kernel" in step["st"] else {}
        if step["ev"] == "parent":
            yield {**fields, "x": asked, "st": memory_stat(memory, guests) | shown}
            continue
        guest = recording.guest_of(step)
        seen = observe(memory, guest)
        seen["st"] |= shown
        idle = step["ev"] in ("populate", "touch") and guest != half
        yield {**fields, "x": 0 if idle else asked, **seen}


def _perform(
    memory: HostMemory,
    header: Header,
    lists: list[npt.NDArray[np.uint32]],
    event: str,
    round_number: int,
    guest: int,
    tlb: Tlb,
    luck: Luck | None,
) -> int:
    """Does what the recorder did before it wrote the step; returns the step's x."""
    recorded = header.guests[guest]
    if event == "start":
        for g, each in enumerate(header.guests):
            _inherit_tables(memory, g, each.kind == "nested")
            memory.touch_own(g)
        if header.file:
            _write_file_directly(memory)
        return 0
    if event == "populate":
        _touch(memory, header, guest, first_writes(header, recorded), tlb, luck)
        return header.pages
    if event == "touch":
        write = ACCESS_WRITE if header.writes else 0
        accesses = _by_kind(lists[guest][round_number - 1], recorded) | np.uint32(write)
        _touch(memory, header, guest, accesses, tlb, luck)
        return header.accesses
    if event == "age":
        memory.age(guest)
        return 0
    surplus = sum(memory.in_memory(g) for g in range(len(header.guests))) - header.target
    if surplus <= 0:
        return 0
    if event == "evict":
        oldest_evictable = int(memory.lruvec(guest)["max_seq"]) - MIN_NR_GENS
        memory.evict(guest, oldest_evictable, header.evict_swappiness, surplus)
    elif len(header.guests) > 1:
        memory.memory_reclaim_parent(surplus)
    else:
        memory.memory_reclaim(guest, surplus)
    return surplus


_FILE_BITS = {"read": 0, "mmap": ACCESS_MMAP, "mmaprnd": ACCESS_MMAP, "write": ACCESS_WRITE}


def _touch(
    memory: HostMemory, header: Header, guest: int, accesses: npt.NDArray[np.uint32], tlb: Tlb, luck: Luck | None
) -> None:
    """The accesses in order, those to pages of the file by the process, as the header says it accessed the file."""
    memory.switch_to(guest)
    pages = accesses & np.uint32(ACCESS_PAGE)
    to_file = pages >= header.anon_pages if header.file else np.zeros(len(pages), np.bool_)
    if header.file:
        of_file = (pages - np.uint32(header.anon_pages)) | np.uint32(_FILE_BITS[header.file.access])
        accesses = np.where(to_file, of_file, accesses)
    hidden = _found(tlb, header, guest, pages, to_file)
    at_once = STACK_TOUCHED_EVERY if header.file else AT_ONCE if luck else max(len(accesses), 1)
    for begin in range(0, len(accesses), at_once):
        part = slice(begin, begin + at_once)
        if header.file:
            _touch_beside(memory, header, guest)
        _access(memory.machine, guest, accesses[part], to_file[part], hidden[part])
        if luck:
            luck.accessed(guest, len(accesses[part]))
    tlb.flush()
    if header.file and header.file.synced:
        memory.flush()
        memory.complete_io()


def _found(
    tlb: Tlb, header: Header, guest: int, pages: npt.NDArray[np.uint32], to_file: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which accesses of a process find their translation in the TLB.

    A guest's do not (hostsim.replay.tlb), nor does pread(2) or pwrite(2) need one. kswapd, which is no process, leaves
    nothing in it when it unmaps a page, and QEMU nothing when a page in a region with huge pages is invalidated.
    """
    found = np.zeros(len(pages), np.bool_)
    if header.guests[guest].kind == "host" and not header.huge and not header.zones:
        mapped = ~to_file if header.file and header.file.access not in MAPPED else slice(None)
        found[mapped] = tlb.look_up(pages[mapped].astype(np.int64))
    return found


def _inherit_tables(memory: HostMemory, guest: int, nested: bool) -> None:
    """The process was forked from the recorder: the page tables of its own pages came with it, and are not charged."""
    mm = memory.machine.mms[guest]
    memory.machine.pmds[int(mm["own_first"]) // PTRS_PER_PTE : int(mm["file_first"]) // PTRS_PER_PTE] = PMD_POPULATED
    mm["tdp_tables"] = NESTED_TABLES if nested else 0


def _write_file_directly(memory: HostMemory) -> None:
    """The recorder wrote the file with O_DIRECT: fast GUP has left PG_referenced on the pages of its buffer."""
    mm = memory.machine.mms[0]
    memory.machine.pages["state"][mm["own_first"] : mm["own_first"] + mm["buffer_pages"]] |= REFERENCED


def _touch_beside(memory: HostMemory, header: Header, guest: int) -> None:
    """What a file's toucher touches of its own all the time: its stack, and the lists that it gives to a guest."""
    buffer_pages = int(memory.machine.mms[guest]["buffer_pages"])
    memory.touch_own(guest, buffer_pages)
    if header.guests[guest].kind != "host":
        memory.touch_own(guest, 0, min(-(-header.accesses * LIST_ENTRY_BYTES // PAGE_BYTES), buffer_pages))


@compiled
def _access(
    m: Machine,
    g: int,
    accesses: npt.NDArray[np.uint32],
    to_file: npt.NDArray[np.bool_],
    hidden: npt.NDArray[np.bool_],
) -> None:
    """Accesses to the file, where ``to_file`` says so, and to anonymous memory in turns; those that are ``hidden`` by
    the TLB set no Accessed bit of a page that is there."""
    begin = 0
    for end in range(1, len(accesses) + 1):
        if end < len(accesses) and to_file[end] == to_file[begin] and not hidden[end] and not hidden[begin]:
            continue
        if hidden[begin] and _is_unseen(m, g, accesses[begin], to_file[begin]):
            m.events[g].accesses += 1
        elif to_file[begin]:
            access_file(m, g, accesses[begin:end])
        else:
            access(m, g, accesses[begin:end])
        begin = end


@inlined
def _is_unseen(m: Machine, g: int, access: int, to_file: bool) -> bool:
    """Whether an access by a translation in the TLB needs no page walk: the page is mapped, and dirty for a write."""
    mm = m.mms[g]
    page = (mm.file_first if to_file else mm.first) + np.int64(access & ACCESS_PAGE)
    word = page >> 6
    bit = np.uint64(1) << np.uint64(page & 63)
    if mm.oom_reason or not m.bits[word, PRESENT] & bit or (access & ACCESS_WRITE and not m.bits[word, DIRTY] & bit):
        return False
    m.bits[word, TOUCHED] |= bit
    return True
