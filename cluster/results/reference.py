"""The reference pages of the documentation, made from the code.

``python -m coldfleet.cluster.results.reference docs`` writes them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from coldfleet.cluster.results.row_laws import ROW_LAWS
from coldfleet.cluster.results.schemas import TABLES, schema
from coldfleet.cluster.study.fleet_tables import CLASSES
from coldfleet.cluster.study.json_schema import study_schema
from coldfleet.cluster.study.model import (
    INHERITED,
    CellSpec,
    Study,
    followed_by,
    quantity_of,
    scalar_type,
    unit_of,
    walk_keys,
)
from coldfleet.cluster.study.tables import Guest, Nested
from coldfleet.hostsim.memory.audit import MEMORY_LAWS
from coldfleet.hostsim.memory.result_laws import GUEST_LAWS, HOST_LAWS
from coldfleet.hostsim.spec.laws import statement
from coldfleet.hostsim.spec.units import MEMORY

_NOTE = "<!-- Made by `python -m coldfleet.cluster.results.reference docs`; a test compares it with the code. -->"

_BOUNDS = {"ge": "{} or more", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}


def pages() -> dict[str, str]:
    """The text of each generated file, by its name in docs/."""
    schema = json.dumps(study_schema(), indent=1) + "\n"
    return {"columns.md": columns_page(), "keys.md": keys_page(), "laws.md": laws_page(), "study.schema.json": schema}


def columns_page() -> str:
    """Every column of every result table."""
    lines = ["# Columns of the result tables", "", _NOTE, ""]
    lines += ["The same units and meanings are in the metadata of every Parquet file, field by field.", ""]
    for table in (*TABLES, "failures", "plan"):
        declared = schema(table)
        lines += [f"## {table}", "", f"{declared.metadata[b'table'].decode().capitalize()}.", ""]
        lines += ["| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
        for column in declared:
            unit, meaning = (column.metadata[key].decode() for key in (b"unit", b"description"))
            lines.append(f"| `{column.name}` | {arrow_name(column.type)} | {unit} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def keys_page() -> str:
    """Every key of a study file."""
    lines = ["# Keys of a study file", "", _NOTE, ""]
    lines += ["Any of them but the first four can be an axis of `[grid]`, by its dotted name. A key without a default"]
    lines += ["must be set, here or in the grid. One that follows another is decided by that, if it isn't set; one of"]
    lines += ['`overcommit` and `limit` has to be. Numbers from 0 to 1 can be percentages, such as "25 %".', ""]
    lines += ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    cell_keys = dict(walk_keys(CellSpec))
    head = {path: key for path, key in walk_keys(Study) if path not in cell_keys}
    lines += [_key_row(path, key) for path, key in {**head, **cell_keys}.items()]
    lines += ["", "## Keys of classes and outages", ""]
    lines += [
        "NAME is one of your own. A class of hosts inherits `host.memory`, `clock.pcpus` and `kernel`; a class of"
    ]
    lines += ["guests has every key of `guest` and `nested`, too, and inherits these and `nested_ratio`.", ""]
    lines += ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    above = {path for path, _ in walk_keys(Guest)} | {f"nested.{path}" for path, _ in walk_keys(Nested)}
    for kind, model in CLASSES.items():
        own = [(path, key) for path, key in walk_keys(model) if kind != "guest" or path not in above]
        inherited = INHERITED.get(kind, {})
        lines += [_key_row(f"fleet.{kind}.NAME.{path}", key, inherited.get(path, "")) for path, key in own]
    lines.append("")
    return "\n".join(lines)


def _key_row(path: str, key: FieldInfo, inherits: str = "") -> str:
    default = f"follows `{inherits}`" if inherits else _default(key)
    return f"| `{path}` | {_values(key)} | {default} | {_meaning(key)} |"


def laws_page() -> str:
    """Every law that ``--audit`` checks."""
    of = (
        ("Of a host's memory, after every tick", MEMORY_LAWS),
        ("Of what a guest went through, at the end", GUEST_LAWS),
        ("Of a host's result", HOST_LAWS),
        ("Of the rows of a run", ROW_LAWS),
    )
    lines = ["# Conservation laws", "", _NOTE, ""]
    lines += ["`coldfleet sweep STUDY.toml --audit` and `coldfleet run DIR --cell ID --audit` check them in every"]
    lines += ["run. A run that breaks one fails, and says which law, and where: the host, the guest, the tick. The"]
    lines += ["tables are the same. At sampled scale every part of a sample is checked as a host of its own, and the"]
    lines += ["estimate by those laws that rounding leaves in force.", ""]
    for title, laws in of:
        lines += [f"## {title}", "", "| law | what holds |", "| --- | --- |"]
        lines += [f"| {name} | {statement(law)} |" for name, law in laws.items()]
        lines.append("")
    return "\n".join(lines)


def _values(key: FieldInfo) -> str:
    if get_origin(key.annotation) is Literal:
        return ", ".join(f'"{name}"' for name in get_args(key.annotation))
    quantity = quantity_of(key)
    if quantity:
        name = "size with a unit" if quantity is MEMORY else "time with a unit"
    else:
        name = {str: "text", int: "whole number", float: "number"}[scalar_type(key)]
    show = quantity.format if quantity else _number
    bounds = {}
    for sign, tightest in (("ge", max), ("gt", max), ("le", min), ("lt", min)):
        if marks := [getattr(mark, sign) for mark in key.metadata if hasattr(mark, sign)]:
            bounds[sign] = show(tightest(marks))
    if bounds.keys() == {"ge", "le"}:
        return f"{name}, {bounds['ge']} to {bounds['le']}"
    return ", ".join([name, *(_BOUNDS[sign].format(bounds[sign]) for sign in _BOUNDS if sign in bounds)])


def _number(value: float) -> str:
    """A bound: 2^31, or as it is."""
    whole = int(value)
    return f"2^{whole.bit_length() - 1}" if whole >= 1 << 20 and whole.bit_count() == 1 else str(value)


def _default(key: FieldInfo) -> str:
    if key.is_required():
        return f"follows `{followed_by(key)}`" if followed_by(key) else ""
    if quantity := quantity_of(key):
        return f'`"{quantity.format(key.default)}"`'
    if followed_by(key) and not key.default:
        return f"follows `{followed_by(key)}`"
    return f"`{key.default!r}`".replace("'", '"')


def _meaning(key: FieldInfo) -> str:
    unit, meaning = unit_of(key), str(key.description)
    return meaning if unit in ("", "share") or unit in meaning else f"{meaning} ({unit})"


def arrow_name(kind: object) -> str:
    """A column's type for people: list<int64>, string."""
    return str(kind).replace(" not null", "").replace("element: ", "")


def main(directory: Path) -> None:
    """Writes the pages."""
    directory.mkdir(exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
