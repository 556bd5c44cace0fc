"""Two results directories, cell by cell: what their studies differ in, and by how much their figures differ.

Cells are matched by what varies in either study. Replicates that made the same accesses in both are paired; others are
compared as independent samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.summary import as_read
from coldfleet.cluster.stats.metrics import SUMMARY, Metric
from coldfleet.cluster.stats.statistics import Mean, mean_interval, signed_percent, welch_interval
from coldfleet.cluster.study.model import CellSpec
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.terminal import counted
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.errors import UserError

_MOST_NAMED = 5  # cells that only one of them has

Setting = tuple[Scalar | None, ...]
"""A cell's values of what varies in either study; None: its study has no such key."""


class KeyDifference(NamedTuple):
    """A key of which the studies have other values, as people read them."""

    key: str
    a: str
    b: str


@dataclass(frozen=True)
class Difference:
    """One metric in one cell that both have, or in several: the means over replicates, and b - a with its interval.

    ``setting``: the cell's value of every key that varies. ``paired``: the replicates made the same accesses in both,
    and were subtracted one by one.
    """

    setting: Mapping[str, Scalar | None]
    metric: Metric
    a: Mean
    b: Mean
    difference: Mean
    paired: bool

    @property
    def equal(self) -> bool:
        """Whether the replicates are equal, one by one."""
        return self.paired and self.difference == (0, 0)

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.difference.half_width is not None and abs(self.difference.mean) > self.difference.half_width

    @property
    def share(self) -> Mean | None:
        """The difference in percent of a; None: a is 0."""
        if not self.a.mean:
            return None
        scale = 100 / abs(self.a.mean)
        mean, half = self.difference
        return Mean(mean * scale, None if half is None else half * scale)

    @property
    def amount(self) -> str:
        """The difference as people read it: in percent of a, or as such where a is 0."""
        if self.share:
            return signed_percent(self.share)
        return f"{self.difference} {self.metric.unit}".strip()

    @property
    def sentence(self) -> str:
        """What can be said: a difference only if its interval leaves out 0."""
        title = self.metric.title
        if self.equal:
            return f"{title}: the same in each replicate"
        if self.a.mean == self.b.mean == 0:
            return f"{title}: 0 in both"
        if self.difference.half_width is None:
            return f"{title}: B differs from A by {self.amount} in one replicate, which leaves no interval"
        if not self.certain:
            return f"{title}: the interval doesn't tell B from A ({self.amount})"
        return f"{title}: B has {self.amount.lstrip('+−')} {'more' if self.difference.mean > 0 else 'less'} than A"


@dataclass(frozen=True)
class ResultsDiff:
    """What :func:`diff_results` found.

    ``paths``: the keys that cells are matched by. ``cells``: of each setting that both have, the numbers of its cells.
    ``only_a``, ``only_b``: settings of cells that are done in one of them only. ``overall``: over all cells that both
    have, one for each metric; ``by_policy``: the same of each policy.
    """

    a: str
    b: str
    paths: tuple[str, ...]
    keys: tuple[KeyDifference, ...]
    cells: Mapping[Setting, tuple[int, int]]
    only_a: tuple[Mapping[str, Scalar | None], ...]
    only_b: tuple[Mapping[str, Scalar | None], ...]
    differences: tuple[Difference, ...]
    overall: tuple[Difference, ...]
    by_policy: tuple[Difference, ...]


class _Runs(NamedTuple):
    """The runs of a cell, by replicate: hashes of their accesses, and their values of every metric."""

    hashes: dict[int, int]
    values: dict[int, list[float]]


def diff_results(a: Results, b: Results, metrics: Sequence[Metric] = SUMMARY) -> ResultsDiff:
    """Compares what is done in two results directories; raises UserError if nothing is done in one of them."""
    paths = tuple(dict.fromkeys(["policy", *a.plan.varied, *b.plan.varied]))
    found = [_runs_of(results, paths, metrics) for results in (a, b)]
    (cells_a, runs_a), (cells_b, runs_b) = found
    both = [setting for setting in cells_a if setting in cells_b]
    pairs = [(setting, runs_a[setting], runs_b[setting]) for setting in both]
    policies = dict.fromkeys(setting[0] for setting in both)
    return ResultsDiff(
        str(a.storage),
        str(b.storage),
        paths,
        tuple(_key_differences(a, b)),
        {setting: (cells_a[setting], cells_b[setting]) for setting in both},
        tuple(dict(zip(paths, setting, strict=True)) for setting in cells_a if setting not in cells_b),
        tuple(dict(zip(paths, setting, strict=True)) for setting in cells_b if setting not in cells_a),
        tuple(
            each
            for setting, one, other in pairs
            for each in _differences(dict(zip(paths, setting, strict=True)), [(one, other)], metrics)
        ),
        tuple(_differences({}, [pair[1:] for pair in pairs], metrics)),
        tuple(
            each
            for policy in policies
            for each in _differences({"policy": policy}, [pair[1:] for pair in pairs if pair[0][0] == policy], metrics)
        ),
    )


