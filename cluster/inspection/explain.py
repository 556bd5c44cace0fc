"""The life of one page: a host of a sweep is simulated again, bit for bit, and watched.

What a kernel can't know, the simulator does: when the page was touched, and what came after. So each eviction is
judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow.dataset as ds

from coldfleet.cluster.execution.work import guest_rows
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import schema
from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.plan import Run
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_PAGE
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.memory.watch import Eviction, Instant, Life, Moment, Operation, PageWatch, Touch
from coldfleet.hostsim.spec.errors import UserError

_Memory = TypeVar("_Memory", bound=HostMemory)


@dataclass(frozen=True)
class JudgedEviction:
    """Whether an eviction was right.

    ``idle_ticks``: how long ago the page was touched last. ``asked_in_vain``: it was touched after MGLRU last asked for
    it, and taken for old. ``next_touch``: when it was wanted again. ``others``: different pages that the guest touched
    between the two touches; a memory that keeps the ``limit_pages`` last touched would have had the page if there were
    fewer. None: it was not touched again.
    """

    when: Instant
    idle_ticks: int
    asked_in_vain: bool
    next_touch: Instant | None
    others: int | None
    limit_pages: int

    @property
    def right(self) -> bool:
        """The page was not touched again, or so late that no memory of this size could have kept it."""
        return self.others is None or self.others >= self.limit_pages

    def __str__(self) -> str:
        if self.next_touch is None:
            return "right: it was not touched again"
        told = f"it came back in tick {self.next_touch.tick}, after {self.others:,} other pages"
        if self.right:
            return f"right: {told}, and the guest may keep {self.limit_pages:,}"
        why = ", though it had been touched since MGLRU last asked for it" if self.asked_in_vain else ""
        return f"wrong{why}: {told}; LRU would have kept {self.limit_pages:,}"


@dataclass(frozen=True)
class Fates:
    """What became of a guest's evicted pages: the evictions after tick 0 of the pages that one level touched last.

    ``idle_ticks``: the median time since that touch. ``wanted_ticks``: the median time until the next one; None if
    fewer than half were touched again. ``wanted_in_a_tick``: share that was, within the time of a tick, 0..1. Times
    are in ticks, over which a tick's accesses are spread evenly.
    """

    by_l2: bool
    evictions: int
    idle_ticks: float
    wanted_ticks: float | None
    wanted_in_a_tick: float

    def __str__(self) -> str:
        again = "never" if self.wanted_ticks is None else f"after {self.wanted_ticks:.2f} ticks"
        return (
            f"{self.evictions:,} evictions of pages that {'L2' if self.by_l2 else 'L1'} touched last, "
            f"{self.idle_ticks:.2f} ticks before; wanted again {again} (medians), "
            f"{self.wanted_in_a_tick:.0%} of them within a tick"
        )


@dataclass(frozen=True)
class Explanation:
    """The life of a page. ``why``: it was chosen; ``steps``: what aging and reclaim did on the host meanwhile.

    ``fates``: of all evicted pages of the guest.
    """

    run: Run
    host: int
    guest: int
    guest_name: str
    why: str
    life: Life
    judged: list[JudgedEviction]
    steps: list[Operation]
    accesses: dict[int, int]
    fates: list[Fates]

    def as_json(self) -> dict[str, Any]:
        """All but the steps as plain data."""
        return {
            "cell_id": self.run.cell.cell_id,
            "replicate": self.run.replicate,
            "host": self.host,
            "guest": self.guest,
            "page": self.life.page,
            "why": self.why,
            "fates": [asdict(fates) for fates in self.fates],
            "touches": [{**touch._asdict(), "when": touch.when._asdict()} for touch in self.life.touches],
            "moments": [
                {
                    **asdict(moment),
                    "when": moment.when._asdict(),
                    "before": moment.before._asdict(),
                    "after": moment.after._asdict(),
                }
                for moment in self.life.moments
            ],
            "evictions": [
                {
                    **asdict(eviction),
                    "when": eviction.when._asdict(),
                    "next_touch": eviction.next_touch and eviction.next_touch._asdict(),
                    "right": eviction.right,
                    "says": str(eviction),
                }
                for eviction in self.judged
            ],
        }


def explain(
    results: Results, run: Run, host: int = 0, guest: int | None = None, page: int | None = None
) -> Explanation:
    """Simulates the host again and follows a page; without one it follows the one that says most about the policy.

    ``guest``: None for the one with the most refaults. Raises :class:`UserError` for a run that isn't done, a host,
    guest or page that there isn't, and results that this version of the simulator doesn't reproduce.
    """
    rows = stored_guests(results, run, host)
    if guest is None:
        guest = max(rows, key=lambda row: (row["pgmajfault"], -row["guest"]))["guest"]
    if not 0 <= guest < len(rows):
        raise UserError(f"no guest {guest}: host {host} has 0 to {len(rows) - 1}")
    pages = rows[guest]["memory_pages"]
    if page is not None and not 0 <= page < pages:
        raise UserError(f"no page {page}: the guest has 0 to {pages - 1}")
    why = "asked for"
    spec = build_hosts(run)[host].guests[guest]
    limit = spec.limit_pages or spec.memory_pages
    watch = _follow(results, run, host, guest, page)
    if page is None:
        page, why = choose(watch, limit)
        watch = _follow(results, run, host, guest, page)
    life = watch.lives[page]
    made: Counter[int] = Counter()
    for tick, accesses in watch.drawn:
        made[tick] += len(accesses)
    judged = judge(life, watch, limit)
    return Explanation(
        run, host, guest, rows[guest]["name"], why, life, judged, watch.operations, dict(made), fates(watch)
    )


def _follow(results: Results, run: Run, host: int, guest: int, page: int | None) -> PageWatch:
    pages = [] if page is None else [page]
    return rerun_host(results, run, host, lambda *arguments, **options: PageWatch(guest, pages, *arguments, **options))


def rerun_host(results: Results, run: Run, host: int, make_memory: Callable[..., _Memory]) -> _Memory:
    """Simulates one host of a run on a memory that watches, and returns that.

    Raises :class:`UserError` if the guests' rows aren't the stored ones, bit for bit.
    """
    from coldfleet.hostsim.host import simulate_host

    spec = build_hosts(run)[host]
    made: list[_Memory] = []

    def keep(*arguments: Any, **options: Any) -> _Memory:
        made.append(make_memory(*arguments, **options))
        return made[-1]

    seed, replicate = run.cell.seed, run.replicate
    result = simulate_host(spec, run.cell.policy, seed=seed, replicate=replicate, host=host, make_memory=keep)
    for stored, again in zip(stored_guests(results, run, host), guest_rows(host, spec, result), strict=True):
        for name, value in again.items():
            if stored[name] != value:
                raise UserError(
                    f"{results.storage} was made by another version of the simulator: guest {stored['guest']} has "
                    f"{name} {stored[name]} there, {value} here"
                )
    return made[0]


def stored_guests(results: Results, run: Run, host: int) -> list[dict[str, Any]]:
    """The rows of the guests of one host of a run; raises :class:`UserError` if there are none."""
    cell_id, replicate = run.cell.cell_id, run.replicate
    mine = (ds.field("cell_id") == cell_id) & (ds.field("replicate") == replicate)
    rows: list[dict[str, Any]] = results.table("guests", schema("guests").names, mine).to_pylist()
    if not rows:
        raise UserError(f"cell {cell_id}, replicate {replicate} isn't done: coldfleet resume {results.storage}")
    hosts = sorted({row["host"] for row in rows})
    if host not in hosts:
        raise UserError(f"no host {host}: the fleet has {hosts[0]} to {hosts[-1]}")
    return [row for row in rows if row["host"] == host]


def choose(watch: PageWatch, limit_pages: int) -> tuple[int, str]:
    """The page of a guest that says most about its policy, and why it does."""
    pages = _accessed(watch)
    if not watch.evictions:
        return int(np.bincount(pages).argmax()), "no page was evicted; this one was touched most"
    regretted = _regretted(watch, pages, limit_pages)
    for chosen, what in (
        (
            [each for each in regretted if each.touched],
            "lost {} though touched since MGLRU last asked for it, and soon",
        ),
        (regretted, "evicted {}, and soon"),
    ):
        if chosen:
            page, times = _most_common(chosen)
            return page, f"{what.format(times)} wanted again: most often of the guest's pages"
    page, times = _most_common(watch.evictions)
    return page, f"evicted {times}: most often of the guest's pages"


def _regretted(watch: PageWatch, pages: npt.NDArray[np.int64], limit_pages: int) -> list[Eviction]:
    """The evictions that were certainly wrong: the guest made fewer accesses between two of the page than it may keep
    pages."""
    last, after = _uses(watch, pages)
    soon = (last >= 0) & (after >= 0) & (after - last <= limit_pages)
    return [watch.evictions[number] for number in np.flatnonzero(soon)]


def _uses(watch: PageWatch, pages: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each eviction the numbers of the page's accesses before and after it; -1 where there is none."""
    order = np.argsort(pages, kind="stable")  # by page, then by time
    keys = pages[order] * len(pages) + order
    evicted = np.array([eviction.page for eviction in watch.evictions])
    following = np.searchsorted(keys, evicted * len(pages) + _places(watch))
    uses = []
    for places in (following - 1, following):
        numbers = order[np.clip(places, 0, len(order) - 1)]
        uses.append(np.where((places >= 0) & (places < len(order)) & (pages[numbers] == evicted), numbers, -1))
    return uses[0], uses[1]


