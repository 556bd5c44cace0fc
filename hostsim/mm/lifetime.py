"""A guest comes, and goes: mem_cgroup_css_online and exit_mmap, and what becomes of its file and of its memcg.

Who leaves takes its file with it, which is nobody else's (truncate_inode_pages). Its memcg has nothing charged then,
and is taken off the memcg LRU (lru_gen_release_memcg); a new one is put on its older half (lru_gen_online_memcg).
"""

from __future__ import annotations

from coldfleet.hostsim.engine.jit import compiled, page_row
from coldfleet.hostsim.engine.state import FILE, FILE_PAGE, IN_PAGE_CACHE, Machine
from coldfleet.hostsim.mm import classic
from coldfleet.hostsim.mm.oom_kill import exit_mmap, free_page
from coldfleet.hostsim.mm.page_alloc import alloc_page
from coldfleet.hostsim.mm.workingset import NEVER
from coldfleet.hostsim.mm.writeback import end_writeback


@compiled
def arrive(m: Machine, g: int, kernel_pages: int) -> None:
    """A guest is there from now on, with so much kernel memory; it may be killed for that at once."""
    mm = m.mms[g]
    mm.online, mm.exited = 1, 0
    mm.memcg_seq = m.node[0].memcg_seq
    m.lruvecs[g].timestamps[:] = m.node[0].now_ms
    for _ in range(kernel_pages):
        mm.kernel_pages += alloc_page(m, g)
    if mm.oom_reason:
        exit_mmap(m, g)


@compiled
def leave(m: Machine, g: int) -> None:
    """A guest goes, killed before or not, and all that it had is free."""
    exit_mmap(m, g)
    _truncate_file(m, g)
    m.mms[g].online = 0


@compiled
def _truncate_file(m: Machine, g: int) -> None:
    """truncate_inode_pages: a guest's file is gone, whatever was or was not written of it."""
    mm = m.mms[g]
    end_writeback(m, g, mm.under_writeback)
    classic.lru_add_drain(m, mm.cpu)
    for page in range(mm.file_first, mm.file_first + mm.file_pages):
        row = page_row(m, page)
        if row.flags & IN_PAGE_CACHE:
            free_page(m, g, page, FILE)
        row.state, row.flags, row.shadow = 0, FILE_PAGE, NEVER
    m.parent[0].charged -= mm.charged
    mm.charged = m.events[g].cached_pages = 0
