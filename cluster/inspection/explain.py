"""The life of one page: a host of a sweep is simulated again, bit for bit, and watched.

What a kernel can't know, the simulator does: when the page was touched, and what came after. So each answer and each
eviction is judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow.compute as pc

from coldfleet.cluster.execution.work import guest_rows
from coldfleet.cluster.inspection.judgement import (
    Fates,
    JudgedEviction,
    accessed,
    fates,
    judge,
    most_common,
    refaults,
    regretted,
)
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import schema
from coldfleet.cluster.stats.metrics import SUMMARY
from coldfleet.cluster.study.fleet import build_fleet, build_hosts
from coldfleet.cluster.study.plan import Run
from coldfleet.cluster.study.terminal import announced
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.memory.watch import Life, Operation, PageWatch
from coldfleet.hostsim.spec.errors import UserError

_Memory = TypeVar("_Memory", bound=HostMemory)
_WRONG = [metric for metric in SUMMARY if metric.key in ("missed_young", "false_young")]


@dataclass(frozen=True)
class Explanation:
    """The life of a page in one run. ``why``: it was chosen; ``steps``: what aging and reclaim did on the host.

    ``accesses``: that the guest made in each tick. ``fates``: of all evicted pages of the guest.
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
            "policy": self.run.cell.policy.name,
            "replicate": self.run.replicate,
            "host": self.host,
            "guest": self.guest,
            "page": self.life.page,
            "why": self.why,
            "fates": [asdict(fates) for fates in self.fates],
            "touches": [{**touch._asdict(), "when": touch.when._asdict()} for touch in self.life.touches],
            "asks": [{**asdict(ask), "when": ask.when._asdict()} for ask in self.life.asks],
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
    results: Results,
    runs: Sequence[Run],
    host: int | None = None,
    guest: int | None = None,
    page: int | None = None,
) -> list[Explanation]:
    """Simulates a host again in one run or in two, and follows a page; without one it follows the one that says most.

    ``guest``: None for the one with the most wrong answers (missed and false young pages), with two runs for the one
    whose refaults differ most, of those whose accesses are the same in both; ``host``: None for that guest's. Raises
    :class:`UserError` for a run that isn't done, a host, guest or page that there isn't, guests that make other
    accesses in the other run, and results that this version of the simulator doesn't reproduce.
    """
    stored = [stored_guests(results, run, host) for run in runs]
    fitting = _numbered(stored, guest)
    if not (alike := _alike(fitting)):
        who = "every guest" if guest is None else f"guest {guest}"
        where = "" if host is None and guest is None else f" of host {fitting[0][0]['host']}"
        others = _alike([stored_guests(results, run, None) for run in runs])
        mend = (
            f"choose --host {others[0][0]['host']} --guest {others[0][0]['guest']}"
            if others
            else "choose a key that leaves accesses as they are, such as policy"
        )
        raise UserError(f"{who}{where} makes other accesses in cell {runs[-1].cell.cell_id}: {mend}")
    row = _telling(alike)
    host, guest, pages = row["host"], row["guest"], row["memory_pages"]
    if page is not None and not 0 <= page < pages:
        raise UserError(f"no page {page}: the guest has 0 to {pages - 1}")
    spec = build_hosts(runs[0])[host].guests[guest]
    limit = spec.limit_pages or spec.memory_pages
    passes = 1 if page is not None else 2
    ticks = announced(passes * sum(run.cell.spec.ticks + 1 for run in runs), "ticks simulated")
    why = "as given"
    if page is None:
        page, why = choose([_follow(results, run, host, guest, None, ticks) for run in runs], limit)
    found = []
    for run in runs:
        watch = _follow(results, run, host, guest, page, ticks)
        made: Counter[int] = Counter()
        for tick, accesses in watch.drawn:
            made[tick] += len(accesses)
        life = watch.lives[page]
        judged = judge(life, watch, limit)
        found.append(
            Explanation(run, host, guest, row["name"], why, life, judged, watch.operations, dict(made), fates(watch))
        )
    return found


_Rows = list[dict[str, Any]]


