"""The plan of a sweep: every cell x replicate, known before anything runs.

A cell is one combination of the grid's values; a run is one replicate of a cell. Cells are made from their
number when they are needed, so a plan of a hundred thousand runs is a few megabytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.cluster.study.argument import Argument
from coldfleet.cluster.study.arrivals import check_arrivals
from coldfleet.cluster.study.constraint import read_constraint
from coldfleet.cluster.study.data import READING_KINDS, StudyData, check_workload
from coldfleet.cluster.study.design import Bundle
from coldfleet.cluster.study.fleet_tables import CLASSES
from coldfleet.cluster.study.model import CellSpec, following_keys, quantity_at, table_at
from coldfleet.cluster.study.own_policy import build_all
from coldfleet.cluster.study.tables import Guest, Table
from coldfleet.cluster.study.terminal import announced, counted
from coldfleet.cluster.study.values import KERNELS_OWN, Scalar, find_policy
from coldfleet.hostsim.spec.errors import UserError, cited
from coldfleet.policies import Policy, get_policy

MAX_RUNS = 10_000_000
_SHOWN = 12  # values of a list in a message
_KINDS = {str: "a text", int: "a whole number", dict: "a table", list: "a list"}
_FROZEN = {
    **dict.fromkeys(("name", "title", "description"), str),
    **dict.fromkeys(("seed", "replicates"), int),
    **dict.fromkeys(("parameters", "policies", "grid", "data"), dict),
    **dict.fromkeys(("bundles", "where"), list),
}
_as_json = json.JSONEncoder().encode
_IN_CLASS = re.compile(rf"fleet\.({'|'.join(CLASSES)})\.")


@dataclass(frozen=True)
class Cell:
    """A cell with all that a worker needs to simulate it.

    ``cell_id`` is a hash of the seed, every parameter, the data, and what the policy does: the same id, the same
    numbers. ``data``: the files that its guests follow, by name.
    """

    cell_id: str
    seed: int
    spec: CellSpec
    policy: Policy
    data: Mapping[str, StudyData] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.cell_id)


@dataclass(frozen=True)
class Run:
    """One replicate (from 0) of a cell: the smallest piece of work. ``index`` is its place in the plan."""

    index: int
    cell: Cell
    replicate: int


@dataclass(frozen=True)
class Plan:
    """A study, ready to run.

    ``base`` has every key that doesn't vary by its dotted name, ``axes`` the values of those of the grid, ``bundles``
    those that vary together (zipped lists, samples); all as a study file writes them, in their shortest form. Every
    combination of the axes and of one row of each bundle that meets the constraints ``where`` is a cell.
    ``policies``: the study's own, as it writes them. ``data``: the files that it names, by name.

    A plan that was gathered (:mod:`cluster.study.gathering`) has a row of its one bundle for each cell, with a seed for
    each in ``seeds``, and only the runs ``asked``, as (replicate, number of the cell) in ascending order.
    """

    title: str
    description: str
    seed: int
    replicates: int
    base: Mapping[str, Scalar]
    axes: Mapping[str, tuple[Scalar, ...]]
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    argument: Argument | None = field(default=None, compare=False)  # the claim that the study decides
    name: str = field(default="study", compare=False)  # for people: the file's stem
    bundles: tuple[Bundle, ...] = ()
    where: tuple[str, ...] = ()
    packaged: tuple[Mapping[str, Any], ...] = ()  # the texts of the policies that other packages bring
    seeds: tuple[int, ...] = ()  # by cell; none: that of the study
    asked: tuple[tuple[int, int], ...] | None = None  # None: every replicate of every cell
    data: Mapping[str, StudyData] = field(default_factory=dict)

    @property
    def varied(self) -> tuple[str, ...]:
        """The keys that differ between cells."""
        return (*self.axes, *(path for bundle in self.bundles for path in bundle.paths))

    @property
    def all_keys(self) -> tuple[str, ...]:
        """Every key that a cell is made of, but those that follow others."""
        return (*self.base, *self.varied)

    @property
    def combination_count(self) -> int:
        """Number of combinations, before the constraints."""
        return math.prod([*map(len, self.axes.values()), *(len(bundle.rows) for bundle in self.bundles)])

    @property
    def cell_count(self) -> int:
        """Number of cells."""
        return self.combination_count if self._kept is None else len(self._kept)

    @cached_property
    def _kept(self) -> npt.NDArray[np.int64] | None:
        """The numbers of the combinations that are cells; None: all of them."""
        if not self.where:
            return None
        amounts = {path: quantity for path in self.all_keys if (quantity := quantity_at(path))}
        constraints = [read_constraint(text, self.all_keys) for text in self.where]
        kept = []
        for number in announced(self.combination_count, "combinations under the constraints"):
            values = self._combination(number)
            values.update({path: quantity.parse(values[path]) for path, quantity in amounts.items()})  # type: ignore[arg-type]
            if all(holds(values) for holds in constraints):
                kept.append(number)
        return np.array(kept, np.int64)

    def _combination(self, number: int) -> dict[str, Scalar]:
        """Every key of a combination; the last bundle runs fastest, then the last axis."""
        return {**self.base, **self._varying(number)}

    def _varying(self, number: int) -> dict[str, Scalar]:
        """The keys of a combination that differ between cells."""
        values: dict[str, Scalar] = {}
        for bundle in reversed(self.bundles):
            number, row = divmod(number, len(bundle.rows))
            values.update(zip(bundle.paths, bundle.rows[row], strict=True))
        for path, choices in reversed(list(self.axes.items())):
            number, choice = divmod(number, len(choices))
            values[path] = choices[choice]
        return values

    def __len__(self) -> int:
        return self.cell_count * self.replicates if self.asked is None else len(self.asked)

    @property
    def most_runs(self) -> int:
        """The number of runs, before the constraints: known at once."""
        return self.combination_count * self.replicates if self.asked is None else len(self.asked)

    @property
    def size(self) -> str:
        """How large it is, in words."""
        runs, cells = counted(len(self), "run"), counted(self.cell_count, "cell")
        if self.asked is not None:
            return f"{runs} of {cells}"
        return f"{runs} = {cells} x {counted(self.replicates, 'replicate')}"

    def values(self, path: str) -> tuple[Scalar, ...]:
        """Every value that a key has in some cell."""
        for bundle in self.bundles:
            if path in bundle.paths:
                return tuple(dict.fromkeys(bundle.column(path)))
        if path in self.axes:
            return self.axes[path]
        tails = ["cpus" if key == "clock.pcpus" else key.partition(".")[2] or key for key in self.varied]
        inherits = any(path.endswith(f".{tail}") for tail in tails)  # as classes do
        cells = self.cell_count if path not in self.base and (inherits or path in following_keys()) else 1
        return tuple(dict.fromkeys(self.cell(number).spec.value(path) for number in range(cells)))

    def varying(self, number: int) -> dict[str, Scalar]:
        """What the cell of that number has in the keys that differ between cells."""
        return self._varying(number if self._kept is None else int(self._kept[number]))

    def cell(self, number: int) -> Cell:
        """The cell of that number; raises :class:`UserError` if it can't be."""
        values = self.varying(number)
        tables, loose = self._fixed
        try:
            spec = CellSpec.model_validate({**as_tree({**loose, **values}), **tables}, context=self.own_policies)
        except ValueError as error:
            where = ", ".join(f"{path} = {values[path]}" for path in self.varied)
            raise UserError(f"the cell {where}: {first_message(error)}") from None
        policy = policy_of(spec, self.own_policies)
        try:
            data = self._data_of(spec)
        except UserError as error:
            where = ", ".join(f"{path} = {values[path]}" for path in self.varied)
            raise UserError(f"the cell {where}: {error}" if where else str(error)) from None
        seed = self.seeds[number] if self.seeds else self.seed
        known: list[str] | None = self.__dict__.get("cell_ids")
        return Cell(known[number] if known else _cell_id(seed, spec, policy, data), seed, spec, policy, data)

    def _data_of(self, spec: CellSpec) -> dict[str, StudyData]:
        """The files that a cell's guests follow; raises :class:`UserError` if some guest can't."""
        guests: list[Guest] = [*spec.fleet.guest.values()] or [spec.guest]
        for guest in guests:
            check_workload(guest.workload, guest.memory, self.data)
        loads = [guest.workload for guest in guests if guest.workload.kind in READING_KINDS and guest.workload.file]
        check_arrivals(spec.fleet, self.data)
        names = [*(load.file for load in loads), *filter(None, [spec.fleet.arrivals])]
        return {name: self.data[name] for name in names}

    def with_data_at(self, storage: str) -> Plan:
        """The plan that finds its data in a results directory, a path or URI."""
        return replace(self, data={name: each.at(storage) for name, each in self.data.items()}) if self.data else self

    def without_files(self) -> Plan:
        """The plan for trials on made-up data."""
        return replace(self, data={name: each.made_up() for name, each in self.data.items()})

    @cached_property
    def _fixed(self) -> tuple[dict[str, Table], dict[str, Scalar]]:
        """The tables in which nothing varies, checked once for all cells, and the other keys that don't vary.

        Classes of guests inherit from other tables: with them, every cell is checked anew.
        """
        trees = {} if any(map(_IN_CLASS.match, self.all_keys)) else as_tree(self.base)
        varied = {path.partition(".")[0] for path in self.varied}
        tables = {}
        for name, tree in trees.items():
            model = table_at([name], CellSpec)
            if model is not None and name not in varied:
                with suppress(ValueError):  # then each cell says what is wrong
                    tables[name] = model.model_validate(tree)
        return tables, {path: value for path, value in self.base.items() if path.partition(".")[0] not in tables}

    @cached_property
    def own_policies(self) -> dict[str, Policy]:
        """The policies that come along with the study, its own and those of other packages, by name."""
        return build_all(self.policies, self.packaged)

    def run(self, index: int) -> Run:
        """The run of that number. Replicate 0 of all cells comes first, so a sweep cut short has something of each."""
        replicate, number = self.place(index)
        return Run(index, self.cell(number), replicate)

    def place(self, index: int) -> tuple[int, int]:
        """The replicate of a run, and the number of its cell."""
        return divmod(index, self.cell_count) if self.asked is None else self.asked[index]

    def name_of(self, index: int) -> tuple[str, int]:
        """The cell id of a run, and its replicate."""
        replicate, number = self.place(index)
        return self.cell_ids[number], replicate

    @cached_property
    def _asked_indices(self) -> dict[tuple[int, int], int]:
        """The numbers of the runs that were asked for, by their places."""
        return {place: index for index, place in enumerate(self.asked or ())}

    def runs(self) -> Iterator[Run]:
        """Every run, in order."""
        return map(self.run, range(len(self)))

    @cached_property
    def cell_ids(self) -> list[str]:
        """The ids of all cells by number; making it checks every cell once."""
        if (runs := self.most_runs) > MAX_RUNS:
            raise UserError(f"the grid has {runs:,} runs; at most {MAX_RUNS:,} fit one study")
        if not self.cell_count:
            raise UserError(f"no combination meets the constraints: {' and '.join(map(cited, self.where))}")
        return [self.cell(number).cell_id for number in announced(self.cell_count, "cells checked")]

    def adopt_ids(self, cell_ids: list[str]) -> None:
        """Takes the ids of all cells from where they were kept, so that no cell has to be made for them."""
        self.__dict__["cell_ids"] = cell_ids

    @cached_property
    def numbers(self) -> dict[str, int]:
        """From cell id to the cell's number."""
        return {cell_id: number for number, cell_id in enumerate(self.cell_ids)}

    def index_of(self, cell_id: str, replicate: int) -> int:
        """The number of a run, -1 if it isn't in the plan."""
        number = self.numbers.get(cell_id, -1)
        if self.asked is not None:
            return self._asked_indices.get((replicate, number), -1)
        if number < 0 or not 0 <= replicate < self.replicates:
            return -1
        return replicate * self.cell_count + number

    def frozen(self) -> dict[str, Any]:
        """The study as plain data, for study.json; :meth:`thaw` reads it."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "seed": self.seed,
            "replicates": self.replicates,
            "parameters": dict(self.base),
            "policies": {name: dict(table) for name, table in self.policies.items()},
            "packaged": [dict(texts) for texts in self.packaged],
            "grid": {path: list(values) for path, values in self.axes.items()},
            "bundles": [{"keys": list(bundle.paths), "rows": list(bundle.rows)} for bundle in self.bundles],
            "where": list(self.where),
            **({} if self.asked is None else {"seeds": list(self.seeds), "asked": list(self.asked)}),
            "data": {name: each.frozen() for name, each in self.data.items()},
        }

    @classmethod
    def thaw(cls, data: Mapping[str, Any]) -> Plan:
        """The plan that :meth:`frozen` wrote; raises KeyError, TypeError or ValueError if it isn't one."""
        for name, kind in _FROZEN.items():
            if name not in data or type(data[name]) is not kind:
                raise ValueError(f"{name} is {data.get(name)!r:.40}, not {_KINDS[kind]}")
        if data["seed"] < 0 or data["replicates"] < 1:
            raise ValueError(f"seed = {data['seed']!r:.40} or replicates = {data['replicates']!r:.40} can't be")
        for path, values in data["grid"].items():
            if not isinstance(values, list):
                raise ValueError(f"grid.{path} is {values!r:.40}, not a list")
        axes = {str(path): tuple(values) for path, values in data["grid"].items()}
        plan = cls(
            data["title"],
            data["description"],
            data["seed"],
            data["replicates"],
            dict(data["parameters"]),
            axes,
            data["policies"],
            name=data["name"],
            bundles=tuple(Bundle(tuple(each["keys"]), tuple(map(tuple, each["rows"]))) for each in data["bundles"]),
            where=tuple(data["where"]),
            packaged=tuple(data["packaged"]),
            seeds=tuple(data.get("seeds", ())),
            asked=tuple(map(tuple, data["asked"])) if "asked" in data else None,
            data={str(name): StudyData.thaw(each) for name, each in data["data"].items()},
        )
        plan._check_asked()
        return plan

    def _check_asked(self) -> None:
        """Raises ValueError if these can't be the runs of a gathered plan."""
        if self.asked is None and not self.seeds:
            return
        asked, numbers = self.asked or (), [*self.seeds, *(number for place in self.asked or () for number in place)]
        if any(type(number) is not int or number < 0 for number in numbers) or len(self.seeds) != self.cell_count:
            raise ValueError("a seed for each of its cells, or a number of a run, is missing or can't be")
        in_order = all(len(place) == 2 and place[1] < self.cell_count for place in asked) and list(asked) == sorted(
            set(asked)
        )
        if not asked or not in_order or max(asked)[0] >= self.replicates:
            raise ValueError("the runs that were asked for are not in order, or none of its own")

    def difference(self, other: Plan) -> str:
        """In what the other plan would compute something else: "" if in nothing."""
        mine, theirs = (
            {
                **{path: plan.values(path) if path in plan.varied else plan.base[path] for path in plan.all_keys},
                **_digests(plan.own_policies),
                **{f"the sha256 of {name}": each.sha256 for name, each in plan.data.items()},
                "replicates": plan.replicates,
                "seed": plan.seed,
                "where": plan.where,
            }
            for plan in (self, other)
        )
        for key in [*mine, *theirs]:
            if mine.get(key) != theirs.get(key):
                return f"{key} is {_shown(theirs.get(key))} there, {_shown(mine.get(key))} here"
        if self != replace(other, title=self.title, description=self.description):
            return "what varies is put together in another way or order there"
        return ""


