"""User-space reclaim: after each tick of a guest it ages, and reclaims as the host's mode says."""

from __future__ import annotations

from coldfleet.hostsim.clock.aging_thread import Job, Piece
from coldfleet.hostsim.clock.psi import Psi
from coldfleet.hostsim.engine.state import MIN_NR_GENS
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.spec.host_spec import HostSpec

EVICT_SWAPPINESS = 200  # of the debugfs `-`: anonymous memory only
PART_TABLES = 64  # page tables (128 MiB) that an aging walks before it looks at its budget: about 1 ms
SENPAI_RATIO = 0.0005  # of the memory, in a period without pressure (TMO, Weiner et al., ASPLOS 2022, section 3.3)


def is_due(spec: HostSpec, tick: int) -> bool:
    """Whether :func:`user_space_reclaim` does more in a tick than read statistics."""
    aging = spec.aging_every_ticks and tick % spec.aging_every_ticks == 0
    periodic = spec.mode in ("age", "pressure") and tick % spec.period_ticks == 0
    return bool(aging or periodic or spec.scenario or spec.mode in ("proactive", "debugfs"))


def user_space_reclaim(memory: HostMemory, spec: HostSpec, g: int, tick: int, psi: Psi | None) -> Job:
    """What user space does to a guest after its tick; ``psi``: its memory.pressure, None where nothing takes time.

    Nobody ages one that was killed, or reclaims its memory.
    """
    lives = memory.is_alive(g)
    if lives and spec.aging_every_ticks and tick and tick % spec.aging_every_ticks == 0:
        yield from _age(memory, spec, g, force_scan=False)
    if spec.scenario:
        memory.drain()
    memory.flush_stats()  # the kernel does it every 2 s, or when someone reads memory.stat
    if spec.parent_pages:
        yield from _reclaim_parent(memory, spec)
    elif lives:
        yield from _reclaim(memory, spec, g, tick)
        if tick and tick % spec.period_ticks == 0:
            yield from _reclaim_cold(memory, spec, g, psi)
    if spec.scenario:
        memory.drain()
    memory.flush_stats()


def _age(memory: HostMemory, spec: HostSpec, g: int, *, force_scan: bool) -> Job:
    """`+` of the debugfs file; on a clock, in parts if it is a long one."""
    begin, end = memory.tables(g)
    if spec.clock and end - begin > PART_TABLES:
        yield from (Piece.WALKED for _ in memory.age_in_parts(g, 1, force_scan, PART_TABLES))
    else:
        memory.age(g, force_scan=force_scan)
    yield Piece.AGED


def _reclaim(memory: HostMemory, spec: HostSpec, g: int, tick: int) -> Job:
    """What user space asks for after a guest's tick, but for the one that populates."""
    if spec.mode not in ("debugfs", "proactive") or not spec.guests[g].limit_pages or not tick:
        return
    surplus = memory.in_memory(g) - spec.guests[g].limit_pages
    if spec.mode == "debugfs":
        yield from _age(memory, spec, g, force_scan=True)
        if surplus > 0:
            oldest_evictable = int(memory.lruvec(g)["max_seq"]) - MIN_NR_GENS
            memory.evict(g, oldest_evictable, EVICT_SWAPPINESS, surplus)
    elif spec.mode == "proactive" and surplus > 0:
        memory.memory_reclaim(g, surplus)
    yield Piece.RECLAIMED


def _reclaim_cold(memory: HostMemory, spec: HostSpec, g: int, psi: Psi | None) -> Job:
    """What user space asks for in every period, whatever the guest's limit."""
    if spec.mode == "age":
        yield from _age(memory, spec, g, force_scan=True)
        memory.evict(g, int(memory.lruvec(g)["max_seq"]) - MIN_NR_GENS, EVICT_SWAPPINESS, memory.in_memory(g))
        yield Piece.RECLAIMED
    elif spec.mode == "pressure":
        calm = 1 - psi.some_since_last() / spec.psi_target if psi else 1.0
        pages = round(memory.in_memory(g) * SENPAI_RATIO * calm)
        if pages > 0:
            memory.memory_reclaim(g, pages)
            yield Piece.RECLAIMED


def _reclaim_parent(memory: HostMemory, spec: HostSpec) -> Job:
    """The same for the memcg above all guests: after every guest's tick, also as they populate."""
    surplus = sum(memory.in_memory(g) for g in range(len(spec.guests))) - spec.parent_pages
    if spec.mode == "proactive" and surplus > 0:
        memory.memory_reclaim_parent(surplus)
    yield Piece.RECLAIMED
