"""A host's memory with the operations that one can do to it; the door to the compiled kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.counters.counters import EVENTS
from coldfleet.hostsim.engine.far_calls import link
from coldfleet.hostsim.engine.kernels import Kernel
from coldfleet.hostsim.engine.state import (
    ANON,
    ASK,
    BIT_COLUMNS,
    CLASSIC,
    CPU,
    FILE,
    FILE_PAGE,
    LRUVEC,
    MAPS_HUGE,
    MAX_NR_GENS,
    MIN_LRU_BATCH,
    MM,
    NO_TASK,
    NODE,
    PAGE,
    PARENT,
    PARENT_MEMCG,
    PTRS_PER_PTE,
    RECLAIM,
    SITE_COLUMNS,
    SPLIT_SPTES,
    VM,
    WORDS_PER_TABLE,
    Machine,
    Record,
)
from coldfleet.hostsim.memory import access, ground_truth
from coldfleet.hostsim.mm import aging, classic, faults, kswapd, lifetime, lru, min_ttl, pageout, reclaim, writeback
from coldfleet.hostsim.mm.oom_kill import OOM_REASONS
from coldfleet.hostsim.mm.swap_slots import UNLIMITED
from coldfleet.hostsim.mm.swap_state import FAR_AWAY, FIRST_HITS
from coldfleet.policies import Policy, Site

FIRST_SEQ = 3  # max_seq of a fresh lruvec
GENERATION_COLUMNS = 2
NEVER_KILLED = -1  # a tick
SIZE_CLASSES = 256  # of zram's pool, one byte a page


@dataclass(frozen=True)
class Memslot:
    """The memory of one guest.

    ``pages``: 4 KiB pages of the memslot; ``own_pages``: further anonymous pages of its process (the VMM), of which the
    first ``buffer_pages`` are a mapping of their own and the others its stack.
    ``kernel_pages``: kernel memory charged to the memcg from the start; ``first_fault_pages`` and ``late_pages``: what
    its first fault and each refill of KVM's cache of page tables add beside page tables.
    ``kvm``: KVM is subscribed to its mm, with or without the TDP MMU. ``max_pages``: memory.max,
    ``high_pages``: memory.high (0: none); ``min_pages``, ``low_pages``: memory.min and memory.low.
    ``extras``: the guest is more than plain; hostsim.memory.extras sets up what.
    ``file_pages``: pages of a file that the process uses, by read(2), write(2) and a mapping (hostsim.mm.filemap);
    ``readahead_pages``: the most that is read of it at a time (read_ahead_kb; 0: what is asked for, as in recordings).
    ``file_random``: its mapping has MADV_RANDOM. ``file_upper_pages``: page tables that its mapping needs above those
    that map pages, where it shares none with the memslot. ``node_bytes``: what is left of the page from which the first
    nodes of its tree are taken.
    ``huge_pages``: the first touch of 2 MiB of the memslot gets a huge page where there is room for one
    (transparent_hugepage); ``huge_reclaims``: it reclaims for it, ``huge_wakes``: it wakes kswapd for it (defrag).
    HostMemory says where that is so. ``l1_huge``: the page tables that the shadow MMU shadows have huge pages, too.
    ``split_share``: the share of its 2 MiB, evenly spread over all guests, that KVM maps by small SPTEs in any case.
    ``online``: the guest is there from the start; else it comes with HostMemory.arrive.
    """

    pages: int
    own_pages: int = 0
    buffer_pages: int = 0
    kernel_pages: int = 0
    first_fault_pages: int = 0
    late_pages: int = 0
    kvm: bool = True
    tdp: bool = True
    max_pages: int = 0
    min_pages: int = 0
    low_pages: int = 0
    high_pages: int = 0
    swappiness: int = 60
    extras: bool = False
    file_pages: int = 0
    readahead_pages: int = 0
    file_random: bool = False
    file_upper_pages: int = 0
    node_bytes: int = 0
    huge_pages: bool = False
    huge_reclaims: bool = False
    huge_wakes: bool = False
    l1_huge: bool = True
    split_share: float = 0.0
    online: bool = True


class Watermarks(NamedTuple):
    """Pages that should be free (/proc/zoneinfo): kswapd is woken below ``low`` and stops at ``high``.

    ``goal``: pages that it sets out to reclaim in one pass, the sum of all zones' high watermarks. ``min``: tasks that
    allocate below it reclaim themselves, where kswapd takes time.
    """

    low: int
    high: int
    goal: int
    min: int = 0


class HostMemory:
    """The pages of a host under one kernel and one policy; guests are numbered in the order of the slots.

    ``parent_max_pages``: memory.max of the memcg above all guests' (0: none), ``parent_kernel_pages`` what is charged
    to it alone; ``parent_protection``: its memory.min and memory.low, pages, None: the guests' memcgs are the root's
    children. ``recursive_protection``: cgroup2 is mounted with memory_recursiveprot.
    ``shared_cpu``: all guests run on one CPU and share its batches, else each has a CPU of its own.
    ``free_pages``, ``watermarks``: the host's free memory at the start, beside the guests' ``kernel_pages``, and when
    kswapd runs; None: as much as needed. ``swap_pages``: slots of the swap device (None: as many as needed).
    ``compressed_swap``: what it stores takes the host's memory (hostsim.swap.zram says how much), at most
    ``pool_limit`` pages (0: no limit). ``min_ttl_ms``: of kswapd (hostsim.mm.min_ttl).
    ``page_cluster``: vm.page-cluster, of no use on a synchronous swap device; ``rotating_swap``: the device is a disk.
    Huge pages are modelled under MGLRU and a synchronous swap device, at full scale, for processes and plain guests;
    else ValueError.
    ``sampled``: an access monitor takes Accessed bits though no guest has extras.
    ``watched``: subclasses that look at every access say so. ``scale``: pages that one of these stands for;
    ``call_scale``: how much smaller reclaim calls are (Kernel.encode).
    """

    watched = False

    def __init__(
        self,
        slots: list[Memslot],
        kernel: Kernel,
        policy: Policy,
        *,
        parent_max_pages: int = 0,
        parent_kernel_pages: int = 0,
        parent_protection: tuple[int, int] | None = None,
        recursive_protection: bool = True,
        shared_cpu: bool = False,
        async_swap: bool = False,
        free_pages: int = 0,
        watermarks: Watermarks | None = None,
        min_ttl_ms: int = 0,
        swap_pages: int | None = None,
        compressed_swap: bool = False,
        page_cluster: int = 0,
        rotating_swap: bool = False,
        pool_limit: int = 0,
        sampled: bool = False,
        scale: int = 1,
        call_scale: int = 1,
    ) -> None:
        tables = [-(-slot.pages // PTRS_PER_PTE) for slot in slots]
        buffer_tables = [-(-slot.buffer_pages // PTRS_PER_PTE) for slot in slots]
        own_tables = [
            buffers + -(-(slot.own_pages - slot.buffer_pages) // PTRS_PER_PTE)
            for buffers, slot in zip(buffer_tables, slots, strict=True)
        ]
        file_tables = [-(-slot.file_pages // PTRS_PER_PTE) for slot in slots]
        table_count = sum(tables) + sum(own_tables) + sum(file_tables)
        pages = table_count * PTRS_PER_PTE
        list_heads = len(slots) * MAX_NR_GENS * GENERATION_COLUMNS
        code = policy.encode()
        with_huge = any(slot.huge_pages for slot in slots)
        if with_huge and (scale > 1 or not kernel.lru_gen or any(slot.extras for slot in slots)):
            raise ValueError("huge pages: not with this LRU, scale or kind of guest")
        with_slots = rotating_swap or (with_huge and swap_pages is not None)
        with_extras = any(slot.extras for slot in slots)
        self.kernel, self.slots = kernel, slots
        self.has_io = async_swap or any(slot.file_pages for slot in slots)
        rows = np.zeros(pages + list_heads, PAGE)
        rows["towards_tail"] = rows["towards_head"] = np.arange(len(rows))
        self.machine = Machine(
            bits=_cache_aligned(table_count * WORDS_PER_TABLE),
            pages=rows,
            filters=np.zeros((table_count, 2), np.uint8),
            pmds=np.zeros(table_count, np.uint8),
            shadow_tables=np.zeros(table_count, np.uint8),
            huge=np.zeros(table_count if with_huge else 0, np.uint8),
            huge_touched=np.zeros(table_count * WORDS_PER_TABLE if with_huge else 0, np.uint64),
            lruvecs=np.zeros(len(slots), LRUVEC),
            mms=np.zeros(len(slots), MM),
            cpus=np.zeros(1 if shared_cpu else len(slots), CPU),
            parent=np.zeros(1, PARENT),
            classic=np.zeros(len(slots) + 1, CLASSIC),
            node=np.zeros(1, NODE),
            events=np.zeros(len(slots), EVENTS),
            sites=np.zeros((len(slots), len(Site) + 1, SITE_COLUMNS), np.int64),
            step_pages=np.zeros((len(slots), len(code.steps)), np.int64),
            steps=code.steps,
            calls=code.calls,
            policy=code.control,
            features=kernel.encode(scale, call_scale),
            reclaim=np.zeros(2, RECLAIM),
            vms=np.zeros(len(slots), VM),
            extra_bits=_cache_aligned(table_count * WORDS_PER_TABLE if with_extras or sampled else 0),
            last_touch=np.zeros(pages if with_extras else 0, np.int32),
            victims=np.zeros(MIN_LRU_BATCH + PTRS_PER_PTE, np.int32),
            neighbours=np.zeros(MIN_LRU_BATCH, np.int32),
            in_flight=np.zeros(pages, np.int32),
            slots=np.zeros(min(pages, pages if swap_pages is None else swap_pages) if with_slots else 0, np.int32),
            slot_of=np.zeros(pages if with_slots else 0, np.int32),
            size_classes=np.zeros(pages if compressed_swap else 0, np.uint8),
            class_units=np.zeros(SIZE_CLASSES, np.int64),
            followed=np.zeros(0, np.uint64),
            asks=np.zeros(0, ASK),
        )
        node = self.machine.node[0]
        node["min_ttl_ms"], node["async_swap"], node["free_pages"] = min_ttl_ms, async_swap, free_pages
        node["page_cluster"], node["rotating_swap"] = page_cluster if async_swap else 0, rotating_swap
        node["swap_ra_hits"], node["swap_ra_slot"] = FIRST_HITS, FAR_AWAY
        node["memory_pages"] = free_pages + sum(slot.kernel_pages for slot in slots if slot.online)
        node["swap_pages"] = node["free_slots"] = UNLIMITED if swap_pages is None else swap_pages
        node["pool_limit"] = pool_limit
        node["memcgs_need_aging"] = 1
        node["protection"] = any(slot.min_pages or slot.low_pages for slot in slots)
        node["recursive_protection"] = recursive_protection
        parent = self.machine.parent[0]
        parent["max_pages"], parent["charged"], parent["position"] = parent_max_pages, parent_kernel_pages, -1
        parent["below_root"] = parent_protection is not None
        parent["memory_min"], parent["memory_low"] = parent_protection or (0, 0)
        if watermarks:
            node["low_pages"], node["high_pages"], node["goal_pages"], node["min_pages"] = watermarks
        batch = int(self.machine.features[0]["charge_batch"])
        if kernel.stock_of_many_memcgs:
            self.machine.parent[0]["charged"] += -parent_kernel_pages % batch
        first = 0
        for g, slot in enumerate(slots):
            lruvec = self.machine.lruvecs[g]
            lruvec["max_seq"] = FIRST_SEQ
            lruvec["lists"] = pages + g * MAX_NR_GENS * GENERATION_COLUMNS
            lruvec["swappiness"] = slot.swappiness
            self.machine.classic[g]["lists"] = lruvec["lists"]
            mm = self.machine.mms[g]
            mm["first"] = first
            mm["pages"] = slot.pages
            mm["own_first"] = first + tables[g] * PTRS_PER_PTE
            mm["own_pages"] = slot.own_pages
            mm["buffer_pages"] = slot.buffer_pages
            mm["stack_first"] = mm["own_first"] + buffer_tables[g] * PTRS_PER_PTE
            mm["file_first"] = mm["own_first"] + own_tables[g] * PTRS_PER_PTE
            mm["file_pages"] = slot.file_pages
            mm["huge_pages"], mm["huge_reclaims"] = slot.huge_pages, slot.huge_reclaims
            mm["huge_wakes"], mm["l1_huge"] = slot.huge_wakes, slot.l1_huge
            if slot.huge_pages and slot.kvm:
                start, before = first // PTRS_PER_PTE, sum(tables[:g])
                split = np.floor(np.arange(before, before + tables[g] + 1) * slot.split_share)
                self.machine.huge[start : start + tables[g]] = np.where(np.diff(split) > 0, SPLIT_SPTES, 0)
            mm["ra_pages"] = slot.readahead_pages
            mm["ra_prev"] = -1
            mm["file_random"], mm["file_upper_pages"] = slot.file_random, slot.file_upper_pages
            mm["node_bytes"] = slot.node_bytes
            mm["swap_ra_hits"], mm["swap_ra_page"] = FIRST_HITS, FAR_AWAY
            self.machine.pages["flags"][mm["file_first"] : mm["file_first"] + slot.file_pages] = FILE_PAGE
            mm["notifiers"] = slot.kvm
            mm["extras"] = slot.extras
            vm = self.machine.vms[g]
            vm["accessed_mask"] = vm["subscribers"] = vm["rmap_entries"] = 1
            mm["tdp"] = slot.tdp
            mm["online"], mm["exited"] = slot.online, not slot.online
            mm["charged"] = mm["kernel_pages"] = slot.kernel_pages * slot.online
            mm["oom_tick"] = NEVER_KILLED
            stock = -slot.kernel_pages % batch
            fits = not slot.max_pages or mm["charged"] + stock <= slot.max_pages
            if parent_max_pages:
                fits = fits and parent["charged"] + mm["charged"] + stock <= parent_max_pages
            if slot.online and fits and (kernel.stock_of_many_memcgs or not shared_cpu or g == len(slots) - 1):
                mm["stock"] = stock
                mm["charged"] += mm["stock"]
            mm["first_fault_pages"] = slot.first_fault_pages
            mm["late_pages"] = slot.late_pages
            mm["cpu"] = 0 if shared_cpu else g
            self.machine.cpus[mm["cpu"]]["stock_guest"] = g
            mm["max_pages"], mm["memory_high"] = slot.max_pages, slot.high_pages
            mm["memory_min"], mm["memory_low"] = slot.min_pages, slot.low_pages
            mm["least_charged"] = UNLIMITED
            mm["seq"] = FIRST_SEQ - 1
            self.machine.parent[0]["charged"] += mm["charged"]
            first += (tables[g] + own_tables[g] + file_tables[g]) * PTRS_PER_PTE
        link(self.machine)

    @property
    def tick(self) -> int:
        """Now."""
        return int(self.machine.node[0]["tick"])

    @tick.setter
    def tick(self, tick: int) -> None:
        self.machine.node[0]["tick"] = tick

    def oom_reason(self, guest: int) -> str:
        """Why the OOM killer killed the guest, one of hostsim.mm.oom_kill.OOM_REASONS; empty: it lives."""
        return OOM_REASONS[self.machine.mms[guest]["oom_reason"]]

    def oom_tick(self, guest: int) -> int:
        """The tick in which it did; NEVER_KILLED: it lives."""
        return int(self.machine.mms[guest]["oom_tick"])

    def arrive(self, guest: int) -> None:
        """A guest that wasn't online at the start comes."""
        lifetime.arrive(self.machine, guest, self.slots[guest].kernel_pages)

    def leave(self, guest: int) -> None:
        """A guest goes: its memory, swap and file are free, and it does not come again."""
        lifetime.leave(self.machine, guest)

    def is_online(self, guest: int) -> bool:
        """Whether a guest has come and has not left."""
        return bool(self.machine.mms[guest]["online"])

    def is_alive(self, guest: int) -> bool:
        """Whether a guest has come, and has neither left nor been killed."""
        return not self.machine.mms[guest]["exited"]

    def protect_generations(self, min_ttl_ms: int) -> None:
        """Time begins, and with it min_ttl_ms: what there is by now is old enough."""
        self.machine.node[0]["min_ttl_ms"] = min_ttl_ms
        self.machine.lruvecs["timestamps"] = -min_ttl_ms

    def set_time(self, now_ms: int) -> None:
        """How long time has gone by, for what min_ttl_ms protects."""
        self.machine.node[0]["now_ms"] = now_ms

    def draw_scheduler(self, key: np.uint64, host: int, numbers: Sequence[int]) -> None:
        """What the scheduler decides is drawn from now on (hostsim.mm.scheduler).

        ``key`` (philox.study_key), ``host`` and a number of each guest name the random numbers.
        """
        vms = self.machine.vms
        vms["key"], vms["host"], vms["guest"] = key, host, numbers
        self.machine.node[0]["scheduler_drawn"] = 1

    def switch_to(self, guest: int) -> None:
        """A CPU switches to the guest's process, as it does before its accesses: its mm is worth a walk again."""
        self.machine.mms[guest]["used"] = 1

    def touch(self, guest: int, accesses: npt.NDArray[np.uint32]) -> None:
        """The guest makes these accesses in order (uint32: page of the guest, bit 31 by L2, bit 30 a write)."""
        self.switch_to(guest)
        self.access(guest, accesses)

    def access(self, guest: int, accesses: npt.NDArray[np.uint32]) -> None:
        """The same while the CPU stays with the guest: accesses may be made in any number of pieces."""
        access.access(self.machine, guest, accesses)

    def access_file(self, guest: int, accesses: npt.NDArray[np.uint32]) -> None:
        """The guest's process accesses its file (uint32: page of the file, bit 31 by the mapping, bit 30 a write)."""
        access.access_file(self.machine, guest, accesses)

    def flush(self) -> None:
        """The flusher threads start to write all dirty file pages."""
        if not self.has_io:
            return
        self.machine.node[0]["flusher_woken"] = 0
        for guest in range(len(self.machine.mms)):
            writeback.flush(self.machine, guest)

    def complete_io(
        self, pages: int | None = None, kind: int = writeback.EITHER, guests: Sequence[int] | None = None
    ) -> None:
        """The writes of so many pages end, each guest's oldest in proportion to what it has under way; None: of all.

        ``kind``: ANON, FILE or EITHER. ``guests``: whose; None: everybody's. Reclaim waits for writes by itself when it
        can't go on without.
        """
        if not self.has_io:
            return
        who = range(len(self.machine.mms)) if guests is None else guests
        under_way = [int(writeback.writes_under_way(self.machine, guest, kind)) for guest in who]
        total = sum(under_way)
        left = total if pages is None else min(pages, total)
        for guest, count in zip(who, under_way, strict=True):
            if left:
                ended = -(-left * count // total)  # rounded up: what is left goes to the last ones
                writeback.end_writeback(self.machine, guest, ended, kind)
                left -= ended
                total -= count

    def drain(self) -> None:
        """lru_add_drain_all: what waits in the CPUs' batches goes to its lists."""
        for cpu in range(len(self.machine.cpus)):
            classic.lru_add_drain(self.machine, cpu)

    def drain_cpu(self, guest: int) -> None:
        """What waits in the batch of the guest's CPU goes to its lists."""
        lru.drain(self.machine, int(self.machine.mms[guest]["cpu"]))

    def flush_stats(self) -> None:
        """The memcgs' statistics are brought up to date, by a read of memory.stat or by the kernel every 2 s.

        Only the classic LRU looks at them.
        """
        if self.kernel.lru_gen:
            return
        classic.flush_stats(self.machine)

    def touch_own(self, guest: int, begin: int = 0, end: int | None = None) -> None:
        """The guest's process touches the pages of its own beside the memslot, all or some."""
        faults.touch_own_pages(self.machine, guest, begin, self.own_pages(guest) if end is None else end)

    def own_pages(self, guest: int) -> int:
        """Pages that the guest's process has beside the memslot."""
        return int(self.machine.mms[guest]["own_pages"])

    def age(self, guest: int, swappiness: int = 1, force_scan: bool = True) -> None:
        """`+` of the debugfs file, for the present max_seq."""
        reclaim.debugfs_age(self.machine, guest, swappiness, force_scan)

    def age_in_parts(self, guest: int, swappiness: int, force_scan: bool, tables: int) -> Iterator[int]:
        """The same as :meth:`age`, yielding the guest after every so many page tables: the world may move on.

        If somebody else has aged the lruvec when the walk ends, the generations stay as they are.
        """
        m = self.machine
        self.drain_cpu(guest)
        force_scan = force_scan or not m.mms[guest]["walked"]
        seq = int(m.lruvecs[guest]["max_seq"])
        before = int(m.events[guest]["walk_ptes"])
        if aging.begin_aging(m, guest, swappiness, force_scan):
            begin, end = self.tables(guest)
            for part in range(begin, end, tables):
                aging.walk_part(m, guest, seq, swappiness, force_scan, part, min(part + tables, end))
                yield guest
        if int(m.lruvecs[guest]["max_seq"]) == seq:
            aging.end_aging(m, guest, swappiness, force_scan, int(m.events[guest]["walk_ptes"]) - before)

    @property
    def has_watermarks(self) -> bool:
        """The host's memory is limited, and kswapd keeps some of it free."""
        return bool(self.machine.node[0]["high_pages"])

    def let_kswapd_take_time(self) -> None:
        """From now on kswapd is only woken, and makes a visit with each :meth:`balance_part`."""
        self.machine.node[0]["kswapd_takes_time"] = 1

    @property
    def kswapd_woken(self) -> bool:
        """Somebody woke kswapd, and it has not run to its end since; only where it takes time."""
        return bool(self.machine.node[0]["kswapd_woken"])

    def balance_part(self) -> int:
        """kswapd's next visit since it was woken; returns the guest that it was to. kswapd.NOBODY: it goes to sleep."""
        return int(kswapd.balance_for_watch(self.machine))

    def age_node(self, priority: int) -> bool:
        """What kswapd does at a priority before it evicts; True if it called the OOM killer (min_ttl_ms)."""
        return bool(min_ttl.age_node(self.machine, priority, NO_TASK))

    def evict(self, guest: int, seq: int, swappiness: int, nr_pages: int) -> int:
        """`-` of the debugfs file: evicts generations up to ``seq``; returns the pages reclaimed."""
        return reclaim.debugfs_evict(self.machine, guest, seq, swappiness, nr_pages)

    def memory_reclaim(self, guest: int, nr_pages: int) -> int:
        """memory.reclaim of the guest's memcg; returns the pages reclaimed."""
        return reclaim.memory_reclaim(self.machine, guest, nr_pages)

    def memory_reclaim_parent(self, nr_pages: int) -> int:
        """memory.reclaim of the memcg above all guests'; returns the pages reclaimed."""
        return reclaim.memory_reclaim(self.machine, PARENT_MEMCG, nr_pages)

    def page_out(self, guest: int, pages: npt.NDArray[np.int64]) -> int:
        """Pages out at most 64 pages of the guest's memslot, by their place in the per-page arrays; returns how many
        were freed."""
        return int(pageout.reclaim_pages(self.machine, guest, pages))

    def stop_nested(self, guest: int) -> None:
        """L1 stops its nested VM."""
        faults.drop_shadow_mmu(self.machine, guest)

    def lruvec(self, guest: int) -> Record:
        """The guest's lruvec, as a numpy record."""
        return self.machine.lruvecs[guest]

    def events(self, guest: int) -> Record:
        """The guest's counters, as a numpy record."""
        return self.machine.events[guest]

    def pages(self, guest: int) -> slice:
        """The guest's pages in the per-page arrays."""
        mm = self.machine.mms[guest]
        return slice(int(mm["first"]), int(mm["first"] + mm["pages"]))

    def tables(self, guest: int) -> tuple[int, int]:
        """The guest's page tables, its file's included: the first one, and the one after the last."""
        mm = self.machine.mms[guest]
        last = int(mm["file_first"] + mm["file_pages"]) - 1
        return int(mm["first"]) // PTRS_PER_PTE, last // PTRS_PER_PTE + 1

    def words(self, guest: int) -> slice:
        """The words of the guest's memslot in ``bits``."""
        mm = self.machine.mms[guest]
        return slice(int(mm["first"]) // 64, int(mm["first"] + mm["pages"] + 63) // 64)

    def resident(self, guest: int) -> int:
        """Pages of the guest's memslot that are in memory."""
        return int(ground_truth.resident_pages(self.machine, guest))

    def anon_huge_pages(self, guest: int) -> int:
        """Of these, pages that are part of huge pages."""
        first, end = self.tables(guest)
        return int((self.machine.huge[first:end] & MAPS_HUGE).sum()) * PTRS_PER_PTE

    def count_tick(self) -> None:
        """A tick has passed, for what counts memory over ticks (``resident_page_ticks``)."""
        ground_truth.count_tick(self.machine)

    def in_memory(self, guest: int) -> int:
        """Pages of the guest's memslot and of its file that are in memory."""
        return self.resident(guest) + int(self.machine.events[guest]["cached_pages"])

    @property
    def flusher_woken(self) -> bool:
        """Reclaim woke the flusher threads, and they have not run since."""
        return bool(self.machine.node[0]["flusher_woken"])

    def generation(self, guest: int, seq: int, kind: int = ANON) -> list[int]:
        """The guest's pages on the list of a generation, in the order in which eviction meets them.

        Pages are numbered from the first of the memslot, or of the file.
        """
        lruvec = self.machine.lruvecs[guest]
        head = int(lruvec["lists"]) + seq % MAX_NR_GENS * GENERATION_COLUMNS + kind
        first = int(self.machine.mms[guest]["file_first" if kind == FILE else "first"])
        found = []
        page = head
        while (page := int(self.machine.pages[page]["towards_head"])) != head:
            found.append(page - first)
        return found


def _cache_aligned(words: int) -> npt.NDArray[np.uint64]:
    """Zeroed bit columns whose rows don't straddle cache lines."""
    raw = np.zeros(words * BIT_COLUMNS + BIT_COLUMNS, np.uint64)
    skip = (-raw.ctypes.data // raw.itemsize) % BIT_COLUMNS
    return raw[skip : skip + words * BIT_COLUMNS].reshape(words, BIT_COLUMNS)