def policy_of(spec: CellSpec, own: Mapping[str, Policy], kernel: str = "") -> Policy:
    """The aging policy of a cell, maybe one of the study's own; ``kernel``: of the host, if it isn't the cell's."""
    if spec.policy != KERNELS_OWN:
        return find_policy(spec.policy, own)
    from coldfleet.hostsim.engine.hybrids import get_kernel

    return get_policy(get_kernel(kernel or spec.kernel).policy)


def _digests(own: Mapping[str, Policy]) -> dict[str, str]:
    return {f"policy.{name}": policy.digest for name, policy in own.items()}


def as_tree(values: Mapping[str, Any]) -> dict[str, Any]:
    """{"guest.memory": x} -> {"guest": {"memory": x}}"""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *tables, key = path.split(".")
        table = tree
        for name in tables:
            table = table.setdefault(name, {})
        table[key] = value
    return tree


def as_written(spec: CellSpec, class_paths: Iterable[str] = ()) -> dict[str, Scalar]:
    """Every key of a cell, and those of classes that are asked for, as a study file would write it."""
    values = {**spec.parameters(), **{path: spec.value(path) for path in class_paths}}
    return {
        path: quantity.format(int(value)) if (quantity := quantity_at(path)) else value
        for path, value in values.items()
    }


