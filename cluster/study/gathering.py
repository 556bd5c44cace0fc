"""Plans of runs that were gathered from several studies: what questions have asked for so far.

No grid has these cells, so each is a row, with every key in which the cells differ, and a seed of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from coldfleet.cluster.study.data import StudyData
from coldfleet.cluster.study.design import Bundle
from coldfleet.cluster.study.plan import Plan, Run, as_written
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.errors import UserError

_ALWAYS = "policy"  # a key of every row, so that there is a row even for a cell that differs from none


@dataclass(frozen=True)
class _Row:
    """A cell as a row: its seed, and every key as a study writes it."""

    seed: int
    values: Mapping[str, Scalar]


@dataclass
class Gathered:
    """Cells and runs that are gathered one after the other. ``first``: the study that gives title and name."""

    first: Plan
    _rows: dict[str, _Row] = field(default_factory=dict)  # by cell id
    _runs: dict[tuple[str, int], None] = field(default_factory=dict)  # cell id and replicate
    _policies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _packaged: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _data: dict[str, StudyData] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """What a gathered plan has."""
        made = cls(plan)
        made.adopt(plan)
        for number, cell_id in enumerate(plan.cell_ids):
            made._rows[cell_id] = _Row(plan.seeds[number], {**plan.base, **plan.varying(number)})
        made._runs.update(((plan.cell_ids[number], replicate), None) for replicate, number in plan.asked or ())
        return made

    def adopt(self, plan: Plan) -> None:
        """Takes a study's own policies and data; raises UserError if one has the name of another."""
        packaged = {texts["name"]: texts for texts in plan.packaged}
        for mine, new in ((self._policies, plan.policies), (self._packaged, packaged)):
            for name, texts in new.items():
                if mine.setdefault(name, texts) != texts:
                    raise UserError(f"the policy {name} is another one there than in {plan.name}")
        for name, data in plan.data.items():
            if self._data.setdefault(name, data) != data:
                raise UserError(f"the file {name} is another one there than in {plan.name}")

    def add(self, runs: Iterable[Run]) -> bool:
        """Takes runs in; returns whether any is new. Raises UserError if a cell has keys that the others haven't."""
        before = len(self._runs)
        for run in runs:
            cell = run.cell
            self._runs[cell.cell_id, run.replicate] = None
            if cell.cell_id not in self._rows:
                values = as_written(cell.spec, cell.spec.class_parameters())
                some = next(iter(self._rows.values()), _Row(0, values)).values
                if differing := sorted(values.keys() ^ some.keys()):
                    raise UserError(f"{differing[0]} is a key of some of these fleets and not of others")
                self._rows[cell.cell_id] = _Row(cell.seed, values)
        return len(self._runs) > before

    def plan(self) -> Plan:
        """The plan of all runs that were taken in, at least one."""
        numbers = {cell_id: number for number, cell_id in enumerate(self._rows)}
        rows = [row.values for row in self._rows.values()]
        paths = tuple(key for key in rows[0] if key == _ALWAYS or any(row[key] != rows[0][key] for row in rows))
        plan = replace(
            self.first,
            replicates=1 + max(replicate for _, replicate in self._runs),
            base={key: value for key, value in rows[0].items() if key not in paths},
            axes={},
            policies=self._policies,
            argument=None,
            bundles=(Bundle(paths, tuple(tuple(row[key] for key in paths) for row in rows)),),
            where=(),
            packaged=tuple(self._packaged.values()),
            data=dict(self._data),
            seeds=tuple(row.seed for row in self._rows.values()),
            asked=tuple(sorted((replicate, numbers[cell_id]) for cell_id, replicate in self._runs)),
        )
        plan.adopt_ids(list(self._rows))
        return plan
