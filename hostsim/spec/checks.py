"""Checks of plain data as it is made: names that are known, numbers within their range, parts of the right kind.

The engine would run with anything, and do something else, never end, or read what isn't there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from coldfleet.hostsim.spec.errors import UserError, nearest

MAX_ACCESSES_PER_TICK = 1 << 26  # of a guest: they are drawn at once, 256 MiB
MAX_CPUS = 8192  # CONFIG_NR_CPUS of x86-64 is at most 8192
MAX_HOST_PAGES = 1 << 30  # with their lists' heads and own pages, they have numbers below 2^31
MAX_SAMPLE = 1024
MAX_LOAD = 1_000_000  # of a table of loads, whose mean counts as 1
MAX_SWAPPINESS = 200  # of vm.swappiness; since 6.14 one more means anonymous pages only
MAX_PAGE_CLUSTER = 5  # of vm.page-cluster: VMA readahead takes more for 5 (SWAP_RA_ORDER_CEILING)
MAX_TIME_NS = 24 * 3600 * 10**9  # a day: 100,000 such ticks fit 64 bits

SHARE = (0.0, 1.0)
COUNT = (1, 2**31 - 1)
NUMBER = (0, 2**31 - 1)
PAGES = (0, 2**40)  # of a whole host, of which a sample may be simulated


def check_names(what: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    """Raises UserError for a name that isn't known."""
    for name in names:
        if name not in known:
            raise UserError(f"unknown {what} {name!r:.80}{nearest(str(name)[:80], known)}")


def check_ranges(spec: object, **ranges: tuple[float, float]) -> None:
    """Raises UserError for a field of a spec that isn't a number in its range; whole, if the least is an int."""
    for name, (least, most) in ranges.items():
        value = getattr(spec, name)
        if (type(value) is int or type(value) is float is type(least)) and least <= value <= most:
            continue  # as nearly always: to ask for an Integral takes ten times as long
        wanted, what = (Integral, "whole number") if isinstance(least, int) else (Real, "number")
        if isinstance(value, bool) or not isinstance(value, wanted) or not least <= value <= most:  # type: ignore[operator]
            raise UserError(f"{type(spec).__name__}: {name} is {value!r:.80}, not a {what} from {least} to {most}")


def check_loads(table: Any) -> None:
    """Raises UserError unless a table of loads is of numbers of which some are above 0."""
    numbers = isinstance(table, tuple) and all(isinstance(n, Real) and not isinstance(n, bool) for n in table)
    if not numbers or not all(0 <= n <= MAX_LOAD for n in table) or (table and not any(table)):
        raise UserError(f"load_table is {table!r:.80}, not numbers from 0 to {MAX_LOAD:,}, at least one above 0")


def check_load_table(load: Any) -> None:
    """Raises UserError unless a workload has a table of loads if, and only if, its load is "table"."""
    table = load.load_table
    check_loads(table)
    if bool(table) != (load.load == "table"):
        raise UserError("load 'table' takes load_table, and no other load does: give both or neither")


def check_burst(load: Any, table: Sequence[float], accesses: int) -> None:
    """Raises UserError if a workload's busiest tick has more accesses than one may.

    ``table``: its load_table, of numbers; ``accesses``: the mean of its ticks.
    """
    most = float(accesses)
    if load.load == "bursts":
        most *= 1 + load.load_swing * (load.load_ticks - 1)
    elif load.load == "table":
        most *= max(table) * len(table) / sum(table)
    if most > MAX_ACCESSES_PER_TICK:
        raise UserError(
            f"a tick with a burst has {most:,.0f} accesses; at most {MAX_ACCESSES_PER_TICK:,} are simulated: make "
            "workload.load_ticks, workload.load_swing or the peaks of workload.load_table smaller"
        )


def check_argument(name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Raises UserError for an argument of a call that isn't of its kind; yes and no are no numbers."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{name} = {value!r:.80} is not {what}")


def check_texts(name: str, value: object) -> list[str]:
    """One text or some, as a list; raises UserError for anything else."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Collection) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{name} = {value!r:.80} is not a text or a list of texts")
    return list(texts)


def check_kinds(spec: object, **kinds: type | tuple[type, ...]) -> None:
    """Raises UserError for a field of a spec that isn't of its kind."""
    for name, kind in kinds.items():
        value = getattr(spec, name)
        if not isinstance(value, kind):
            first = kind[0] if isinstance(kind, tuple) else kind
            raise UserError(f"{type(spec).__name__}: {name} is {value!r:.80}, not a {first.__name__}")


def check_heat(heat: tuple[tuple[float, float], ...]) -> None:
    """Raises UserError unless each is (share of the memory, weight), the shares above 0 and together at most 1."""
    for part in heat:
        numbers = isinstance(part, tuple) and len(part) == 2
        if not numbers or not all(isinstance(each, Real) and not isinstance(each, bool) for each in part):
            raise UserError(f"heat has {part!r:.80}, not a pair of numbers: share of the memory, weight")
        if not (0 < part[0] <= 1 and (part[1] == 0 or 1e-300 <= part[1] <= 1e300)):
            raise UserError(
                f"heat has {part!r:.80}: the share is above 0 and at most 1, the weight 0 or from 1e-300 to 1e300"
            )
    if heat and sum(share for share, _ in heat) > 1 + 1e-9:
        raise UserError(
            f"the shares of heat add up to {sum(share for share, _ in heat):.6g}: they are at most 1 together"
        )
    if heat and not 0 < sum(weight for _, weight in heat) < float("inf"):
        raise UserError("the weights of heat add up to nothing, or too much: give some part a weight above 0")
