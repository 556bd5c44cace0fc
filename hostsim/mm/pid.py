"""The PID controller: which type to evict, and which tiers of it to protect (mm/vmscan.c)."""

from __future__ import annotations

from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.engine.state import ANON, FILE, MAX_NR_TIERS, MIN_LRU_BATCH, Record
from coldfleet.hostsim.spec.checks import MAX_SWAPPINESS


@inlined
def is_evictable(kind: int, swappiness: int) -> bool:
    """Whether pages of a type may be evicted at all with this swappiness."""
    return swappiness <= MAX_SWAPPINESS if kind == FILE else swappiness != 0


@inlined
def _position(f: Record, lruvec: Record, kind: int, first: int, end: int) -> tuple[int, int]:
    """read_ctrl_pos: refaulted and total pages of the tiers ``first`` .. ``end`` - 1 of a type, of the whole memory."""
    refaulted = total = 0
    for tier in range(first, end):
        refaulted += lruvec.avg_refaulted[kind, tier] + lruvec.refaulted[kind, tier]
        total += lruvec.avg_total[kind, tier] + lruvec.evicted[kind, tier] + lruvec.protected[kind, tier]
    return refaulted * f.scale, total * f.scale


@inlined
def _may_evict(set_point: tuple[int, int], sp_gain: int, value: tuple[int, int], gain: int) -> bool:
    """positive_ctrl_err: what is asked about refaults no more, in proportion, than the set point."""
    refaulted, total = value
    return refaulted < MIN_LRU_BATCH or (
        refaulted * (set_point[1] + MIN_LRU_BATCH) * sp_gain <= (set_point[0] + 1) * total * gain
    )


@compiled
def _tier_limit(f: Record, lruvec: Record, sp_kind: int, sp_gain: int, kind: int, gain: int) -> int:
    """The highest tier of a type that may be evicted, judged against tier 0 of ``sp_kind``."""
    set_point = _position(f, lruvec, sp_kind, 0, 1)
    tier = 1
    while tier < MAX_NR_TIERS and _may_evict(set_point, sp_gain, _position(f, lruvec, kind, tier, tier + 1), gain):
        tier += 1
    return tier - 1


@compiled
def get_tier_idx(f: Record, lruvec: Record, kind: int) -> int:
    """The highest tier of a type that may be evicted: higher ones refault too much against its tier 0."""
    if f.pid_all_tiers:
        return _tier_limit(f, lruvec, kind, 2, kind, 3)
    return _tier_limit(f, lruvec, kind, 1, kind, 2)


@compiled
def get_type_to_scan(f: Record, lruvec: Record, swappiness: int) -> tuple[int, int]:
    """The type to evict from, and the highest tier of it that is not protected."""
    anon_first = not f.pid_all_tiers and lruvec.min_seq[ANON] < lruvec.min_seq[FILE]
    if swappiness == 0 or (swappiness == 1 and not anon_first):
        return FILE, get_tier_idx(f, lruvec, FILE)
    if swappiness >= MAX_SWAPPINESS or anon_first:
        return ANON, get_tier_idx(f, lruvec, ANON)
    tiers = MAX_NR_TIERS if f.pid_all_tiers else 1
    anon = _position(f, lruvec, ANON, 0, tiers)
    file = _position(f, lruvec, FILE, 0, tiers)
    file_gain = MAX_SWAPPINESS - swappiness
    kind = FILE if _may_evict(anon, swappiness, file, file_gain) else ANON
    if f.pid_all_tiers:
        return kind, get_tier_idx(f, lruvec, kind)
    if kind == FILE:
        return FILE, _tier_limit(f, lruvec, ANON, swappiness, FILE, file_gain)
    return ANON, _tier_limit(f, lruvec, FILE, file_gain, ANON, swappiness)
