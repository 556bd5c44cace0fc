"""Reads a study from a file or a mapping. Everything that can be wrong with one is found here, and said in one line."""

from __future__ import annotations

import difflib
import itertools
import math
import re
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from pydantic import ValidationError

from coldfleet.cluster.study.argument import Argument, Check
from coldfleet.cluster.study.arrivals import find_arrivals, guests_outside
from coldfleet.cluster.study.constraint import read_constraint
from coldfleet.cluster.study.data import READING_KINDS, StudyData, find_data
from coldfleet.cluster.study.design import Bundle
from coldfleet.cluster.study.fleet import check_sizes
from coldfleet.cluster.study.fleet_tables import CLASSES
from coldfleet.cluster.study.lives import check_fleets, too_large_for_all
from coldfleet.cluster.study.model import (
    Study,
    checker_of,
    following_keys,
    merge,
    other_way,
    quantity_at,
    table_at,
    walk_keys,
)
from coldfleet.cluster.study.own_policy import PolicyTable, texts_of
from coldfleet.cluster.study.plan import MAX_RUNS, Plan, Run, as_tree, as_written
from coldfleet.cluster.study.sampling import Sampling
from coldfleet.cluster.study.tables import Table
from coldfleet.cluster.study.terminal import announced, counted, visible
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.calibration import read_calibration
from coldfleet.hostsim.spec.checks import check_argument
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.toml import check_values, find_line, key_lines, read_toml
from coldfleet.hostsim.spec.units import MEMORY, TIME
from coldfleet.policies import POLICIES, Policy, PolicyError
from coldfleet.policies.installed import installed, make

_HEAD = ("title", "description", "seed", "replicates")
_RENAMED = {"scene": "scenario", "caller": "monitor"}
"""Keys and tables that were called otherwise before, which studies may still say: the old name, and today's."""

_OLD_NAME = re.compile(rf"""("[^"]*"|'[^']*')|(?<![\w.])({"|".join(_RENAMED)})\b""")
_OTHER_TABLES: dict[str, type[Table]] = {"policy": PolicyTable, "argument": Argument}
MAX_VALUES = 5_000  # of all lists together
MAX_CONSTRAINTS = 100  # each is asked of every combination
StudySource = Plan | Path | str | Mapping[str, Any]
"""A study: its file, a mapping of the same form, or its plan."""

_CELL = re.compile(r"^(the cell|the fleet doesn't fit in the cell) .*?: ")
"""How a message says in which cell something is wrong: the keys that vary, not the one at fault."""

_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a text in quotes",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def read_study(study: StudySource, base: Path | str = ".", name: str = "study") -> Plan:
    """The plan of a study: every run that it takes, checked, before anything is run.

    ``study``: a TOML file, or a mapping with the same tables and keys (docs/keys.md); tuples and NumPy arrays do for
    lists. Memory and times are texts with a unit, ``"64 MiB"``, ``"250 ms"``; shares are floats, 0..1. A plan is
    returned as it is. ``base`` and ``name`` are for a mapping: the folder from which it names calibration files, and
    what it is called. Nothing is written.

    Raises :class:`UserError`, one line that says where: file and line, or the name and the dotted key of a mapping.

        plan = coldfleet.read_study({
            "ticks": 10, "overcommit": 1.5,
            "fleet": {"hosts": 2, "guests_per_host": 4},
            "guest": {"memory": "8 MiB"},
            "grid": {"policy": ["evict-only", "lockless-6.15"], "nested_ratio": [0, 0.5, 1]},
        })
        print(plan.cell_count, "cells,", len(plan), "runs")
    """
    if isinstance(study, Plan):
        return study
    if isinstance(study, Mapping):
        check_argument("name", name, str, "a text")
        check_argument("base", base, (str, PathLike), "the name of a folder")
        try:
            tree = _plain(study, name)
        except RecursionError:
            raise UserError(f"{name}: tables or lists too deep within each other") from None
        check_values(tree, name)
        return _StudyReader(name, name, Path(base), dict.fromkeys(_paths(tree), 0)).read(tree)
    if not isinstance(study, str | PathLike):
        raise UserError(f"{study!r:.80} is not a study: give its file, a mapping, or its plan")
    path = Path(study)
    text, tree = read_toml(path)
    return _StudyReader(path.stem, str(path), path.parent, key_lines(text)).read(tree)