def first_message(error: ValueError) -> str:
    """The first complaint in a pydantic error, or the text of another."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors()[0]
    cause = first.get("ctx", {}).get("error")
    if cause is not None:
        return str(cause)
    path = ".".join(map(str, first["loc"]))
    return f"{path} = {first['input']!r}: {first['msg'].replace('Input should', 'it should')}"


@cache
def _digest(policy: Policy) -> str:
    """A policy's digest; a plan has many cells of the same few."""
    return policy.digest


def _cell_id(seed: int, spec: CellSpec, policy: Policy, data: Mapping[str, StudyData]) -> str:
    canonical = {"seed": seed, "policy_digest": _digest(policy), **spec.parameters(), **spec.class_parameters()}
    canonical.update((f"sha256 of {name}", each.sha256) for name, each in data.items())
    text = ",".join(_json_item(path, canonical[path]) for path in sorted(canonical))
    return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()[:12]


@lru_cache(maxsize=10_000, typed=True)  # cells repeat most values; 1 and 1.0 are two
def _json_item(path: str, value: Scalar) -> str:
    return f"{_as_json(path)}:{_as_json(value)}"


def _shown(value: Scalar | Sequence[Scalar] | None) -> str:
    if isinstance(value, tuple):
        shown = [*map(str, value[:_SHOWN]), *(["..."] if len(value) > _SHOWN else [])]
        return "[" + ", ".join(shown) + "]"
    return "not set" if value is None else str(value)
