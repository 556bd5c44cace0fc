"""The engine and the reference model, one guest each, led through the same operations and compared in full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import event
from hypothesis import strategies as st

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import (
    ACCESS_L2,
    ACCESS_MMAP,
    ACCESS_PAGE,
    ACCESS_WRITE,
    ANON,
    BUSY,
    CALLS,
    DIRTY,
    FILE,
    IN_PAGE_CACHE,
    LOCKS,
    MAPS_HUGE,
    PG_DIRTY,
    PG_READAHEAD,
    PG_RECLAIM,
    PG_WRITEBACK,
    PMD_POPULATED,
    PMD_YOUNG,
    PRESENT,
    PRIMARY,
    PTRS_PER_PTE,
    SHADOW,
    SHADOW_MAPPED,
    SWAPCACHE,
    TDP,
    TDP_MAPPED,
    WRITABLE,
    YOUNG,
)
from coldfleet.hostsim.memory.audit import check_memory
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.hostsim.mm import khugepaged
from coldfleet.hostsim.replay.observe import page_states
from coldfleet.policies import Lock, Site, get_policy
from tests.reference import ReferenceHost
from tests.reference import khugepaged as reference_khugepaged
from tests.reference.constants import FIRST_MAX_SEQ
from tests.reference.host import OomKilledError

COUNTERS = (
    *("swap_ra", "swap_ra_hit", "khugepaged_swpin"),
    *(f"thp_{what}" for what in ("fault_alloc", "collapse_alloc", "swpout", "split_page")),
    *(
        "pgfault",
        "pgmajfault",
        "refaults",
        "pswpin",
        "pswpout",
        "file_reads",
        "file_writes",
        "pgscan",
        "pgscan_file",
        "pgsteal",
    ),
    *("pgsteal_file", "pgrotated", "pgrefill", "pgactivate", "pgdeactivate", "rmap_walks"),
    *(f"workingset_{what}_{kind}" for what in ("refault", "activate", "restore") for kind in ("anon", "file")),
)
PID_ARRAYS = ("avg_refaulted", "avg_total", "refaulted", "evicted", "protected")
BITS = {PRIMARY: "p", TDP: "t", SHADOW: "s", TDP_MAPPED: "t_mapped", SHADOW_MAPPED: "s_mapped", PRESENT: "present",
        DIRTY: "pte_dirty"}  # fmt: skip
FLAGS = {BUSY: "busy", SWAPCACHE: "swapcache", IN_PAGE_CACHE: "cached", PG_DIRTY: "dirty", PG_WRITEBACK: "writeback",
         PG_RECLAIM: "reclaim", PG_READAHEAD: "ahead"}  # fmt: skip
LOCK_NAMES = {Lock.RCU: "rcu", Lock.RMAP: "rmap", Lock.MMU_WRITE: "mmu_lock_write"}

Operation = tuple[Any, ...]
"""The name of a method of :class:`SideBySide` and its arguments."""


class Shape(NamedTuple):
    """What is simulated. kind: process, vm (L1 only), nested (L1 and L2), or shadow (no TDP MMU)."""

    kernel: str
    policy: str
    kind: str
    pages: int
    own_pages: int = 0
    limit: int = 0
    swappiness: int = 60
    file_pages: int = 0
    async_swap: bool = False
    min_ttl_ms: int = 0
    swap_pages: int | None = None
    page_cluster: int = 0
    rotating: bool = False
    huge_pages: bool = False
    huge_reclaims: bool = False
    l1_huge: bool = True
    split_share: float = 0.0


def with_device(draw: st.DrawFn, shape: Shape) -> Shape:
    """The same with any swap device and readahead: most are zram."""
    if draw(st.booleans()):
        return shape
    return shape._replace(
        async_swap=True, page_cluster=draw(st.sampled_from([0, 1, 3, 6])), rotating=draw(st.booleans())
    )


class SideBySide:
    """One guest in the engine and the same one in the reference model."""

    lru_gen = True
    reference_class: type[ReferenceHost] = ReferenceHost
    killed = False

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        kvm, tdp = shape.kind != "process", shape.kind != "shadow"
        slot = Memslot(
            shape.pages,
            shape.own_pages,
            kvm=kvm,
            tdp=tdp,
            max_pages=shape.limit,
            swappiness=shape.swappiness,
            file_pages=shape.file_pages,
            huge_pages=shape.huge_pages,
            huge_reclaims=shape.huge_reclaims,
            l1_huge=shape.l1_huge,
            split_share=shape.split_share,
        )
        kernel = replace(KERNELS[shape.kernel], lru_gen=self.lru_gen)
        self.engine = HostMemory(
            [slot],
            kernel,
            get_policy(shape.policy),
            async_swap=shape.async_swap,
            min_ttl_ms=shape.min_ttl_ms,
            swap_pages=shape.swap_pages,
            page_cluster=shape.page_cluster,
            rotating_swap=shape.rotating,
        )
        self.reference = self.reference_class(
            shape.pages,
            shape.kernel,
            shape.policy,
            "vm" if kvm else "host",
            limit_pages=shape.limit or None,
            tdp=tdp,
            extra_pages=shape.own_pages,
            file_pages=shape.file_pages,
            async_swap=shape.async_swap,
            swap_pages=shape.swap_pages,
            page_cluster=shape.page_cluster,
            rotating=shape.rotating,
            huge_pages=shape.huge_pages,
            huge_reclaims=shape.huge_reclaims,
            l1_huge=shape.l1_huge,
            split_share=shape.split_share,
        )
        self.reference.swappiness = shape.swappiness
        self.reference.min_ttl_ms = shape.min_ttl_ms
        self.written = np.zeros(shape.pages, bool)
        self.engine.touch_own(0)

    # The operations.
    def populate(self, share: float) -> None:
        """Writes a part of the memory in order; of a nested VM's, L2 writes every third page."""
        pages = np.arange(max(round(share * self.shape.pages), 1), dtype=np.uint32)
        self._touch(pages, np.ones(len(pages), bool), pages % 3 == 2, switch=True)

    def touch(self, first: float, span: float, count: int, writes: float, l2: float, switch: bool, seed: int) -> None:
        """``count`` accesses to a window of the memory, some of them writes, some by L2."""
        random = np.random.default_rng(seed)
        offsets = random.integers(0, max(round(span * self.shape.pages), 1), count)
        pages = ((round(first * self.shape.pages) + offsets) % self.shape.pages).astype(np.uint32)
        self._touch(pages, random.random(count) < writes, random.random(count) < l2, switch)

    def access_file(
        self, first: float, span: float, count: int, mapped: float, writes: float, switch: bool, seed: int
    ) -> None:
        """``count`` accesses to a window of the file, some by its mapping, some of them writes."""
        size = self.shape.file_pages
        if not size:
            return
        random = np.random.default_rng(seed)
        offsets = random.integers(0, max(round(span * size), 1), count)
        pages = ((round(first * size) + offsets) % size).astype(np.uint32)
        by_mapping, write = random.random(count) < mapped, random.random(count) < writes
        if switch:
            self.reference.mm.used = True
        with self._until_killed():
            for page, *how in zip(pages.tolist(), by_mapping.tolist(), write.tolist(), strict=True):
                self.reference.access_file(page, *how)
        pages[by_mapping] |= np.uint32(ACCESS_MMAP)
        pages[write] |= np.uint32(ACCESS_WRITE)
        if switch:
            self.engine.switch_to(0)
        self.engine.access_file(0, pages)

    def flush(self) -> None:
        self.engine.flush()
        self.reference.device.run_flusher()

    def complete_io(self) -> None:
        self.engine.complete_io()
        self.reference.device.end_all()

    def wait(self, ms: int) -> None:
        """Time goes by."""
        self.engine.machine.node[0]["now_ms"] += ms
        self.reference.now_ms += ms

    def touch_own(self) -> None:
        self.engine.touch_own(0)
        with self._until_killed():
            for folio in self.reference.mm.extra:
                self.reference.touch(folio, "host", write=True)

    def age(self, swappiness: int, force_scan: bool) -> None:
        self.engine.age(0, swappiness, force_scan)
        self.reference.age(swappiness, force_scan)

    def collapse(self, table: int, max_ptes_none: int, max_ptes_swap: int) -> None:
        """khugepaged comes to a page table of the memslot, and has drained the CPUs' batches before."""
        table %= -(-self.shape.pages // PTRS_PER_PTE)
        self.engine.drain()
        self.reference.drain()
        made = khugepaged.collapse(self.engine.machine, 0, table, max_ptes_none, max_ptes_swap)
        with self._until_killed():
            tables = self.reference.mm.tables
            assert reference_khugepaged.collapse(self.reference, tables[table], max_ptes_none, max_ptes_swap) == made

    def age_node(self, priority: int) -> None:
        kills = self.reference.age_node(priority)
        assert self.engine.age_node(priority) == kills
        with self._until_killed():
            if kills:
                raise OomKilledError

    def evict(self, generations_left: int, swappiness: int, nr_pages: int) -> None:
        seq = self.reference.max_seq - generations_left
        self.engine.evict(0, seq, swappiness, nr_pages)
        self.reference.evict(seq, swappiness, nr_pages)

    def memory_reclaim(self, nr_pages: int) -> None:
        assert self.engine.memory_reclaim(0, nr_pages) == self.reference.memory_reclaim(nr_pages)

    def stop_nested(self) -> None:
        if self.shape.kind == "nested":
            self.engine.stop_nested(0)
            self.reference.mm.stop_l2()

    def leave(self) -> None:
        self.engine.leave(0)
        self.reference.leave()

    def _touch(
        self, pages: npt.NDArray[np.uint32], writes: npt.NDArray[np.bool_], l2: npt.NDArray[np.bool_], switch: bool
    ) -> None:
        """The first access to a page is a write: a read would map the zero page, which is on no list."""
        writes = writes | ~self.written[pages]
        self.written[pages] = True
        via = {"process": ("host", "host"), "vm": ("l1", "l1"), "nested": ("l1", "l2"), "shadow": ("l2", "l2")}
        accessors = via[self.shape.kind]
        l2 = l2 & (self.shape.kind == "nested")
        if switch:
            self.reference.mm.used = True
        with self._until_killed():
            for page, write, by_l2 in zip(pages.tolist(), writes.tolist(), l2.tolist(), strict=True):
                self.reference.access(page, accessors[by_l2], write)
        accesses = pages & np.uint32(ACCESS_PAGE)
        accesses[writes] |= np.uint32(ACCESS_WRITE)
        accesses[l2] |= np.uint32(ACCESS_L2)
        if switch:
            self.engine.switch_to(0)
        self.engine.access(0, accesses)

    @contextmanager
    def _until_killed(self) -> Iterator[None]:
        """The OOM killer may end what the reference model does, and the guest in it."""
        try:
            yield
        except OomKilledError:
            self.killed = True
            self.reference.exit_mmap()

    # The comparison.
    def differences(self) -> dict[str, tuple[Any, Any]]:
        """All that engine and reference don't agree on, as (engine, reference); batches are drained first."""
        self.engine.drain()
        self.reference.drain()
        ours, theirs = self._seen_by_engine(), self._seen_by_reference()
        if self.shape.policy == "fast-only-v5" and self.shape.kind == "shadow":
            # without the TDP MMU v5 makes no fast call; the step notation can't say so, it makes one that fails
            del ours["calls"], theirs["calls"]
        assert ours.keys() == theirs.keys()
        if self.shape.kind == "shadow" and self.shape.policy == "lockless-6.15":
            theirs["locks"][0] = 0  # the reference counts RCU even where there is no TDP MMU to walk
        if self.shape.kind == "process":
            del ours["writable"], theirs["writable"]  # only KVM asks whether a PTE allows writing
        return {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}

    def _seen_by_engine(self) -> dict[str, Any]:
        m, shape = self.engine.machine, self.shape
        mm, lruvec, events = m.mms[0], m.lruvecs[0], m.events[0]
        own_first = int(mm["own_first"])
        file_first = int(mm["file_first"])
        numbers = np.r_[  # the engine's numbers of the pages
            0 : shape.pages, own_first : own_first + shape.own_pages, file_first : file_first + shape.file_pages
        ]
        names = self.names_of(numbers)
        states = np.r_[page_states(self.engine, 0), m.pages["state"][numbers[shape.pages :]]]
        present = _bits(m.bits[:, PRESENT])[numbers]
        seen = {
            "states": states.tolist(),
            "max_seq": int(lruvec["max_seq"]),
            "min_seq": lruvec["min_seq"].tolist(),
            "nr_pages": lruvec["nr_pages"].tolist(),
            "timestamps": lruvec["timestamps"].tolist(),
            "lists": [[self._list(gen, kind, names) for kind in (ANON, FILE)] for gen in range(4)],
            "in_flight": names[m.in_flight[: mm["under_writeback"]]].tolist(),
            "flusher_woken": bool(m.node[0]["flusher_woken"]),
            "counters": {name: int(events[name]) for name in COUNTERS},
            "calls": m.sites[0, : len(Site), CALLS].tolist(),
            "locks": [int(m.sites[0, :, LOCKS + lock].sum()) for lock in LOCK_NAMES],
            "agings": (int(events["agings"]), int(mm["seq"])),
            "walked": (int(events["walk_tables"]), int(m.sites[0, Site.WALK, YOUNG])),
            "vm": (bool(mm["used"]), bool(mm["had_rmaps"]) or not mm["tdp"], int(mm["indirect_shadow_pages"])),
            "huge": np.flatnonzero(m.huge & MAPS_HUGE).tolist(),
            "pmds": [(bool(pmd & PMD_POPULATED), bool(pmd & PMD_YOUNG)) for pmd in m.pmds.tolist()],
            "filters": [
                np.flatnonzero(m.filters[:, seq]).tolist() if mm["filter_made"][seq] else None for seq in (0, 1)
            ],
            "charge": (int(mm["charged"]), int(mm["stock"])) if shape.limit else None,
            "killed": bool(mm["oom_reason"]) and bool(mm["exited"]),
            "limit_hits": int(events["limit_hits"]),
            "places": names[m.slots - 1][m.slots > 0].tolist(),
            "slots": int(m.node[0]["swap_pages"] - m.node[0]["free_slots"]),
            "writable": np.flatnonzero((m.pages["flags"][numbers] & WRITABLE != 0) & present).tolist(),
        }
        seen |= {name: np.flatnonzero(self._column(column)[numbers]).tolist() for column, name in BITS.items()}
        flags = m.pages["flags"][numbers]
        seen |= {name: np.flatnonzero(flags & flag).tolist() for flag, name in FLAGS.items()}
        return seen | {name: lruvec[name].tolist() for name in PID_ARRAYS}

    def _column(self, column: int) -> npt.NDArray[np.bool_]:
        """A column of bits by page; the one Accessed bit of a huge page is that of its first."""
        m = self.engine.machine
        bits = _bits(m.bits[:, column])
        for table in np.flatnonzero(m.huge & MAPS_HUGE) if column in (PRIMARY, TDP) else ():
            pages = bits[table * PTRS_PER_PTE : (table + 1) * PTRS_PER_PTE]
            pages[0], pages[1:] = pages.any(), False
        return bits

    def names_of(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """By the engine's numbers of pages: their places in the comparison, -1 for what is none."""
        names = np.full(len(self.engine.machine.pages), -1)
        names[numbers] = np.arange(len(numbers))
        return names

    def _list(self, gen: int, kind: int, names: npt.NDArray[np.int64]) -> list[int]:
        return self.pages_of_list(int(self.engine.lruvec(0)["lists"]) + gen * 2 + kind, names)

    def pages_of_list(self, head: int, names: npt.NDArray[np.int64]) -> list[int]:
        """The pages of the list with this head, oldest first."""
        following = self.engine.machine.pages["towards_head"].tolist()
        found = []
        page = following[head]
        while page != head:
            found.append(int(names[page]))
            page = following[page]
        return found

    def _seen_by_reference(self) -> dict[str, Any]:
        host = self.reference
        mm, lruvec = host.mm, host.lruvec
        folios = list(mm.every_folio())
        names = {id(folio): number for number, folio in enumerate(folios)}
        states = [f.table.owner(f).state if f.present else 256 if f.swapped else 257 for f in mm.folios]
        number_of = {table.number: number for number, table in enumerate(mm.tables)}
        seen: dict[str, Any] = {
            "states": states + [f.state for f in mm.extra + mm.file],
            "max_seq": lruvec.max_seq,
            "min_seq": lruvec.min_seq,
            "nr_pages": lruvec.nr_pages,
            "timestamps": lruvec.timestamps,
            "lists": [[[names[id(f)] for f in kind][::-1] for kind in lists] for lists in lruvec.lists],
            "in_flight": [names[id(f)] for f in host.device.in_flight],
            "flusher_woken": host.device.flusher_woken,
            "counters": {name: host.counters[name] for name in COUNTERS},
            "calls": [mm.notifier_calls[site.name.lower()] for site in Site],
            "locks": [mm.locks[name] for name in LOCK_NAMES.values()],
            "agings": (lruvec.max_seq - FIRST_MAX_SEQ, lruvec.mm_state_seq),
            "walked": (lruvec.walk_stats["F"], lruvec.walk_stats["Y"]),
            "vm": (mm.used, mm.shadow_root_ever or not mm.tdp, mm.indirect_shadow_pages),
            "huge": [number for number, table in enumerate(mm.tables) if table.huge],
            "pmds": [(table.populated, table.pmd_young) for table in mm.tables],
            "filters": [
                None if members is None else sorted(number_of[number] for number in members)
                for members in lruvec.filters
            ],
            "charge": (host.charged, host.stock) if self.shape.limit else None,
            "killed": self.killed,
            "limit_hits": host.counters["max"],
            "places": [names[id(folio)] for folio in host.device.slots if folio],
            "slots": host.device.slots_used,
            "writable": [names[id(f)] for f in folios if f.writable and f.present],
        }
        seen |= {name: [names[id(f)] for f in folios if getattr(f, name)] for name in (*BITS.values(), *FLAGS.values())}
        stats = [lruvec.stats[ANON], lruvec.stats[FILE]]
        return seen | {name: [getattr(kind, name) for kind in stats] for name in PID_ARRAYS}


def _bits(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), bitorder="little") == 1


def check_after_each(both: SideBySide, operations: list[Operation]) -> None:
    """Engine and reference agree at the start, and after the memory is populated and each operation that follows; in
    the end the guest leaves."""
    assert not both.differences(), "at the start"
    for number, (name, *arguments) in enumerate([("populate", 1.0), *operations]):
        getattr(both, name)(*arguments)
        assert not both.differences(), f"after operation {number}, {name} {arguments}"
        check_memory(both.engine)
        if both.killed:
            event(f"ended early: killed, {both.engine.oom_reason(0)}")
            break
    both.leave()
    assert not both.differences(), "after leaving"
    check_memory(both.engine)
