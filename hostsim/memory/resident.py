"""How much of a guest is in memory."""

from __future__ import annotations

from coldfleet.hostsim.engine.jit import compiled, popcount
from coldfleet.hostsim.engine.state import PRESENT, Machine


@compiled
def resident_pages(m: Machine, g: int) -> int:
    """Pages of the guest's memslot that are in memory."""
    mm = m.mms[g]
    found = 0
    for word in range(mm.first // 64, (mm.first + mm.pages + 63) // 64):
        found += popcount(m.bits[word, PRESENT])
    return found


@compiled
def count_tick(m: Machine) -> None:
    """A tick has passed with what is in memory now."""
    for g in range(len(m.mms)):
        m.events[g].resident_page_ticks += resident_pages(m, g)