def _runs_of(
    results: Results, paths: Sequence[str], metrics: Sequence[Metric]
) -> tuple[dict[Setting, int], dict[Setting, _Runs]]:
    """The cells of which something is done, by their setting."""
    needed = dict.fromkeys(name for metric in metrics for name in metric.needs)
    table = results.table("cells", list(dict.fromkeys(["cell_id", "replicate", "access_hash", *needed])))
    if not table.num_rows:
        raise UserError(f"{results.storage}: no run is done yet: coldfleet resume {results.storage}")
    numbers: dict[Setting, int] = {}
    runs: dict[Setting, _Runs] = {}
    setting_of: dict[str, Setting] = {}
    for row in table.to_pylist():
        setting = setting_of.get(row["cell_id"])
        if setting is None:
            number = results.plan.numbers[row["cell_id"]]
            spec = results.plan.cell(number).spec
            setting = setting_of[row["cell_id"]] = tuple(_value(spec, path) for path in paths)
            numbers[setting], runs[setting] = number, _Runs({}, {})
        runs[setting].hashes[row["replicate"]] = row["access_hash"]
        runs[setting].values[row["replicate"]] = [metric.value(row) for metric in metrics]
    order = sorted(numbers, key=lambda setting: numbers[setting])
    return {setting: numbers[setting] for setting in order}, runs


def _value(spec: CellSpec, path: str) -> Scalar | None:
    try:
        return spec.value(path)
    except (KeyError, AttributeError):  # of a class of guests or hosts that only the other study has
        return None


def _differences(
    setting: Mapping[str, Scalar | None], pairs: Sequence[tuple[_Runs, _Runs]], metrics: Sequence[Metric]
) -> Iterable[Difference]:
    """Of cells that both have, the mean over these cells, replicate by replicate."""
    if not pairs:
        return
    done = [set.intersection(*(set(pair[side].values) for pair in pairs)) for side in (0, 1)]
    common = done[0] & done[1]
    paired = bool(common) and all(one.hashes[r] == other.hashes[r] for one, other in pairs for r in common)
    used = [sorted(common)] * 2 if paired else [sorted(each) for each in done]
    if not all(used):
        return
    for place, metric in enumerate(metrics):
        sides = [
            [sum(pair[side].values[r][place] for pair in pairs) / len(pairs) for r in used[side]] for side in (0, 1)
        ]
        a, b = sides
        difference = mean_interval([y - x for x, y in zip(a, b, strict=True)]) if paired else welch_interval(a, b)
        yield Difference(setting, metric, mean_interval(a), mean_interval(b), difference, paired)


def _key_differences(a: Results, b: Results) -> Iterable[KeyDifference]:
    mine, theirs = _described(a), _described(b)
    for key in dict.fromkeys([*mine, *theirs]):
        if mine.get(key) != theirs.get(key):
            yield KeyDifference(key, mine.get(key, "not there"), theirs.get(key, "not there"))


def _described(results: Results) -> dict[str, str]:
    plan: Plan = results.plan
    keys = {path: plan.values(path) if path in plan.varied else (plan.base[path],) for path in plan.all_keys}
    shown = {path: ", ".join(map(str, values)) for path, values in keys.items()}
    own = {f"policy.{name}": f"steps {policy.digest[:12]}" for name, policy in plan.own_policies.items()}
    head: dict[str, Any] = {"seed": plan.seed, "replicates": plan.replicates, "where": " and ".join(plan.where)}
    return {**shown, **own, **{key: str(value) for key, value in head.items()}, "simulator": results.engine}


def as_cell(each: Difference) -> str:
    """A difference in a table, without its percent sign; in brackets if the interval contains 0."""
    if each.equal or each.a.mean == each.b.mean == 0:
        return "equal" if each.equal else "0"
    text = each.amount.removesuffix(" %")
    if each.difference.half_width is None:
        return f"{text}?"
    return text if each.certain else f"({text})"


def told(found: ResultsDiff) -> list[str]:
    """The whole of it in sentences: what A and B are, what their studies differ in, which cells and figures differ."""
    lines = [f"A is {found.a}, B is {found.b}."]
    lines += [f"{each.key}: {each.a or 'empty'} in A, {each.b or 'empty'} in B." for each in found.keys]
    if not found.keys:
        lines.append("Both have the same study, seed and simulator.")
    lines += [f"Only {name} has {cells}." for name, cells in left_out(found).items()]
    if not found.cells:
        return [*lines, "No cell is in both, so no figures are compared."]
    if not found.overall:
        return [*lines, "No replicate is done in all cells that both have, so nothing is said over all of them."]
    paired = "with the same accesses, replicate by replicate" if found.overall[0].paired else "with other accesses"
    if all(each.equal for each in found.differences):
        return [*lines, f"The {counted(len(found.cells), 'cell')} in both are equal in every replicate and figure."]
    lines.append(f"{counted(len(found.cells), 'cell')} in both, {paired}. Over all of them:")
    return lines + [f"{each.sentence}." for each in found.overall]


def left_out(found: ResultsDiff) -> dict[str, str]:
    """The cells that A alone has, and those that B alone has, if there are any: how many, and the first few."""
    texts = {}
    for name, only in (("A", found.only_a), ("B", found.only_b)):
        if only:
            shown = "; ".join(_as_read(setting) for setting in only[:_MOST_NAMED])
            more = f"; and {len(only) - _MOST_NAMED:,} more" if len(only) > _MOST_NAMED else ""
            texts[name] = f"{counted(len(only), 'cell')}: {shown}{more}"
    return texts


def value_as_read(path: str, value: Scalar | None) -> str:
    """The value of a key as people read it, which a study may not have."""
    return "not there" if value is None else as_read(path, value)


def _as_read(setting: Mapping[str, Scalar | None]) -> str:
    return ", ".join(f"{path} = {value_as_read(path, value)}" for path, value in setting.items())
