"""The plan of a sweep: every cell x replicate, known before anything runs.

A cell is one combination of the grid's values; a run is one replicate of a cell. Cells are made from their
number when they are needed, so a plan of a hundred thousand runs is a few megabytes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cluster.own_policy import build_all
from cluster.schemas import column_of
from cluster.study import KERNELS_OWN, CellSpec, Scalar, in_pages, walk_keys
from hostsim.errors import UserError
from hostsim.units import format_pages
from policies import Policy, get_policy

MAX_RUNS = 10_000_000


@dataclass(frozen=True)
class Cell:
    """A cell with all that a worker needs to simulate it.

    ``cell_id`` is a hash of the seed, every parameter, and what the policy does: the same id, the same numbers.
    """

    cell_id: str
    seed: int
    spec: CellSpec
    policy: Policy


@dataclass(frozen=True)
class Run:
    """One replicate (from 0) of a cell: the smallest piece of work. ``index`` is its place in the plan."""

    index: int
    cell: Cell
    replicate: int


@dataclass(frozen=True)
class Plan:
    """A study, ready to run.

    ``base`` has every key that the grid doesn't vary by its dotted name, ``axes`` the values of those that it
    does; both as a study file writes them, in their shortest form. ``policies``: the study's own, as it writes them.
    """

    title: str
    description: str
    seed: int
    replicates: int
    base: Mapping[str, Scalar]
    axes: Mapping[str, tuple[Scalar, ...]]
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name: str = field(default="study", compare=False)  # for people: the file's stem

    @property
    def cell_count(self) -> int:
        """Number of cells."""
        return math.prod(map(len, self.axes.values()))

    def __len__(self) -> int:
        return self.cell_count * self.replicates

    def values(self, path: str) -> tuple[Scalar, ...]:
        """Every value that a key has in some cell."""
        return self.axes[path] if path in self.axes else (self.cell(0).spec.parameters()[path],)

    def cell(self, number: int) -> Cell:
        """The cell of that number; the last axis of the grid runs fastest. Raises :class:`UserError`."""
        values = dict(self.base)
        for path, choices in reversed(list(self.axes.items())):
            number, choice = divmod(number, len(choices))
            values[path] = choices[choice]
        try:
            spec = CellSpec.model_validate(as_tree(values), context=self.own_policies)
        except ValueError as error:
            where = ", ".join(f"{path} = {values[path]}" for path in self.axes)
            raise UserError(f"the cell {where}: {first_message(error)}") from None
        policy = policy_of(spec, self.own_policies)
        return Cell(_cell_id(self.seed, spec, policy), self.seed, spec, policy)

    @cached_property
    def own_policies(self) -> dict[str, Policy]:
        """The policies that the study brings along, by name."""
        return build_all(self.policies)

    def run(self, index: int) -> Run:
        """The run of that number. Replicate 0 of all cells comes first, so a sweep cut short has something of each."""
        replicate, number = divmod(index, self.cell_count)
        return Run(index, self.cell(number), replicate)

    def runs(self) -> Iterator[Run]:
        """Every run, in order."""
        return map(self.run, range(len(self)))

    @cached_property
    def cell_ids(self) -> list[str]:
        """The ids of all cells by number; making it checks every cell once."""
        if len(self) > MAX_RUNS:
            raise UserError(f"the grid has {len(self):,} runs; at most {MAX_RUNS:,} fit one study")
        return [self.cell(number).cell_id for number in range(self.cell_count)]

    @cached_property
    def numbers(self) -> dict[str, int]:
        """From cell id to the cell's number."""
        return {cell_id: number for number, cell_id in enumerate(self.cell_ids)}

    def index_of(self, cell_id: str, replicate: int) -> int:
        """The number of a run, -1 if it isn't in the plan."""
        number = self.numbers.get(cell_id, -1)
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
            "grid": {path: list(values) for path, values in self.axes.items()},
        }

    @classmethod
    def thaw(cls, data: Mapping[str, Any]) -> Plan:
        """The plan that :meth:`frozen` wrote; raises KeyError or TypeError if it isn't one."""
        axes = {str(path): tuple(values) for path, values in data["grid"].items()}
        return cls(
            data["title"],
            data["description"],
            data["seed"],
            data["replicates"],
            dict(data["parameters"]),
            axes,
            data["policies"],
            data["name"],
        )

    def difference(self, other: Plan) -> str:
        """In what the other plan would compute something else: "" if in nothing."""
        mine, theirs = (
            {**p.base, **p.axes, **_digests(p.own_policies), "replicates": p.replicates, "seed": p.seed}
            for p in (self, other)
        )
        for key in [*mine, *theirs]:
            if mine.get(key) != theirs.get(key):
                return f"{key} is {_shown(theirs.get(key))} there, {_shown(mine.get(key))} here"
        if list(self.axes) != list(other.axes):
            return "the grid's axes stand in another order there"
        return ""


def policy_of(spec: CellSpec, own: Mapping[str, Policy]) -> Policy:
    """The aging policy of a cell, maybe one of the study's own."""
    if spec.policy != KERNELS_OWN:
        return get_policy(spec.policy, own)
    from hostsim.hybrid import get_kernel

    return get_policy(get_kernel(spec.kernel).policy)


def run_parameters(run: Run) -> dict[str, Any]:
    """The parameter columns of a run."""
    values: dict[str, Any] = {column_of(path): value for path, value in run.cell.spec.parameters().items()}
    return {**values, "seed": run.cell.seed, "policy_digest": run.cell.policy.digest}


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


def as_written(spec: CellSpec) -> dict[str, Scalar]:
    """Every key of a cell as a study file would write it."""
    values = spec.parameters()
    return {
        path: format_pages(int(values[path])) if in_pages(definition) else values[path]
        for path, definition in walk_keys()
    }


def first_message(error: ValueError) -> str:
    """The first complaint in a pydantic error, or the text of another."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors()[0]
    return str(first.get("ctx", {}).get("error", first["msg"]))


def _cell_id(seed: int, spec: CellSpec, policy: Policy) -> str:
    canonical = {"seed": seed, "policy_digest": policy.digest, **spec.parameters()}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _shown(value: Scalar | Sequence[Scalar] | None) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return "not set" if value is None else str(value)