class _StudyReader:
    """Knows where the study stands, so that every complaint can say where.

    ``lines``: of every table and key in the file ``where``; 0 for those of a mapping.
    """

    def __init__(self, name: str, where: str, folder: Path, lines: dict[tuple[str, ...], int]) -> None:
        self.name = name
        self.where = where
        self.folder = folder
        self.lines = lines
        self.sections: dict[str, str] = {}  # for each key that varies: "grid", "zip" or "sample"
        self.own: dict[str, Policy] = {}
        self.known: list[str] = []  # every key that can vary

    def rename_keys(self, tree: dict[str, Any]) -> None:
        """Puts today's names in the place of old ones, wherever a study names a key, and says so on stderr."""
        tables = [tree, *(tree.get(name) for name in ("grid", "zip", "sample"))]
        argument = tree.get("argument")
        checks = argument.get("checks") if isinstance(argument, dict) else None
        for check in checks if isinstance(checks, list) else []:
            tables += [check.get("of"), check.get("over")] if isinstance(check, dict) else []
        found = {old for table in tables if isinstance(table, dict) for old in self._rename_in(table)}
        if isinstance(where := tree.get("where"), list):
            new = [_with_new_names(text) if isinstance(text, str) else text for text in where]
            found |= {old for old in _RENAMED if where != new and any(old in str(text) for text in where)}
            tree["where"] = new
        for at, line in list(self.lines.items()):
            self.lines.setdefault(tuple(_RENAMED.get(name, name) for name in at), line)
        if found:
            told = ", ".join(f'"{old}" is now called "{new}"' for old, new in _RENAMED.items() if old in found)
            print(visible(f"coldfleet: {self.where}: {told}"), file=sys.stderr)

    def _rename_in(self, table: dict[str, Any]) -> list[str]:
        """Renames the keys of one table, which may be dotted; returns the old names that it had."""
        items = list(table.items())
        table.clear()
        found = []
        for key, value in items:
            name, dot, rest = key.partition(".")
            new = _RENAMED.get(name, name) + dot + rest
            if new in table or (new != key and new in dict(items)):
                self.refuse((key,), f'"{key}" is now called "{new}", which is there too: leave "{key}" out')
            table[new] = value
            found += [name] if name in _RENAMED else []
        return found

    def read(self, tree: dict[str, Any]) -> Plan:
        """The plan of the study; raises UserError."""
        self.rename_keys(tree)
        argument = self.read_argument(tree)
        tables = self.read_policies(tree)
        self.read_calibrations(tree)
        self.known = [path for path, _ in walk_keys()] + keys_of_classes(tree)
        where = self.read_where(tree.pop("where", []))
        raw = {name: self.section(name, tree) for name in ("grid", "zip", "sample")}
        lists = {name: dict(self.read_lists(name, raw[name], tree)) for name in ("grid", "zip")}
        sampling = Sampling(self, raw["sample"], tree)
        for name in lists:
            if raw[name] and not lists[name]:
                self.refuse((name,), f"[{name}] is empty: give it a list, such as policy = [...], or leave it out")
        varied = {**lists["grid"], **lists["zip"], **sampling.ends}
        self.check_size(tree, lists, varied, sampling.points)
        written = {path: tuple(self.written(path, value) for value in values) for path, values in varied.items()}
        axes = {path: self.distinct(path, written[path]) for path in lists["grid"]}
        bundles = (*self.zipped(lists["zip"], written), *sampling.bundles(written, self.read_seed(tree)))
        study = self.first_cell(tree, axes, bundles, bool(where))
        base = {path: value for path, value in as_written(study, class_paths(tree)).items() if path not in varied}
        for path in following_keys():
            if path in base and not self.is_set(tree, path):
                del base[path]  # each cell has its own
                self.check_not_asked(path, where)
        head = {name: getattr(study, name) for name in _HEAD}
        names = dict.fromkeys([*written.get("policy", ()), study.policy])
        packaged = tuple(
            texts_of(make(str(name))) for name in names if name in installed() and name not in {**POLICIES, **self.own}
        )
        made: dict[str, Any] = {"policies": tables, "argument": argument, "bundles": bundles, "where": where}
        made["packaged"] = packaged
        made["data"] = self.read_data({**base, **varied})
        plan = Plan(**head, base=base, axes=axes, name=self.name, **made)
        try:
            _ = plan.cell_ids
            check_sizes(plan)
            check_fleets(plan)
        except UserError as error:
            self.refuse(("where",) if where else (), str(error))
        self.note_what_is_late(plan)
        self.note_what_is_not_split(plan)
        if argument is not None:
            try:
                counts = announced(plan.cell_count, "cells compared with the argument")
                argument.check_cells(as_written(plan.cell(number).spec) for number in counts)
            except UserError as error:
                self.refuse(("argument",), str(error))
        return plan

    def read_data(self, values: Mapping[str, Any]) -> dict[str, StudyData]:
        """The files that workloads and the fleet name; ``values``: of every key that is set, a list if it varies."""
        named: dict[str, StudyData] = {}
        kinds = [kind for path in values if path.endswith("workload.kind") for kind in _as_list(values[path])]
        for path in values:
            if not path.endswith("workload.file"):
                continue
            files = [name for name in _as_list(values[path]) if name]
            if files and not set(kinds) & set(READING_KINDS):
                told = " or ".join(f'"{kind}"' for kind in READING_KINDS)
                self.refuse(
                    self.place_of(path),
                    f'{path} is set, but kind is "{kinds[0]}", which reads no file: set kind = {told}',
                )
            for name in files:
                named[name] = self.find_data(name, path, find_data)
        for name in filter(None, _as_list(values.get("fleet.arrivals"))):
            named[name] = self.find_data(name, "fleet.arrivals", find_arrivals)
        return named

    def note_what_is_late(self, plan: Plan) -> None:
        """Says which guests of a table, which classes and which outages no run sees."""
        spec = plan.cell(0).spec
        until_ns = max(map(int, plan.values("ticks"))) * spec.tick_ns
        run = f"the run of {TIME.format(until_ns)}"
        for name, each in plan.data.items():
            if each.classes and (missed := guests_outside(each.fetch(), until_ns)):
                told = f"{missed:,} of {counted(each.rows, 'guest')} of {name}"
                what = "starts {} or ends {}: it is" if missed == 1 else "start {} or end {}: they are"
                when = what.format(f"after the end of {run}", "before it")
                self.note(self.place_of("fleet.arrivals"), f"{told} {when} left out")
        for name, (many, request) in too_large_for_all(Run(-1, plan.cell(0), plan.replicates - 1)).items():
            needs = f"{MEMORY.format(request.memory_pages)}, {counted(request.vcpus, 'vCPU')}"
            told = f"{counted(many, 'guest')} of this class ({needs}) can't live on any host, not even on an empty one"
            self.note(("fleet", "guest", name), f"{told}: {'it is' if many == 1 else 'they are'} refused")
        for name, out in spec.fleet.outage.items():
            if out.at > until_ns and (path := f"fleet.outage.{name}.at") not in plan.varied:
                self.note(self.place_of(path), f"this outage begins at {TIME.format(out.at)}, after the end of {run}")

    def note_what_is_not_split(self, plan: Plan) -> None:
        """Says that there are no huge pages whose SPTEs could be small."""
        spec = plan.cell(0).spec
        classes = [f"fleet.guest.{name}" for name in spec.fleet.guest] or ["guest"]
        if any(plan.values("vm.split_share")) and all(
            set(plan.values(f"{each}.huge_pages")) == {"never"} for each in classes
        ):
            told = 'vm.split_share changes nothing: no guest has huge pages (guest.huge_pages = "always")'
            self.note(self.place_of("vm.split_share"), told)

    def find_data(self, name: str, path: str, find: Callable[[str, Path], StudyData]) -> StudyData:
        """The file that a key names."""
        try:
            return find(name, self.folder)
        except UserError as error:
            self.refuse(self.place_of(path), f"{path}: {error}")

    def place_of(self, path: str) -> tuple[str, ...]:
        """Where in the file a key is, that may vary."""
        return (*((self.sections[path],) if path in self.sections else ()), *path.split("."))

    def read_argument(self, tree: dict[str, Any]) -> Argument | None:
        """Takes the table [argument] out of the tree and checks it."""
        table = tree.pop("argument", None)
        if table is None:
            return None
        try:
            return Argument.model_validate(table)
        except ValidationError as error:
            self.complain_first(error, "argument")

    def read_policies(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Takes the tables [policy.NAME] out of the tree and checks them; a single one is the study's policy."""
        tables = tree.get("policy")
        if not isinstance(tables, dict):
            return {}
        del tree["policy"]
        for name, table in tables.items():
            try:
                self.own[name] = PolicyTable.model_validate(table).build(name)
            except ValidationError as error:
                self.complain_first(error, "policy", name)
            except PolicyError as error:
                self.refuse(("policy", name), str(error))
        sections = [tree.get(section) for section in ("grid", "zip", "sample")]
        if not any("policy" in section for section in sections if isinstance(section, dict)):
            if len(tables) != 1:
                self.refuse(("policy",), f"which of them? add [grid] with policy = {list(tables)!r}")
            tree["policy"] = next(iter(tables))
        return tables

    def read_calibrations(self, tree: dict[str, Any]) -> None:
        """Puts the figures of calibration files in the place of their names, so that a plan needs no other file."""

        def figures(value: Any, *at: str) -> Any:
            if not isinstance(value, str) or not value.endswith(".toml"):
                return value
            try:
                return read_calibration(self.folder / value).as_text()
            except UserError as error:
                self.refuse((*at, "calibration"), f"calibration: {error}")

        if "calibration" in tree:
            tree["calibration"] = figures(tree["calibration"])
        for name in ("grid", "zip"):
            section = tree.get(name)
            if isinstance(section, dict) and isinstance(section.get("calibration"), list):
                section["calibration"] = [figures(value, name) for value in section["calibration"]]

    def section(self, name: str, tree: dict[str, Any]) -> dict[str, Any]:
        """A table of keys that vary, taken out of the tree; {} if there is none."""
        given, table = name in tree, tree.pop(name, {})
        if not isinstance(table, dict):
            self.refuse((name,), f"{name} is not a table of lists: write [{name}], then policy = [...]")
        if given and not table:
            self.refuse((name,), f"[{name}] is empty: give it a list, such as policy = [...], or leave it out")
        return table

    def read_where(self, where: Any) -> tuple[str, ...]:
        """The constraints, as texts that can be read."""
        if not isinstance(where, list) or not all(isinstance(text, str) for text in where):
            self.refuse(("where",), 'where is not a list of texts: write where = ["overcommit > 1"]')
        if len(where) > MAX_CONSTRAINTS:
            self.refuse(("where",), f"where has {len(where):,} conditions; at most {MAX_CONSTRAINTS} are read")
        for text in where:
            try:
                read_constraint(text, self.known)
            except UserError as error:
                self.refuse(("where",), f"where: {error}")
        return tuple(where)

    def check_not_asked(self, path: str, where: tuple[str, ...]) -> None:
        """Refuses constraints on a key that isn't set."""
        for text in where:
            try:
                read_constraint(text, [each for each in self.known if each != path])
            except UserError:
                self.refuse(
                    ("where",), f"where: {path} isn't set, so each cell has its default: set it, or don't ask for it"
                )

    def read_lists(
        self, section: str, table: Mapping[str, Any], tree: Mapping[str, Any], prefix: str = ""
    ) -> Iterator[tuple[str, list[Scalar]]]:
        """The lists of a section, as written; both "guest.memory" = [...] and guest.memory = [...] are fine."""
        for key, values in table.items():
            path = prefix + key
            if isinstance(values, dict):
                if not values:
                    self.refuse((section, *path.split(".")), f"{section}.{path} is empty: give it at least one value")
                yield from self.read_lists(section, values, tree, path + ".")
                continue
            self.enter(section, path, tree)
            at = (section, *path.split("."))
            if not isinstance(values, list):
                self.refuse(at, f"{section}.{path} is not a list: write {path} = [{values!r}]")
            if not values:
                self.refuse(at, f"{section}.{path} is empty: give it at least one value")
            yield path, values

    def enter(self, section: str, path: str, tree: Mapping[str, Any]) -> None:
        """Notes that a key varies; refuses one that there isn't, or that has values elsewhere too."""
        at = (section, *path.split("."))
        if path not in self.known:
            self.refuse(at, f'unknown key "{path}" in [{section}]{self.suggest(path, self.known)}')
        if self.is_set(tree, path):
            self.refuse(at, f"{path} is both in [{section}] and set to one value: leave one of the two out")
        if other := self.sections.get(path):
            self.refuse(at, f"{path} is both in [{other}] and in [{section}]: leave one of the two out")
        self.sections[path] = section

    def distinct(self, path: str, values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        if twice := _first_twice(values):
            self.refuse(("grid", *path.split(".")), f"grid.{path} has {twice[0]!r} twice")
        return values

    def zipped(self, lists: Mapping[str, list[Scalar]], written: Mapping[str, tuple[Scalar, ...]]) -> Iterator[Bundle]:
        """The lists of [zip] as one bundle: their first values together, their second values together, and so on."""
        if not lists:
            return
        lengths = {path: len(values) for path, values in lists.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{path} has {length}" for path, length in lengths.items())
            self.refuse(("zip",), f"the lists of [zip] go together, so they must have the same length: {told}")
        rows = tuple(zip(*(written[path] for path in lists), strict=True))
        if twice := _first_twice(rows):
            self.refuse(("zip",), f"[zip] has {twice[0]} twice")
        yield Bundle(tuple(lists), rows)

    def check_size(
        self,
        tree: Mapping[str, Any],
        lists: Mapping[str, Mapping[str, list[Scalar]]],
        varied: Mapping[str, list[Scalar]],
        points: int,
    ) -> None:
        """Refuses more values and runs than a study may have, before any of them is looked at."""
        values = sum(map(len, varied.values()))
        if values > MAX_VALUES:
            self.refuse((), f"[grid], [zip] and [sample] have {values:,} values; at most {MAX_VALUES:,} are read")
        rows = max(map(len, lists["zip"].values()), default=1)
        replicates = tree.get("replicates", 1)
        runs = math.prod([*map(len, lists["grid"].values()), rows, max(points, 1)])
        runs *= replicates if isinstance(replicates, int) and replicates > 0 else 1
        if runs > MAX_RUNS:
            self.refuse(("grid",), f"the grid has {runs:,} runs; at most {MAX_RUNS:,} fit one study")

    def written(self, path: str, value: Scalar) -> Scalar:
        """The value of a key that varies, checked by itself, as a study file would write it."""
        quantity = quantity_at(path)
        try:
            checked: Scalar = checker_of(path).validate_python(value, strict=True, context=self.own)
        except ValidationError as error:
            self.complain_first(error, *path.split("."))
        return quantity.format(int(checked)) if quantity else checked

    def read_seed(self, tree: Mapping[str, Any]) -> int:
        """The study's seed, which its samples depend on."""
        try:
            seed = tree.get("seed", Study.model_fields["seed"].default)
            return int(checker_of("seed").validate_python(seed, strict=True))
        except ValidationError as error:
            self.complain_first(error, "seed")

    def first_cell(
        self, tree: dict[str, Any], axes: Mapping[str, tuple[Scalar, ...]], bundles: Sequence[Bundle], constrained: bool
    ) -> Study:
        """The first combination that can be; what doesn't vary is the same in all of them.

        ``constrained``: not every combination is a cell, so that the very first need not be one.
        """
        rows = [[dict(zip(bundle.paths, row, strict=True)) for row in bundle.rows] for bundle in bundles]
        choices = [[{path: value} for value in values] for path, values in axes.items()]
        complaint: ValidationError | None = None
        for chosen in itertools.islice(itertools.product(*choices, *rows), MAX_VALUES if constrained else 1):
            values = {path: value for each in chosen for path, value in each.items()}
            try:
                return Study.model_validate(merge(tree, as_tree(values)), context=self.own)
            except ValidationError as error:
                complaint = complaint or error
        assert complaint is not None
        return self.complain_first(complaint)

    def complain_first(self, error: ValidationError, *tables: str) -> NoReturn:
        """Says one thing that is wrong in these tables: an unknown key is most often the cause of whatever else is.

        Classes of guests repeat what is wrong with [guest]: what the file says comes first.
        """
        first = min(error.errors(), key=lambda e: (e["type"] != "extra_forbidden", e["loc"] not in self.lines))
        self.complain({**first, "loc": (*tables, *first["loc"])})

    def complain(self, error: dict[str, Any]) -> NoReturn:
        path = tuple(map(str, error["loc"]))
        dotted = ".".join(path)
        kind = error["type"]
        if kind == "extra_forbidden":
            self.refuse(path, self.unknown_key(path, isinstance(error["input"], dict)))
        if kind == "missing":
            self.refuse((), f"{dotted} is missing{self.where_to_put(path)}")
        if section := self.sections.get(dotted):
            path, dotted = (section, *path), f"{section}.{dotted}"
        value, said = error["input"], error["msg"].replace("Input should", "it should")
        if isinstance(value, str):  # its bounds have its unit, too
            quantity = quantity_at(dotted.removeprefix(f"{section}."))
            for bound in error.get("ctx", {}).values():
                if isinstance(bound, int | float):
                    shown = quantity.format_like(bound, value) if quantity else f"{bound * 100:g} %"
                    said = re.sub(rf"{re.escape(str(bound))}$", shown, said)
        cause = error.get("ctx", {}).get("error")
        if cause is not None:
            message = f"{dotted}: {cause}" if dotted and not str(cause).lstrip("[").startswith(dotted) else str(cause)
        elif kind in _TYPES:
            message = f"{dotted} = {value!r} is not {_TYPES[kind]}"
        else:
            message = f"{dotted} = {value!r}: {said}"
        self.refuse(path, message)

    def unknown_key(self, path: tuple[str, ...], is_table: bool) -> str:
        *tables, name = path
        model = table_at(tables, Study) or Study
        if tables and tables[0] in _OTHER_TABLES:
            model = Check if tables[:2] == ["argument", "checks"] else _OTHER_TABLES[tables[0]]
        siblings = [key for key, field in model.model_fields.items() if is_table == _is_table(field.annotation)]
        siblings += ["grid", "zip", "sample", "policy", "argument"] if is_table and not tables else []
        where = f" in [{'.'.join(tables)}]" if tables else ""
        what = f"unknown table [{'.'.join(path)}]" if is_table else f'unknown key "{name}"{where}'
        if near := self.suggest(name, siblings):
            return what + near
        for other in [*_HEAD, *(p for p, _ in walk_keys())]:
            table, _, key = other.rpartition(".")
            if key == name:
                return what + (f": it belongs in [{table}]" if table else ": it belongs at the top, before any [table]")
        return what + (": known are " + ", ".join(siblings) if siblings else ": there are none")

    def where_to_put(self, path: tuple[str, ...]) -> str:
        if other := other_way(".".join(path)):
            return f": set it, or {other}, at the top of the file or in [grid]"
        if len(path) == 1 and path[0] in ("fleet", "guest"):
            return f": add a table [{path[0]}]"
        if path[0] in _OTHER_TABLES and len(path) > 1:
            return f": set it in [{'.'.join(path[:-1])}]"
        table = f"in [{'.'.join(path[:-1])}]" if len(path) > 1 else "at the top of the file"
        return f": set it {table} or in [grid]"

    def suggest(self, name: str, known: list[str]) -> str:
        tails = {path.rpartition(".")[2]: path for path in reversed(known)}
        near = difflib.get_close_matches(name, known, n=1) or [
            tails[tail] for tail in difflib.get_close_matches(name.rpartition(".")[2], tails, n=1)
        ]
        return f': did you mean "{near[0]}"?' if near else ""

    def is_set(self, tree: Mapping[str, Any], path: str) -> bool:
        table: Any = tree
        for name in path.split("."):
            if not isinstance(table, dict) or name not in table:
                return False
            table = table[name]
        return True

    def refuse(self, path: tuple[str, ...], message: str) -> NoReturn:
        raise UserError(self.place(path, message))

    def note(self, path: tuple[str, ...], message: str) -> None:
        """Says on stderr what is no mistake, but good to know."""
        print(visible(f"coldfleet: {self.place(path, message)}"), file=sys.stderr)

    def place(self, path: tuple[str, ...], message: str) -> str:
        """A message with where its cause stands: at ``path``, or where the first key below it that it names is set."""
        named, key = self.named_in(_CELL.sub("", message)), ".".join(path)
        line = find_line(self.lines, named if named[: len(path)] == path else path)
        at = line or ("" if message.startswith(key) else key)
        return f"{self.where}:{at}: {message}" if at else f"{self.where}: {message}"

    def named_in(self, message: str) -> tuple[str, ...]:
        """The first key or [table] of this study that a message names, dotted keys before others; () if none."""
        words = re.findall(r"\[?[\w-]+(?:\.[\w-]+)*", message)
        for word in sorted(words, key=lambda word: "." not in word):
            dotted = word.removeprefix("[")
            path = tuple(f"{self.sections.get(dotted, '')}.{dotted}".strip(".").split("."))
            if path in self.lines and (word != dotted or table_at(list(path), Study) is None):
                return path
        return ()


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _first_twice(values: Sequence[Hashable]) -> list[Hashable]:
    """The first value that is there twice, as a list; [] if all are different."""
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            return [value]
        seen.add(value)
    return []


def _plain(value: Any, where: str) -> Any:
    """A mapping as a file would give it: with dicts and lists of its own, which the reader takes apart."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise UserError(f"{where}: the key {key!r} is not a text")
        return {key: _plain(inner, f"{where}:{key}") for key, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_plain(inner, where) for inner in value] if isinstance(value, list | tuple) else value


def _paths(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every table and key of a tree; a dot in a key counts as one between keys."""
    for key, value in tree.items():
        path = (*above, *key.split("."))
        yield path
        if isinstance(value, dict):
            yield from _paths(value, path)


def _with_new_names(text: str) -> str:
    """A constraint with today's names of keys; what it has in quotes stays as it is."""
    return _OLD_NAME.sub(lambda found: found[1] or _RENAMED[found[2]], text)


def class_paths(tree: Mapping[str, Any]) -> list[str]:
    """The keys that the classes of hosts and guests, and outages, set, by their dotted names."""
    fleet = tree.get("fleet", {})
    return [
        f"fleet.{kind}.{path}"
        for kind in CLASSES
        if isinstance(fleet, dict) and isinstance(fleet.get(kind), dict)
        for path in _leaves(fleet[kind])
    ]


def keys_of_classes(tree: Mapping[str, Any]) -> list[str]:
    """The keys that the classes of hosts and guests, and outages, could set."""
    names = dict.fromkeys(tuple(path.split(".")[1:3]) for path in class_paths(tree))
    return [f"fleet.{kind}.{name}.{path}" for kind, name in names for path, _ in walk_keys(CLASSES[kind])]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Table)
