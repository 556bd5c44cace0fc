"""One memcg with one process or one VM in it: the operations a test drives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from .aging import try_to_inc_max_seq
from .constants import ANON, MAX_RECLAIM_RETRIES, MEMCG_CHARGE_BATCH, MIN_LRU_BATCH, PTRS_PER_PTE
from .cpu import Cpu
from .device import Device
from .filemap import access_mapped, read_or_write
from .folio import Folio
from .kernels import KERNELS, Kernel
from .lruvec import Lruvec
from .mmu import Mm
from .node import age_node
from .policies import POLICIES, no_notifiers
from .reclaim import (
    ScanControl,
    memory_reclaim,
    run_eviction,
    shrink_lruvec,
    try_to_free_mem_cgroup_pages,
)
from .refs import CountedRefs, TwoTouchRefs
from .swap_state import SwapReadahead
from .workingset import workingset_refault

UPPER_LEVELS = 2


class OomKilledError(Exception):
    """The process is killed in the middle of a fault, for a page that could not be charged."""


class ReferenceHost:
    """A memcg's anonymous memory under one kernel and one aging policy.

    ``kind`` "host" is an ordinary process, "vm" one with KVM's notifiers; swap is synchronous zram.
    ``extra_pages`` belong to the process too (its stack ...), outside the numbered mapping.
    """

    least_free_slots = MIN_LRU_BATCH
    """Of swap: with fewer reclaim does not look at anonymous pages."""

    def __init__(
        self,
        n_pages: int,
        kernel: str | Kernel = "6.12",
        policy: str | None = None,
        kind: str = "host",
        limit_pages: int | None = None,
        tdp: bool = True,
        extra_pages: int = 0,
        kernel_pages: int = 0,
        cpu: Cpu | None = None,
        file_pages: int = 0,
        async_swap: bool = False,
        swap_pages: int | None = None,
        page_cluster: int = 0,
        rotating: bool = False,
        huge_pages: bool = False,
        huge_reclaims: bool = False,
        l1_huge: bool = True,
        split_share: float = 0.0,
    ) -> None:
        self.kernel = KERNELS[kernel] if isinstance(kernel, str) else kernel
        self.policy = POLICIES[policy or self.kernel.default_policy]
        self.kind = kind
        self.mm = Mm(n_pages, kind, tdp, extra_pages, file_pages)
        self.mm.l1_huge = l1_huge
        for number, table in enumerate(self.mm.tables[: -(-n_pages // PTRS_PER_PTE)]):
            table.split = int((number + 1) * split_share) > int(number * split_share)
        self.device = Device(self, async_swap, swap_pages, rotating or (huge_pages and swap_pages is not None))
        self.swap_readahead = SwapReadahead(self, page_cluster, rotating)
        self.huge_pages = huge_pages
        """A first touch of 2 MiB of the mapping gets a huge page if the memcg has room for it ..."""
        self.huge_reclaims = huge_reclaims
        """... or can be made to have."""
        self.now_ms = 0
        self.min_ttl_ms = 0
        self.effective_policy = self.policy if self.mm.has_notifiers else no_notifiers
        self.lruvec = Lruvec(self.kernel)
        self.refs = TwoTouchRefs() if self.kernel.two_touch else CountedRefs()
        self.counters: Counter[str] = Counter()
        self.swappiness = 60
        self.sc = ScanControl(0)
        """The reclaim that is at work."""
        self.isolated_anon = False
        """This visit has taken anonymous pages off the lists."""
        self.has_walk = False
        self.walk_aged = False
        """The walk object has been used by an aging since it was made."""
        self.limit_pages = limit_pages
        self.charged = kernel_pages
        self.stock = 0
        self.aged_at_fault = 0
        """The faults of the process when it was last aged: after many more it has been switched to again."""
        self.used_at_aging: dict[int, bool] = {}
        """For replays: max_seq at an aging -> the mm's ``used`` bit, where luck decided it."""
        self.cpu = cpu or Cpu(self.kernel.lru_add_batch)
        for folio in self.mm.extra:
            self.touch(folio, "host", write=True)

    @property
    def folios(self) -> list[Folio]:
        return self.mm.folios

    @property
    def max_seq(self) -> int:
        return self.lruvec.max_seq

    @property
    def min_seq(self) -> list[int]:
        return self.lruvec.min_seq

    # Accesses and faults (section 4 and 9).
    def access(self, page: int, via: str = "host", write: bool = False) -> None:
        self.touch(self.mm.folios[page], via, write)

    def touch(self, folio: Folio, via: str, write: bool = False) -> None:
        if via == "host":
            if self.mm.tlb and folio.present and self.mm.tlb.hit(folio.index):
                return
            if not folio.present:
                self.fault(folio, write)
            if self.mm.tlb:
                self.mm.tlb.fill(folio.index)
            folio.table.owner(folio).p = True
            folio.table.owner(folio).writable |= write
            folio.pte_dirty |= write
            folio.table.pmd_young = True
        elif via == "l1":
            if not folio.t_mapped:
                self.kvm_fault(folio, write)
                for each in folio.table.folios if folio.table.huge and not folio.table.split else [folio]:
                    each.t_mapped = True
            folio.table.owner(folio).t = True
            folio.pte_dirty |= write
        elif via == "l2":
            if not folio.s_mapped:
                self.kvm_fault(folio, write)
                self.mm.map_shadow(folio)
                if not self.mm.maps_whole(folio):
                    self.prefetch_shadow(folio)
            folio.s = True
            folio.pte_dirty |= write
        else:
            raise ValueError(f"unknown accessor {via!r}")

    def kvm_fault(self, folio: Folio, write: bool) -> None:
        """KVM takes a page for an SPTE: GUP faults it in if needed, and both mark it accessed.

        KVM first tries the fast GUP path for writing, which needs a writable PTE. If the fault had
        to reclaim (unmapping other pages of the guest), KVM finds its own fault stale and repeats. Since 6.13 it
        marks the page once for that: of small pages it makes no difference.
        """
        unmapped = self.mm.nr_unmapped
        self.get_user_page(folio, write)
        owner = folio.table.owner(folio)
        stale = self.mm.nr_unmapped != unmapped
        if not stale or self.kernel.stale_fault_marks or owner.size == 1:
            self.mark_accessed(owner)
        if stale and (self.kernel.stale_fault_marks or owner.size > 1):
            self.get_user_page(folio, write)
            self.mark_accessed(owner)

    def get_user_page(self, folio: Folio, write: bool) -> None:
        """GUP: its slow path marks a small page accessed, and leaves a huge one as it is."""
        owner = folio.table.owner(folio)
        if folio.present and owner.writable:
            owner.referenced = True
            return
        if not folio.present:
            self.fault(folio, write)
        if not folio.table.huge:
            folio.writable |= write
            self.mark_accessed(folio)

    def prefetch_shadow(self, folio: Folio) -> None:
        """The shadow MMU also maps what is resident among the eight PTEs around a faulted one.

        It goes upwards and gives up at the first page that is not there (and writable). Such an SPTE starts
        without its Accessed bit, but taking the page marks it accessed like the fast GUP path.
        """
        first = folio.index & ~7
        for neighbour in self.mm.folios[first : first + 8]:
            if neighbour is folio or neighbour.s_mapped:
                continue
            owner = neighbour.table.owner(neighbour)
            if not (neighbour.present and owner.writable):
                break
            neighbour.s_mapped = True
            owner.referenced = True
            self.mark_accessed(owner)

    def fault(self, folio: Folio, write: bool) -> None:
        """An anonymous page fault: zero-fill, or swap-in, which an asynchronous device does by the swap cache."""
        self.counters["pgfault"] += 1
        if self.fault_huge(folio):
            return
        self.make_table(folio)
        if folio.swapcache:
            self.swap_readahead.meet(folio)
        else:
            drains = folio.swapped and self.swap_readahead.around(folio)
            self.charge(1)
            folio.reset_flags()
            if folio.swapped:
                self.counters["pgmajfault"] += 1
                self.counters["refaults"] += 1
                self.counters["pswpin"] += 1
                if not self.device.async_swap:
                    self.device.give_slot(folio)
                folio.swapcache = self.device.async_swap or self.kernel.swapin_through_cache
                self.refault(folio)
            self.folio_add_lru(folio)
            if drains:
                self.drain()
            folio.swapcache &= self.device.async_swap
        self.device.free_swap(folio, wanted=write)  # its only user will change it
        folio.writable = write or not folio.swapped or self.kernel.read_swapin_writable
        folio.swapped = False
        folio.present = folio.p = True

    def fault_huge(self, folio: Folio) -> bool:
        """The first touch of 2 MiB: true if they got a huge page."""
        table = folio.table
        size = PTRS_PER_PTE
        whole = folio.index < len(self.mm.folios) and folio.kind == ANON and len(table.folios) == size
        if not (self.huge_pages and whole and not table.populated and self.charge_huge(size, self.huge_reclaims)):
            return False
        self.make_table(folio)
        self.counters["thp_fault_alloc"] += 1
        huge = table.folios[0]
        huge.reset_flags()
        huge.size, table.huge = size, True
        self.aged_at_fault -= size  # it took as long as so many faults
        self.folio_add_lru(huge)
        for page in table.folios:
            page.present = True
        huge.writable = huge.p = True
        return True

    def charge_huge(self, nr: int, reclaims: bool) -> bool:
        tries = 0
        while self.limit_pages is not None and self.charged + nr > self.limit_pages:
            if not reclaims or tries == MAX_RECLAIM_RETRIES + 2:
                return False
            tries += 1
            self.counters["max"] += 1
            if self.counters["pgfault"] - self.aged_at_fault >= self.kernel.switch_after_faults:
                self.context_switch()
            try_to_free_mem_cgroup_pages(self, nr, proactive=False)
            if tries == 1 and self.charged + nr > self.limit_pages:
                self.charged, self.stock = self.charged - self.stock, 0
        self.charged += nr
        return True

    def make_table(self, folio: Folio) -> None:
        """The page table of a page that is about to be mapped; the first one needs two more above it."""
        if folio.table.populated:
            return
        first = not any(table.populated for table in self.mm.tables)
        folio.table.populated = folio.table.pmd_young = True
        for _ in range(1 + UPPER_LEVELS * first):
            self.charge(1)

    def drain(self) -> None:
        self.cpu.drain()

    def effective_swappiness(self) -> int:
        """0 where swap has hardly a slot left (section 7.1)."""
        return self.swappiness if self.device.free_slots() >= self.least_free_slots else 0

    def exit_mmap(self) -> None:
        """The process is gone: what it had is free, but for the page cache of its file."""
        self.device.end_all()
        self.drain()
        for folio in self.mm.every_folio():
            if folio.kind == ANON:
                if folio.swapcache or folio.swapped:
                    self.device.give_slot(folio)
                if folio.gen >= 0:
                    self.take_off_lists(folio)
                folio.reset_flags()
                folio.swapcache = folio.swapped = False
                folio.shadow = None
                folio.size = 1
            folio.present = folio.writable = folio.pte_dirty = False
            folio.p = folio.t = folio.s = folio.t_mapped = folio.s_mapped = False
        for table in self.mm.tables:
            table.populated = table.pmd_young = table.huge = False
        self.mm.stop_l2()
        self.charged, self.stock = sum(folio.cached for folio in self.mm.file), 0

    def leave(self) -> None:
        """The process ends, and its file is deleted: nothing is left of either, and nothing is charged."""
        self.exit_mmap()
        for folio in self.mm.file:
            if folio.cached:
                self.take_off_lists(folio)
            folio.reset_flags()
            folio.cached = folio.dirty = folio.writable = False
            folio.shadow = None
        self.charged = 0

    # What the LRU in use makes of it; the classic LRU has its own answers.
    def refault(self, folio: Folio) -> None:
        workingset_refault(self, folio, folio.shadow)

    def mark_accessed(self, folio: Folio) -> None:
        self.refs.mark_accessed(folio)

    def folio_add_lru(self, folio: Folio) -> None:
        if self.kernel.birth_referenced and not folio.workingset:
            self.refs.mark_accessed(folio)
        else:
            folio.active = True  # in a fault: a word to add_to_lists
        self.cpu.add(self, folio)

    def filemap_add_lru(self, folio: Folio, shadow: Any, in_fault: bool) -> None:
        """A page of a file enters the page cache."""
        if shadow is not None:
            workingset_refault(self, folio, shadow, in_fault)
        if in_fault and self.kernel.birth_referenced and not folio.workingset:
            self.refs.mark_accessed(folio)
        else:
            folio.active = in_fault
        self.cpu.add(self, folio)
        if in_fault or not self.kernel.birth_referenced:
            self.cpu.join(self, folio)

    def call_ended(self, folio: Folio) -> None:
        """read(2) or write(2) of a page is done, and it was marked as it deserves."""
        self.cpu.join(self, folio)

    def rotate(self, folio: Folio) -> None:
        """To where it will be isolated next."""
        self.lruvec.del_folio(folio)
        self.lruvec.add_folio(folio, to_tail=True)

    def add_to_lists(self, folio: Folio) -> None:
        self.lruvec.add_folio(folio)

    def take_off_lists(self, folio: Folio) -> None:
        self.lruvec.del_folio(folio)

    def activate_now(self, folio: Folio) -> None:
        if folio.gen < 0:
            return  # being reclaimed right now
        self.lruvec.del_folio(folio)
        folio.active = True
        self.lruvec.add_folio(folio)
        self.counters["pgactivate"] += 1

    def shrink(self, sc: ScanControl) -> None:
        shrink_lruvec(self, sc)

    def wait_for_io(self) -> None:
        self.device.end_all()

    def wait_for_flusher(self) -> None:
        self.device.flush_and_wait()

    def reclaim_ended(self, sc: ScanControl) -> None:
        """All priorities were gone through."""

    # Charging (section 8).
    def charge(self, nr: int) -> None:
        if self.stock >= nr:
            self.stock -= nr
            return
        batch = MEMCG_CHARGE_BATCH
        limit = self.limit_pages
        drained = killed = False
        retries = MAX_RECLAIM_RETRIES
        while limit is not None and self.charged + batch > limit:
            if batch > nr:
                batch = nr
                continue
            self.counters["max"] += 1
            if self.counters["pgfault"] - self.aged_at_fault >= self.kernel.switch_after_faults:
                self.context_switch()
            got = try_to_free_mem_cgroup_pages(self, nr, proactive=False)
            if self.charged + nr <= limit:
                continue
            if not drained:
                drained = True
            elif not got and retries:
                retries -= 1
            elif not got and killed:
                raise OomKilledError
            elif not got:
                killed, retries = True, MAX_RECLAIM_RETRIES
        self.charged += batch
        self.stock += batch - nr

    def charge_kernel(self, nr: int) -> None:
        """Kernel memory is charged page by page, like everything else."""
        for _ in range(nr):
            self.charge(1)

    def uncharge(self, nr: int) -> None:
        self.charged -= nr

    # Files.
    def access_file(self, page: int, mapped: bool, write: bool) -> None:
        access = access_mapped if mapped else read_or_write
        access(self, self.mm.file[page], write)

    def context_switch(self) -> None:
        """The scheduler switched to the process: its mm will be walked by the next aging."""
        self.mm.used = True

    def switched_to(self) -> None:
        """The process runs after another one: it was switched to, and its TLB entries are gone."""
        self.context_switch()
        if self.mm.tlb:
            self.mm.tlb.flush()

    # Orders from user space.
    def age(self, swappiness: int = 1, force_scan: bool = True) -> None:
        """debugfs ``+ memcg node max_seq swappiness force_scan``."""
        try_to_inc_max_seq(self, swappiness, force_scan)

    def age_node(self, priority: int) -> bool:
        """kswapd's look at a node whose only memcg this is; True if it called the OOM killer."""
        return age_node([self], priority)

    def evict(self, seq: int, swappiness: int = 200, nr: int = 1 << 62) -> None:
        run_eviction(self, seq, swappiness, nr)

    def memcgs(self, sc: ScanControl) -> Iterator[ReferenceHost]:
        """The memcgs that a reclaim of this one visits."""
        yield self

    def memory_reclaim(self, nr: int) -> int:
        return memory_reclaim(self, nr)
