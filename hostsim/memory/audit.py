"""Conservation laws of a host's memory: what holds after every tick.

:func:`check_memory` counts the pages one by one and holds that against every account that the engine keeps of them. All
of the laws are in MEMORY_LAWS, by name; hostsim.memory.result_laws has those of results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.state import (
    ANON,
    FILE,
    FILE_PAGE,
    GEN_MASK,
    HPAGE_PMD_ORDER,
    IN_PAGE_CACHE,
    MAPS_HUGE,
    MAX_NR_GENS,
    ORDER_SHIFT,
    PG_WRITEBACK,
    PRESENT,
    PRIMARY,
    PTRS_PER_PTE,
    SHADOW,
    SHADOW_MAPPED,
    SPLIT_SPTES,
    SWAP_CLUSTER_MAX,
    SWAPCACHE,
    TDP,
    TDP_MAPPED,
    WORDS_PER_TABLE,
)
from coldfleet.hostsim.memory.host_memory import GENERATION_COLUMNS, HostMemory
from coldfleet.hostsim.mm.classic import INACTIVE, NO_PAGE, PG_ACTIVE
from coldfleet.hostsim.mm.swap_slots import POOL_UNIT
from coldfleet.hostsim.spec.laws import Broken, hold

PROTECTION_SLACK = 4 * SWAP_CLUSTER_MAX  # pages that a visit takes at a time: a batch, or some of each classic list


@dataclass(frozen=True)
class Census:
    """A guest's pages, counted one by one.

    Of its ``all_anon`` anonymous pages (memslot and own): ``never_touched`` (nothing is known of them, and no MMU has
    them), ``mapped``, ``unmapped`` (in memory, but only in the swap cache),
    ``swapped_out``, ``cached`` with a slot (in memory, with SWAPCACHE). ``file``: pages of its file in the page cache.
    ``pool_units``: stored sizes. ``on_lists``: by kind, pages that the links of the lists lead to. ``numbered``: int
    (generations, kinds), pages by the generation that their state names. ``writeback``: pages being written.
    """

    all_anon: int
    never_touched: int
    mapped: int
    unmapped: int
    swapped_out: int
    with_slot: int
    file: int
    pool_units: int
    on_lists: tuple[int, int]
    numbered: npt.NDArray[np.int64]
    writeback: int

    @property
    def in_memory(self) -> int:
        """Pages of memory that the guest has, without kernel memory."""
        return self.mapped + self.unmapped + self.file


def take_census(memory: HostMemory, guest: int) -> Census:
    """Counts a guest's pages; batches of the CPUs may hold some of them."""
    m, mm = memory.machine, memory.machine.mms[guest]
    anon = slice(int(mm["first"]), int(mm["file_first"]))
    file = slice(anon.stop, anon.stop + int(mm["file_pages"]))
    words = np.ascontiguousarray(m.bits[anon.start // 64 : -(-anon.stop // 64), PRESENT])
    present = np.unpackbits(words.view(np.uint8), bitorder="little")[: anon.stop - anon.start] == 1
    flags, shadow = m.pages["flags"][anon], m.pages["shadow"][anon]
    with_slot = flags & SWAPCACHE != 0
    swapped_out = ~present & ~with_slot & (shadow != 0)
    units = m.class_units[m.size_classes[anon]][swapped_out].sum() if len(m.size_classes) else 0
    numbered = np.zeros((MAX_NR_GENS, GENERATION_COLUMNS), np.int64)
    for kind, pages in ((ANON, anon), (FILE, file)):
        gens, sizes = m.pages["state"][pages] & GEN_MASK, 1 << (m.pages["flags"][pages] >> ORDER_SHIFT)
        numbered[:, kind] = np.bincount(gens, sizes, MAX_NR_GENS + 1)[1 : MAX_NR_GENS + 1]
    untouched = ~present & (flags == 0) & (shadow == 0) & (m.pages["state"][anon] == 0)
    return Census(
        all_anon=len(flags),
        never_touched=int(untouched.sum()),
        mapped=int(present.sum()),
        unmapped=int((~present & with_slot).sum()),
        swapped_out=int(swapped_out.sum()),
        with_slot=int(with_slot.sum()),
        file=int((m.pages["flags"][file] & IN_PAGE_CACHE != 0).sum()),
        pool_units=int(units),
        on_lists=(_on_lists(memory, guest, ANON), _on_lists(memory, guest, FILE)),
        numbered=numbered,
        writeback=int((m.pages["flags"][anon.start : file.stop] & PG_WRITEBACK != 0).sum()),
    )


def _on_lists(memory: HostMemory, guest: int, kind: int) -> int:
    if memory.kernel.lru_gen:
        mm, flags = memory.machine.mms[guest], memory.machine.pages["flags"]
        first = int(mm["file_first" if kind == FILE else "first"])
        folios = [first + page for gen in range(MAX_NR_GENS) for page in memory.generation(guest, gen, kind)]
        return int((1 << (flags[folios] >> ORDER_SHIFT)).sum())
    return sum(_classic_lists(memory, guest, kind))


def _classic_lists(memory: HostMemory, guest: int, kind: int) -> list[int]:
    """How many pages the links of a type's inactive and active list lead to."""
    following = memory.machine.pages["towards_head"]
    counts = []
    for active in (INACTIVE, PG_ACTIVE):
        head = int(memory.machine.classic[guest]["lists"]) + kind * 2 + active
        count, page = 0, int(following[head])
        while page != head:
            count, page = count + 1, int(following[page])
        counts.append(count)
    return counts


def _waiting(memory: HostMemory, guest: int, kind: int) -> int:
    """Pages of a guest that wait in the CPUs' batches to join the classic LRU's lists."""
    count = 0
    for cpu in memory.machine.cpus:
        pages, guests = (cpu[name][: cpu["added_count"]] for name in ("added_pages", "added_guests"))
        pages = pages[(guests == guest) & (pages != NO_PAGE)]
        count += int(((memory.machine.pages["flags"][pages] & FILE_PAGE != 0) == (kind == FILE)).sum())
    return count


MemoryLaw = Callable[[HostMemory, list[Census]], Broken]


def _free_memory(memory: HostMemory, census: list[Census]) -> Broken:
    """0 <= free <= memory, and used + free is the host's memory: pages, kernel memory and pool are used."""
    node = memory.machine.node[0]
    if not memory.has_watermarks:
        return
    free, total, pool = (int(node[name]) for name in ("free_pages", "memory_pages", "pool_pages"))
    if not 0 <= free <= total:
        yield f"{free} of {total} pages are free"
    pages = sum(each.in_memory for each in census)
    kernel = int(memory.machine.mms["kernel_pages"].sum())
    if free + pages + kernel + pool != total:
        yield f"{pages} pages in memory, {kernel} of the kernel, {pool} in the pool and {free} free are not {total}"


def _limits(memory: HostMemory, census: list[Census]) -> Broken:
    """No memcg is above its memory.max, and what is charged is what the guest has, and its CPU's stock."""
    m = memory.machine
    for g, (mm, each) in enumerate(zip(m.mms, census, strict=True)):
        if 0 < mm["max_pages"] < mm["charged"]:
            yield f"guest {g} has {mm['charged']} pages charged, and may have {mm['max_pages']}"
        has = each.in_memory + mm["kernel_pages"] + mm["stock"]
        if mm["charged"] != has:
            yield f"guest {g} has {mm['charged']} pages charged, but {has}"
    parent = m.parent[0]
    if 0 < parent["max_pages"] < parent["charged"]:
        yield f"the parent has {parent['charged']} pages charged, and may have {parent['max_pages']}"
    if parent["charged"] < m.mms["charged"].sum():
        yield f"the parent has {parent['charged']} pages charged, its members {m.mms['charged'].sum()}"


def _protection(memory: HostMemory, census: list[Census]) -> Broken:
    """Reclaim on behalf of others leaves a guest its memory.min, but for what the last batch took."""
    m = memory.machine
    slack = PROTECTION_SLACK + (2 * PTRS_PER_PTE if len(m.huge) else 0)
    if m.parent[0]["below_root"] and memory.has_watermarks:
        return  # what is effective of it changes with what the others use
    for g, mm in enumerate(m.mms):
        if mm["least_charged"] < mm["memory_min"] - slack:
            yield f"guest {g} has a memory.min of {mm['memory_min']} pages, and others left it {mm['least_charged']}"


def _every_page_somewhere(memory: HostMemory, census: list[Census]) -> Broken:
    """Every anonymous page is resident, only in the swap cache, swapped out, or was never touched (or died)."""
    for g, each in enumerate(census):
        found = each.mapped + each.unmapped + each.swapped_out + each.never_touched
        if found != each.all_anon:
            yield f"guest {g} has {each.all_anon} anonymous pages, of which {found} are somewhere: {each}"


def _flows(memory: HostMemory, census: list[Census]) -> Broken:
    """Of a living guest, pages evicted and not read again are swapped out, and pages mapped or cached are counted."""
    for g, each in enumerate(census):
        events = memory.events(g)
        if not memory.is_alive(g):
            continue
        swapped_out = int(events["pgsteal"] - events["pgsteal_file"] + events["damos_applied"] - events["pswpin"])
        if each.swapped_out != swapped_out:
            yield f"guest {g} has {each.swapped_out} pages swapped out, but evicted {swapped_out} more than it read"
        if each.mapped != events["resident_pages"]:
            yield f"guest {g} has {each.mapped} pages mapped, and counts {events['resident_pages']}"
        if each.file != events["cached_pages"]:
            yield f"guest {g} has {each.file} pages of its file cached, and counts {events['cached_pages']}"


def _lists(memory: HostMemory, census: list[Census]) -> Broken:
    """Every page in memory is on one list, or waits for it in a CPU's batch (classic LRU); generations count what their
    number is in the pages' states, and the classic LRU's lists what is on them."""
    m = memory.machine
    for g, each in enumerate(census):
        expected = (each.mapped + each.unmapped, each.file)
        if memory.kernel.lru_gen:
            counted = m.lruvecs[g]["nr_pages"]
            if (counted != each.numbered).any():
                yield f"guest {g}: generations count {counted.tolist()}, its pages say {each.numbered.tolist()}"
        else:
            expected = expected[ANON] - _waiting(memory, g, ANON), expected[FILE] - _waiting(memory, g, FILE)
            found = [_classic_lists(memory, g, kind) for kind in (ANON, FILE)]
            if m.classic[g]["size"].tolist() != found:
                yield f"guest {g}: its lists count {m.classic[g]['size'].tolist()}, and have {found}"
        if each.on_lists != expected:
            yield f"guest {g}: {each.on_lists} pages (anonymous, file) are on its lists, and {expected} in memory"
        if each.writeback != m.mms[g]["under_writeback"]:
            yield f"guest {g}: {each.writeback} pages are being written, {m.mms[g]['under_writeback']} under way"


def _swap(memory: HostMemory, census: list[Census]) -> Broken:
    """Every slot of the swap device is free, or held by one page, which a rotating device knows."""
    node = memory.machine.node[0]
    held = sum(each.swapped_out + each.with_slot for each in census)
    if node["free_slots"] < 0 or node["free_slots"] + held != node["swap_pages"]:
        yield f"{held} slots are held and {node['free_slots']} free of {node['swap_pages']}"
    slots = memory.machine.slots
    pages = slots[slots > 0] - 1
    if len(slots) and (len(pages) != held or (slots[memory.machine.slot_of[pages]] != pages + 1).any()):
        yield f"{held} slots are held, and the device knows {len(pages)}"


def _pool(memory: HostMemory, census: list[Census]) -> Broken:
    """The pool is the sum of the stored sizes, and no larger than its limit."""
    node, mms = memory.machine.node[0], memory.machine.mms
    for g, each in enumerate(census):
        if each.pool_units != mms[g]["pool_units"]:
            yield f"guest {g} has stored {each.pool_units} units, and counts {mms[g]['pool_units']}"
    total = sum(each.pool_units for each in census)
    if total != node["pool_units"] or -(-total // POOL_UNIT) != node["pool_pages"]:
        yield f"{total} units are stored; the pool counts {node['pool_units']}, or {node['pool_pages']} pages"
    if 0 < node["pool_limit"] < node["pool_pages"]:
        yield f"the pool takes {node['pool_pages']} pages, and may take {node['pool_limit']}"


def _the_dead(memory: HostMemory, census: list[Census]) -> Broken:
    """A guest that was killed has nothing but the page cache of its file, and one that isn't there nothing at all."""
    for g, each in enumerate(census):
        mm = memory.machine.mms[g]
        if bool(mm["oom_reason"] or not mm["online"]) != bool(mm["exited"]):
            yield f"guest {g} was killed ({memory.oom_reason(g)!r}) and has not exited, or the other way round"
        if mm["exited"] and (each.mapped or each.unmapped or each.swapped_out or mm["kernel_pages"]):
            yield f"guest {g} was killed, or isn't there, and has memory: {each}"
        if not mm["online"] and (each.file or mm["charged"] or memory.events(g)["cached_pages"]):
            yield f"guest {g} isn't there, and has {each.file} pages of its file, and {mm['charged']} charged"


def _mappings(memory: HostMemory, census: list[Census]) -> Broken:
    """KVM maps only pages that the primary MMU maps, and Accessed bits are only where a page is mapped."""
    bits = memory.machine.bits
    above = (
        ("TDP MMU maps", TDP_MAPPED, "primary MMU does", PRESENT),
        ("shadow MMU maps", SHADOW_MAPPED, "primary MMU does", PRESENT),
        ("primary PTE has an Accessed bit", PRIMARY, "page is mapped", PRESENT),
        ("TDP SPTE has an Accessed bit", TDP, "SPTE is there", TDP_MAPPED),
        ("shadow SPTE has an Accessed bit", SHADOW, "SPTE is there", SHADOW_MAPPED),
    )
    for what, column, where, needed in above:
        if (lost := bits[:, column] & ~bits[:, needed]).any():
            word = int(lost.nonzero()[0][0])
            guest = int(np.searchsorted(memory.machine.mms["first"], word * 64, side="right")) - 1
            yield f"guest {guest}: the {what} in {np.bitwise_count(lost).sum()} pages where no {where}"


def _huge_pages(memory: HostMemory, census: list[Census]) -> Broken:
    """A PMD maps a huge page if and only if its first page stands for 512, all of which are mapped then, by the TDP MMU
    all or none unless it has to map small pages; a living guest has those that came and were not written or split."""
    m = memory.machine
    orders = m.pages["flags"][: len(m.bits) * 64] >> ORDER_SHIFT
    heads = np.flatnonzero(orders)
    huge = np.flatnonzero(m.huge & MAPS_HUGE)
    if heads.tolist() != (huge * PTRS_PER_PTE).tolist() or (orders[heads] != HPAGE_PMD_ORDER).any():
        yield f"pages {heads.tolist()} begin a huge page, and PMDs {huge.tolist()} map one"
    mapped = np.bitwise_count(m.bits[:, [PRESENT, TDP_MAPPED]]).reshape(-1, WORDS_PER_TABLE, 2).sum(axis=1)[huge]
    whole = np.isin(mapped[:, 1], (0, PTRS_PER_PTE)) | (m.huge[huge] & SPLIT_SPTES != 0)
    if (mapped[:, 0] != PTRS_PER_PTE).any() or not whole.all():
        yield f"of the pages of PMDs {huge.tolist()}, which map huge pages, {mapped.tolist()} are mapped (MMU, KVM)"
    for g in range(len(census) if len(m.huge) else 0):
        events = memory.events(g)
        left = int(events["thp_fault_alloc"] + events["thp_collapse_alloc"])
        left -= int(events["thp_swpout"] + events["thp_split_page"])
        if memory.is_alive(g) and left * PTRS_PER_PTE != memory.anon_huge_pages(g):
            yield f"guest {g} has {memory.anon_huge_pages(g)} pages in huge pages, and should have {left} of these"


MEMORY_LAWS: dict[str, MemoryLaw] = {
    "free memory": _free_memory,
    "limits": _limits,
    "protection": _protection,
    "every page is somewhere": _every_page_somewhere,
    "flows": _flows,
    "lists": _lists,
    "swap slots": _swap,
    "pool": _pool,
    "the dead": _the_dead,
    "mappings": _mappings,
    "huge pages": _huge_pages,
}


def check_memory(memory: HostMemory, host: int = 0) -> None:
    """Raises LawBrokenError unless all MEMORY_LAWS hold of a host's memory while nothing is under way in it."""
    census = [take_census(memory, guest) for guest in range(len(memory.machine.mms))]
    hold(MEMORY_LAWS, f"host {host}, after tick {memory.tick}", memory, census)
