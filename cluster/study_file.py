"""Reads a study file. Everything that can be wrong with one is found here, and said in one line."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from cluster.own_policy import PolicyTable
from cluster.plan import Plan, as_tree, as_written
from cluster.study import Scalar, Study, Table, walk_keys
from cluster.toml_lines import find_line, key_lines
from hostsim.errors import UserError
from policies import Policy, PolicyError

_HEAD = ("title", "description", "seed", "replicates")
_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a text in quotes",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def read_study(path: Path) -> Plan:
    """The plan of a study file; raises :class:`UserError` with file, line and key."""
    try:
        text = path.read_bytes().decode()
        tree = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    return _Door(path, key_lines(text)).check(tree)


class _Door:
    """Knows the file, so that every complaint can say where."""

    def __init__(self, path: Path, lines: dict[tuple[str, ...], int]) -> None:
        self.path = path
        self.lines = lines
        self.axes: dict[str, list[Scalar]] = {}
        self.own: dict[str, Policy] = {}

    def check(self, tree: dict[str, Any]) -> Plan:
        tables = self.read_policies(tree)
        grid = tree.pop("grid", None)
        if grid is not None and not isinstance(grid, dict):
            self.refuse(("grid",), "grid is not a table of lists: write [grid], then policy = [...]")
        self.axes = dict(self.read_axes(grid, tree)) if grid is not None else {}
        if grid is not None and not self.axes:
            self.refuse(("grid",), "[grid] is empty: give it a list, such as policy = [...], or leave it out")
        first = {path: values[0] for path, values in self.axes.items()}
        study = self.validate(tree, first)
        axes: dict[str, tuple[Scalar, ...]] = {}
        for path, values in self.axes.items():
            axes[path] = tuple(as_written(self.validate(tree, {**first, path: value}))[path] for value in values)
            for number, value in enumerate(axes[path]):
                if value in axes[path][:number]:
                    self.refuse(("grid", *path.split(".")), f"grid.{path} has {value!r} twice")
        base = {path: value for path, value in as_written(study).items() if path not in axes}
        head = {name: getattr(study, name) for name in _HEAD}
        plan = Plan(**head, base=base, axes=axes, policies=tables, name=self.path.stem)
        try:
            _ = plan.cell_ids
        except UserError as error:
            self.refuse((), str(error))
        return plan

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
                self.complain({**error.errors()[0], "loc": ("policy", name, *error.errors()[0]["loc"])})
            except PolicyError as error:
                self.refuse(("policy", name), str(error))
        if "policy" not in tree.get("grid", {}):
            if len(tables) != 1:
                self.refuse(("policy",), f"which of them? add [grid] with policy = {list(tables)!r}")
            tree["policy"] = next(iter(tables))
        return tables

    def read_axes(
        self, grid: Mapping[str, Any], tree: Mapping[str, Any], prefix: str = ""
    ) -> Iterator[tuple[str, list[Scalar]]]:
        """The axes with their raw values; both "guest.memory" = [...] and guest.memory = [...] are fine."""
        known = [path for path, _ in walk_keys()]
        for key, values in grid.items():
            path = prefix + key
            at = ("grid", *path.split("."))
            if isinstance(values, dict):
                yield from self.read_axes(values, tree, path + ".")
                continue
            if path not in known:
                self.refuse(at, f'unknown key "{path}" in [grid]{self.suggest(path, known)}')
            if not isinstance(values, list):
                self.refuse(at, f"grid.{path} is not a list: write {path} = [{values!r}]")
            if not values:
                self.refuse(at, f"grid.{path} is empty: give it at least one value")
            if self.is_set(tree, path):
                self.refuse(at, f"{path} is both in [grid] and set to one value: leave one of the two out")
            yield path, values

    def validate(self, tree: dict[str, Any], chosen: dict[str, Scalar]) -> Study:
        """Checks the cell that has these values of the axes."""
        try:
            return Study.model_validate(_merged(tree, as_tree(chosen)), context=self.own)
        except ValidationError as error:
            # An unknown key is most often the cause of whatever else is wrong.
            first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
            self.complain(dict(first))

    def complain(self, error: dict[str, Any]) -> NoReturn:
        path = tuple(map(str, error["loc"]))
        dotted = ".".join(path)
        kind = error["type"]
        if kind == "extra_forbidden":
            self.refuse(path, self.unknown_key(path, isinstance(error["input"], dict)))
        if kind == "missing":
            self.refuse((), f"{dotted} is missing{self.where_to_put(path)}")
        if dotted in self.axes:
            path, dotted = ("grid", *path), f"grid.{dotted}"
        value = error["input"]
        cause = error.get("ctx", {}).get("error")
        if cause is not None:
            message = f"{dotted}: {cause}" if dotted else str(cause)
        elif kind in _TYPES:
            message = f"{dotted} = {value!r} is not {_TYPES[kind]}"
        else:
            message = f"{dotted} = {value!r}: {error['msg'].replace('Input should', 'it should')}"
        self.refuse(path, message)

    def unknown_key(self, path: tuple[str, ...], is_table: bool) -> str:
        *tables, name = path
        model: type[Table] = Study
        for table in tables:
            if model is Study and table == "policy":
                model = PolicyTable
                break
            model = model.model_fields[table].annotation  # type: ignore[assignment]
        siblings = [key for key, field in model.model_fields.items() if is_table == _is_table(field.annotation)]
        siblings += ["grid", "policy"] if is_table and not tables else []
        where = f" in [{'.'.join(tables)}]" if tables else ""
        what = f"unknown table [{'.'.join(path)}]" if is_table else f'unknown key "{name}"{where}'
        if near := self.suggest(name, siblings):
            return what + near
        for other in [*_HEAD, *(p for p, _ in walk_keys())]:
            table, _, key = other.rpartition(".")
            if key == name:
                return what + (f": it belongs in [{table}]" if table else ": it belongs at the top, before any [table]")
        return what + ": it knows " + ", ".join(siblings)

    def where_to_put(self, path: tuple[str, ...]) -> str:
        if len(path) == 1 and path[0] in ("fleet", "guest"):
            return f": add a table [{path[0]}]"
        if path[0] == "policy" and len(path) > 1:
            return f": set it in [{'.'.join(path[:-1])}]"
        table = f"in [{path[0]}]" if len(path) > 1 else "at the top of the file"
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
        line = find_line(self.lines, path)
        raise UserError(f"{self.path}:{line}: {message}" if line else f"{self.path}: {message}")


def _merged(tree: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(tree)
    for key, value in other.items():
        mine = merged.get(key)
        merged[key] = _merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Table)