def fates(watch: PageWatch) -> list[Fates]:
    """What became of the guest's evicted pages, by the level that touched them last."""
    if not watch.evictions:
        return []
    pages, starts = _accessed(watch), _starts(watch)
    last, after = _uses(watch, pages)
    by_l2 = np.concatenate([accesses & np.uint32(ACCESS_L2) for _, accesses in watch.drawn]) != 0
    numbers = np.vstack([last, _places(watch), np.where(after < 0, len(pages), after)])
    last_time, time, next_time = np.interp(numbers, starts, np.arange(len(starts)))
    next_time[after < 0] = np.inf
    after_populating = (last >= 0) & (_places(watch) >= starts[1])
    found = []
    for level in (False, True):
        some = after_populating & (by_l2[last] == level)
        if some.any():
            wanted = next_time[some] - time[some]
            middle = float(np.sort(wanted)[(len(wanted) - 1) // 2])
            idle = float(np.median(time[some] - last_time[some]))
            share = float(np.mean(wanted < 1))
            found.append(Fates(level, int(some.sum()), idle, middle if np.isfinite(middle) else None, share))
    return found


def _most_common(evictions: list[Eviction]) -> tuple[int, str]:
    """The page that was evicted most often, the first by number of several, and how often."""
    counts = Counter(eviction.page for eviction in evictions)
    page = min(counts, key=lambda page: (-counts[page], page))
    return page, "once" if counts[page] == 1 else f"{counts[page]} times"


def _accessed(watch: PageWatch) -> npt.NDArray[np.int64]:
    """The pages of all accesses of the guest, in order."""
    drawn = [accesses & np.uint32(ACCESS_PAGE) for _, accesses in watch.drawn]
    return np.concatenate([np.zeros(0, np.int64), *drawn]).astype(np.int64)


def _starts(watch: PageWatch) -> npt.NDArray[np.int64]:
    """For each tick the number of accesses before it; on a clock a tick may have none."""
    made = np.zeros(watch.tick + 2, np.int64)
    for tick, accesses in watch.drawn:
        made[tick + 1] += len(accesses)
    return np.cumsum(made)


def _places(watch: PageWatch) -> npt.NDArray[np.int64]:
    """For each eviction the number of the access in the course of which it happened, or before which."""
    starts = _starts(watch)
    return np.array([_place(starts, eviction.when) for eviction in watch.evictions], np.int64)


def _place(starts: npt.NDArray[np.int64], when: Instant) -> int:
    """The number of an access among all of the guest's, or of the first one after something else."""
    return int(starts[when.tick]) + when.access


def judge(life: Life, watch: PageWatch, limit_pages: int) -> list[JudgedEviction]:
    """Judges each eviction of the page."""
    pages, starts = _accessed(watch), _starts(watch)
    judged = []
    for moment in life.moments:
        if not moment.evicted:
            continue
        last = next((touch for touch in reversed(life.touches) if touch.when < moment.when), None)
        following = next((touch for touch in life.touches if touch.when >= moment.when), None)
        others = None
        if following is not None:
            start = _place(starts, last.when) + 1 if last is not None else 0
            others = len(np.unique(pages[start : _place(starts, following.when)]))
        judged.append(
            JudgedEviction(
                moment.when,
                moment.when.tick - (last.when.tick if last is not None else 0),
                moment.before.touched,
                following.when if following is not None else None,
                others,
                limit_pages,
            )
        )
    return judged


def in_words(explanation: Explanation) -> list[str]:
    """The life as lines of text: touches, and what happened to the page, in order."""
    judged = {eviction.when: eviction for eviction in explanation.judged}
    touches = list(explanation.life.touches)
    lines: list[str] = []
    for moment in explanation.life.moments:
        before = [touch for touch in touches if touch.when < moment.when]
        lines += _touches_in_words(before)
        touches = touches[len(before) :]
        tick, access = moment.when
        over = access >= explanation.accesses.get(tick, 0)
        where = f"tick {tick:<3} " + ("after the accesses" if over else f"access {access:,}")
        lines.append(f"{where:<24}  {'; '.join(changes_in_words(moment))}")
        if moment.cause and not moment.faulted_in:
            lines.append(f"{'':<24}    in {moment.cause}")
        if moment.evicted:
            lines.append(f"{'':<24}    {judged[moment.when]}")
    return lines + _touches_in_words(touches)


def _touches_in_words(touches: list[Touch]) -> list[str]:
    if not touches:
        return []
    first, last = touches[0].when.tick, touches[-1].when.tick
    ticks = f"tick {first}" if first == last else f"ticks {first} to {last}"
    by_l2, writes = sum(touch.by_l2 for touch in touches), sum(touch.write for touch in touches)
    times = "once" if len(touches) == 1 else f"{len(touches)} times"
    who = "by L1" if not by_l2 else "by L2" if by_l2 == len(touches) else f"by L1 and L2 ({by_l2})"
    written = f", {writes} of them writes" if writes and len(touches) > 1 else ", a write" if writes else ""
    return [f"{ticks:<24}  touched {times} {who}{written}"]


def changes_in_words(moment: Moment) -> list[str]:
    """What happened to a page in a moment."""
    before, after = moment.before, moment.after
    if moment.evicted:
        young = [name for name in ("primary", "tdp", "shadow") if getattr(before, name)]
        bits = f"Accessed bits: {', '.join(young)}" if young else "no Accessed bit set"
        where = f"from generation {before.seq} (now {moment.min_seq} to {moment.max_seq}) " if before.seq >= 0 else ""
        return [f"evicted {where}with {bits}"]
    said = []
    if moment.faulted_in:
        how = "read from swap: a refault" if before.swapped else "mapped for the first time"
        said.append(how + (f", generation {after.seq}" if after.seq >= 0 else ""))
        return said
    if before.seq != after.seq:
        said.append(f"moved from generation {before.seq} to {after.seq} ({moment.min_seq} to {moment.max_seq})")
    for name in ("primary", "tdp", "shadow"):
        was, is_now = getattr(before, name), getattr(after, name)
        if was != is_now:
            said.append(f"Accessed bit {name} {'set' if is_now else 'cleared'}")
    if before.touched and not after.touched:
        said.append("MGLRU asked for it")
    for name in ("referenced", "workingset", "active"):
        if getattr(before, name) != getattr(after, name):
            said.append(f"{'' if getattr(after, name) else 'no longer '}{name}")
    if before.refs != after.refs:
        said.append(f"references {before.refs} to {after.refs}")
    if before.swapped != after.swapped:
        said.append("its copy on the swap device is " + ("there" if after.swapped else "given up"))
    return said
