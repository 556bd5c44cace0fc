"""What can be asked of a run: figures with names and units, made of the tables' columns.

A metric is a sum of columns, some taken off, or one such sum over another. So it can be taken of a guest, of a host or
of a whole fleet: the columns are added up first. Every numeric column is a metric of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coldfleet.hostsim.counters.timing import CAUSES, GAUGES, TIMES, Cause
from coldfleet.hostsim.spec.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SITES = ("walk", "look_around", "evict")
_TIMED = frozenset(column.name for column in (*TIMES, *GAUGES))


@dataclass(frozen=True)
class Metric:
    """A sum of ``columns`` less ``less``, over one of ``over`` less ``over_less`` if there are any, times a scale.

    ``key`` names it on the command line and in JSON, ``title`` in tables. ``unit``: of the figure. ``per_tick``: it is
    a rate, in units a tick.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    scale: float = 1.0
    over: tuple[str, ...] = ()
    unit: str = ""
    per_tick: bool = False
    less: tuple[str, ...] = ()
    over_less: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """All columns that it is made of."""
        return (*self.columns, *self.over, *self.less, *self.over_less)

    @property
    def adds_up(self) -> bool:
        """Whether it is a sum of columns as they are, so that it can be a part of another sum or ratio."""
        return self.scale == 1 and not (self.over or self.less)

    @property
    def needs_clock(self) -> bool:
        """Whether it is 0 in studies without a clock."""
        return not _TIMED.isdisjoint(self.needs)

    @property
    def formula(self) -> str:
        """What it is made of, for people: "pgmajfault / (accesses + device_accesses)"."""
        above, below = (
            " + ".join(names) + "".join(f" - {name}" for name in less)
            for names, less in ((self.columns, self.less), (self.over, self.over_less))
        )
        above = f"({above})" if (self.over or self.scale != 1) and " " in above else above
        scaled = above if self.scale == 1 else f"{above} * {self.scale:g}"
        return f"{scaled} / {f'({below})' if ' ' in below else below}" if below else scaled

    @property
    def sql(self) -> str:
        """The figure of one row as an expression of SQL, over columns that are quoted.

        A ratio of times is NULL where there is no clock; others are 0 where they are over nothing.
        """
        above = _sum_in_sql(self.columns, self.less)
        if not self.over:
            return above if self.scale == 1 else f"({above}) * {self.scale}"
        below = _sum_in_sql(self.over, self.over_less)
        ratio = f"({above}) * {self.scale} / nullif({below}, 0)"
        return ratio if self.needs_clock else f"coalesce({ratio}, 0)"

    def amounts(self, row: Mapping[str, Any]) -> tuple[Any, Any]:
        """What is divided, times the scale, and by what (1.0: by nothing), of one row; or of columns as arrays."""
        total = sum(row[name] for name in self.columns) - sum(row[name] for name in self.less)
        if not self.over:
            return self.scale * total, 1.0
        return self.scale * total, sum(row[name] for name in self.over) - sum(row[name] for name in self.over_less)

    def value(self, row: Mapping[str, Any]) -> float:
        """The figure of one row of a table; nothing over nothing is 0."""
        above, below = self.amounts(row)
        return float(above / below) if below else 0.0

    def values(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """The figures of all rows, of columns as arrays; nothing over nothing is 0."""
        import numpy as np

        above, below = (np.asarray(amount, float) for amount in self.amounts(columns))
        below = np.broadcast_to(below, above.shape)
        values: npt.NDArray[np.float64] = np.divide(above, below, out=np.zeros(above.shape), where=below != 0)
        return values


def _sum_in_sql(names: Collection[str], less: Collection[str]) -> str:
    return " + ".join(f'"{name}"' for name in names) + "".join(f' - "{name}"' for name in less)


_YOUNG = tuple(f"young_{site}" for site in _SITES)
_FALSE = tuple(f"false_young_{site}" for site in _SITES)
_NOT_SEEN = tuple(f"missed_young_{site}" for site in _SITES)
_MISSED = (*_NOT_SEEN, "missed_young_skipped")

SUMMARY = (
    Metric("refaults", "refaults", ("refaults",), unit="pages"),
    Metric("missed_young", "missed young", _MISSED, unit="pages"),
    Metric("false_young", "false young", _FALSE, unit="pages"),
    Metric("notifier_calls", "notifier calls", tuple(f"notifier_calls_{site}" for site in _SITES), unit="calls"),
    Metric("mmu_lock_write", "mmu_lock writes", ("mmu_lock_write_acquisitions",), unit="acquisitions"),
    Metric("reclaim_cpu_s", "reclaim CPU s", ("reclaim_cpu_ns",), 1e-9, unit="s"),
)
"""The figures of every summary. missed_young: touched pages that the policy took for old, whether it asked and did not
see them (missed_not_seen) or did not ask (missed_not_asked); a page counts each time that it is taken for old."""

OOM_KILLS = Metric("oom_kills", "OOM kills", ("oom_kills",), unit="guests")
"""Guests that the OOM killer killed. A summary and a report have a line about it where there are any."""

_BUSY = tuple(name for cause, (name, _) in CAUSES.items() if cause != Cause.IDLE)
_DRAM = ("resident_page_ticks", "pool_page_ticks", "kernel_page_ticks")
_IN_MEMORY = ("resident_page_ticks", "pgsteal")

DERIVED = (
    Metric("missed_not_seen", "missed, not seen", _NOT_SEEN, unit="pages"),
    Metric("missed_not_asked", "missed, not asked", ("missed_young_skipped",), unit="pages"),
    Metric("precision", "precision of young", _YOUNG, over=_YOUNG, unit="share", less=_FALSE),
    Metric("recall", "recall of young", _YOUNG, over=(*_YOUNG, *_MISSED), unit="share", less=_FALSE, over_less=_FALSE),
    Metric("needless_failures", "needless failures", ("failed_needlessly",), over=("failed_pages",), unit="share"),
    Metric("fault_rate", "fault rate", ("refaults",), over=("accesses", "device_accesses"), unit="share"),
    Metric("promotion_rate", "promotion rate", ("refaults",), over=_IN_MEMORY, unit="share", per_tick=True),
    Metric("residency", "residency", ("resident_page_ticks",), over=("ticks",), unit="pages"),
    Metric("dram_pages", "DRAM used", _DRAM, over=("ticks",), unit="pages"),
    Metric("huge_share", "huge share", ("huge_page_ticks",), over=("resident_page_ticks",), unit="share"),
    Metric("bloat", "bloat", ("bloat_page_ticks",), over=("resident_page_ticks",), unit="share"),
    Metric("throughput", "throughput", ("unreclaimed_ns",), over=_BUSY, unit="share"),
    Metric("slowdown", "slowdown", _BUSY, over=("unreclaimed_ns",), unit="share", less=("unreclaimed_ns",)),
    Metric("aging_pass_ms", "aging pass ms", ("aging_pass_ns",), 1e-6, over=("aging_passes",), unit="ms"),
    Metric("damon_error", "DAMON error", ("damon_rate_error",), over=("damon_samples",), unit="share"),
    Metric("damon_hot_error", "DAMON hot error", ("damon_hot_rate_error",), over=("damon_hot_accesses",), unit="share"),
)
"""Figures that have a name. Shares lie between 0 and 1, but for throughput and slowdown.

precision: of the pages that the policy took for young, the share that had been touched. recall: of the touched pages,
the share that it took for young. needless_failures: of the pages that answered "failed", the share that was not young
in the shadow MMU alone. fault_rate: the share of all accesses, those of devices included, that are refaults.
promotion_rate: refaults over the pages that were in memory in a tick, at its end or until they were evicted in it; the
SLO of software-defined far memory (Lagar-Cavilla et al., ASPLOS 2019, section 4.2), there 0.2 % a minute. residency:
pages in memory, the mean over all ticks but 0; dram_pages: the same with what is in zram's pool, and kernel memory.
huge_share: the part of them that is huge pages; bloat: the part that nobody touched in the tick, but another page of
the same huge page, the mean over all ticks but 0.
damon_error: how far DAMON's access counts are from the truth, over all pages; damon_hot_error: the same of the hot
pages, over their true accesses. The others need a clock. throughput: the time that the same accesses take without
reclaim, over the time that they took; slowdown: how much longer they took, as a share. aging_pass_ms: mean length of
an aging pass."""


def _named(columns: Collection[str]) -> dict[str, Metric]:
    """The metrics that have a name and can be taken where there are these columns."""
    return {metric.key: metric for metric in (*SUMMARY, *DERIVED) if set(metric.needs) <= set(columns)}


def parse_metric(text: str, columns: Mapping[str, str]) -> Metric:
    """A metric by its name, a column, a sum ``a + b - c``, or one over another: ``a + b / c - d``; raises UserError.

    What is added is a column, or a metric that is itself a sum of columns. ``columns``: those that there are, each with
    its unit.
    """
    named = _named(columns)
    if text.strip() in named:
        return named[text.strip()]
    if text.count("/") > 1:
        raise UserError(f"metric {text!r} has {text.count('/')} signs '/': a ratio has one, as in 'a + b / c - d'")
    above, slash, below = text.partition("/")
    names, less = _summands(above, columns, text)
    over, over_less = _summands(below, columns, text, "after '/'") if slash else ((), ())
    units = {columns[name] for name in (*names, *less)}
    unit = units.pop() if len(units) == 1 and not over else ""
    return Metric(text, text.replace("_", " "), names, over=over, unit=unit, less=less, over_less=over_less)


def _summands(
    text: str, columns: Mapping[str, str], whole: str, begins: str = "at the beginning"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns that are added and those that are taken off: the first is always added.

    ``begins``: where the text begins in the whole, for messages.
    """
    named = _named(columns)
    sums = {name: metric.columns for name, metric in named.items() if metric.adds_up}
    parts: dict[str, tuple[str, ...]] = {**sums, **{name: (name,) for name in columns}}
    names: dict[str, list[str]] = {"+": [], "-": []}
    for sign, part in re.findall(r"(^|[+-])([^+-]*)", text):
        name = part.strip()
        if name not in parts:
            if name == whole.strip():
                raise UserError(f"unknown metric {name!r}{nearest(name, [*named, *columns])}")
            if not name:
                raise UserError(f"metric {whole!r}: a column is missing {f'after {sign!r}' if sign else begins}")
            if name in named:
                such = named[name].columns[0]
                raise UserError(f"metric {whole!r}: {name!r} is no sum of columns; take columns, such as {such!r}")
            raise UserError(f"unknown column {name!r} in {whole!r}{nearest(name, parts)}")
        names[sign or "+"] += parts[name]
    return tuple(names["+"]), tuple(names["-"])
