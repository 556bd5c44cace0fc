"""What reclaim did on a host as a trace for Perfetto (ui.perfetto.dev) or chrome://tracing.

The format is Chrome's trace event format, an object with traceEvents. A tick is shown as a second, and within it an
access takes its share; passes, batches and locks have no length of their own and are shown one access long.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from coldfleet.cluster.inspection.explain import Explanation
from coldfleet.cluster.inspection.words import ask_in_words, changes_in_words
from coldfleet.hostsim.memory.watch import Instant, Operation

TICK_US = 1_000_000
_TRACKS = {
    "aging": ("agings", "mm_walks", "walk_tables", "walk_ptes"),
    "eviction": ("pgscan", "pgsteal", "pgrefill", "pswpout"),
    "locks": (
        "rcu_acquisitions",
        "rmap_acquisitions",
        "mmu_read_acquisitions",
        "mmu_write_acquisitions",
    ),
}
_PAGE_TRACK = len(_TRACKS)


def trace(explanation: Explanation) -> dict[str, Any]:
    """The whole trace: a process for each guest, with a track for aging, eviction and locks, and one for the page."""
    guests = sorted({step.guest for step in explanation.steps} | {explanation.guest})
    events = [
        event
        for guest in guests
        for event in (
            {"ph": "M", "name": "process_name", "pid": guest, "tid": 0, "args": {"name": f"guest {guest}"}},
            *_thread_names(
                guest, [*_TRACKS, *([f"page {explanation.life.page}"] if guest == explanation.guest else [])]
            ),
        )
    ]
    timed = [event for step in explanation.steps for event in _step_events(step, explanation)]
    timed += list(_page_events(explanation))
    timed.sort(key=lambda event: (event["ts"], -event.get("dur", 0)))
    return {"traceEvents": events + timed, "displayTimeUnit": "ms", "otherData": {"tick": "shown as 1 s"}}


def _thread_names(guest: int, tracks: list[str]) -> Iterable[dict[str, Any]]:
    for number, name in enumerate(tracks):
        yield {"ph": "M", "name": "thread_name", "pid": guest, "tid": number, "args": {"name": name}}


def _step_events(step: Operation, explanation: Explanation) -> Iterable[dict[str, Any]]:
    start, length = _span(step.when, explanation)
    for number, (track, counters) in enumerate(_TRACKS.items()):
        moved = {name: step.changes[name] for name in counters if name in step.changes}
        if moved:
            arguments = {**moved, "max_seq": step.max_seq, "in": step.cause}
            place = {"pid": step.guest, "tid": number, "ts": start, "dur": length}
            yield {"ph": "X", "name": track, "cat": track, **place, "args": arguments}
    if refaults := step.changes.get("refaults"):
        yield {"ph": "C", "name": "refaults", "pid": step.guest, "tid": 0, "ts": start, "args": {"refaults": refaults}}


def _page_events(explanation: Explanation) -> Iterable[dict[str, Any]]:
    where = {"pid": explanation.guest, "tid": _PAGE_TRACK, "s": "t", "ph": "i"}
    for touch in explanation.life.touches:
        who = "L2" if touch.by_l2 else "L1"
        what = f"{'written' if touch.write else 'read'} by {who}"
        yield {**where, "name": what, "cat": "touch", "ts": _span(touch.when, explanation)[0], "args": {}}
    for ask in explanation.life.asks:
        what = ask_in_words(ask, explanation.life)
        yield {**where, "name": what, "cat": "ask", "ts": _span(ask.when, explanation)[0], "args": {}}
    for moment in explanation.life.moments:
        if said := changes_in_words(moment):
            start = _span(moment.when, explanation)[0]
            yield {**where, "name": "; ".join(said), "cat": "page", "ts": start, "args": {"in": moment.cause}}


def _span(when: Instant, explanation: Explanation) -> tuple[float, float]:
    """Where on the trace something is and how long it is shown, in µs; the scale is that of the page's guest."""
    accesses = explanation.accesses.get(when.tick, 0)
    length = TICK_US / (accesses + 1)
    return (when.tick * TICK_US + min(when.access, accesses) * length, length)