def _numbered(stored: Sequence[_Rows], guest: int | None) -> list[_Rows]:
    """The rows of the guest of that number on the first host, or all rows; raises :class:`UserError`."""
    if guest is None:
        return list(stored)
    host = stored[0][0]["host"]
    of_host = [[row for row in rows if row["host"] == host] for rows in stored]
    if not 0 <= guest < len(of_host[0]):
        raise UserError(f"no guest {guest}: host {host} has 0 to {len(of_host[0]) - 1}")
    return [[row for row in rows if row["guest"] == guest] for rows in of_host]


def _alike(stored: Sequence[_Rows]) -> list[tuple[dict[str, Any], ...]]:
    """The guests that make the same accesses in every run: for each its row in each run."""
    by_guest = [{(row["host"], row["guest"], row["access_hash"]): row for row in rows} for rows in stored]
    return [tuple(rows[who] for rows in by_guest) for who in by_guest[0] if all(who in rows for rows in by_guest)]


def _telling(alike: Sequence[tuple[dict[str, Any], ...]]) -> dict[str, Any]:
    """The row in the first run of the guest that says most."""
    if len(alike[0]) == 1:
        rows = [row for (row,) in alike]
        return max(rows, key=lambda row: (sum(metric.value(row) for metric in _WRONG), row["refaults"]))
    return max(alike, key=lambda rows: abs(rows[0]["refaults"] - rows[1]["refaults"]))[0]


def _follow(results: Results, run: Run, host: int, guest: int, page: int | None, ticks: Iterator[int]) -> PageWatch:
    pages = [] if page is None else [page]

    def make(*arguments: Any, **options: Any) -> PageWatch:
        watch = PageWatch(guest, pages, *arguments, **options)
        watch.on_tick = lambda: next(ticks, None)
        return watch

    return rerun_host(results, run, host, make)


def rerun_host(results: Results, run: Run, host: int, make_memory: Callable[..., _Memory]) -> _Memory:
    """Simulates one host of a run on a memory that watches, and returns that.

    Raises :class:`UserError` if the guests' rows aren't the stored ones, bit for bit.
    """
    from coldfleet.hostsim.host import simulate_host

    _, spec, policy = build_fleet(run)[host]
    made: list[_Memory] = []

    def keep(*arguments: Any, **options: Any) -> _Memory:
        made.append(make_memory(*arguments, **options))
        return made[-1]

    seed, replicate = run.cell.seed, run.replicate
    result = simulate_host(spec, policy, seed=seed, replicate=replicate, host=host, make_memory=keep)
    for stored, again in zip(stored_guests(results, run, host), guest_rows(host, spec, result), strict=True):
        for name, value in again.items():
            if stored[name] != value:
                raise UserError(
                    f"{results.storage} was made by another version of the simulator: guest {stored['guest']} has "
                    f"{name} {stored[name]} there, {value} here"
                )
    return made[0]


def stored_guests(results: Results, run: Run, host: int | None) -> list[dict[str, Any]]:
    """The rows of the guests of one host of a run, or of all; raises :class:`UserError` if there are none."""
    cell_id, replicate = run.cell.cell_id, run.replicate
    mine = (pc.field("cell_id") == cell_id) & (pc.field("replicate") == replicate)
    rows: list[dict[str, Any]] = results.table("guests", schema("guests").names, mine).to_pylist()
    if not rows:
        raise UserError(f"cell {cell_id}, replicate {replicate} isn't done: coldfleet resume {results.storage}")
    hosts = sorted({row["host"] for row in rows})
    if host is not None and host not in hosts:
        raise UserError(f"no host {host}: the fleet has {hosts[0]} to {hosts[-1]}")
    return [row for row in rows if host is None or row["host"] == host]


def choose(watches: Sequence[PageWatch], limit_pages: int) -> tuple[int, str]:
    """The page of a guest that says most about its policy, or about the difference of two, and why it does."""
    pages = accessed(watches[0])
    if len(watches) == 2:
        often = [refaults(watch, pages) for watch in watches]
        page = int(np.abs(often[0] - often[1]).argmax())
        if often[0][page] != often[1][page]:
            return page, f"read back {often[0][page]} and {often[1][page]} times: here the two differ most"
    watch = watches[0]
    if not watch.evictions:
        return int(np.bincount(pages).argmax()), "no page was evicted; this one was touched most"
    if lost := regretted(watch, pages, limit_pages):
        page, times = most_common(lost)
        return page, f"evicted {times} though soon wanted again: most often of the guest's pages"
    page, times = most_common(watch.evictions)
    return page, f"evicted {times}: most often of the guest's pages"
