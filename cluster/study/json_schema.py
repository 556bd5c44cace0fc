"""The JSON schema of study files, by which editors complete keys and mark what isn't one.

It is made from the models that check studies, and knows less than they: which values go together, it can't say.
"""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from coldfleet.cluster.study.argument import Argument
from coldfleet.cluster.study.design import METHODS
from coldfleet.cluster.study.fleet_tables import CLASSES
from coldfleet.cluster.study.model import Study, checker_of_field, followed_by, quantity_of, walk_keys
from coldfleet.cluster.study.own_policy import PolicyTable
from coldfleet.cluster.study.tables import Table
from coldfleet.cluster.study.values import CLASS_NAME

Schema = dict[str, Any]
_DIALECT = "http://json-schema.org/draft-07/schema#"  # the one that editors of TOML know
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}


def study_schema() -> Schema:
    """The schema of a whole study file."""
    study = _table(Study)
    keys = [path for path, _ in walk_keys()]
    lists = {path: {"type": "array", "minItems": 1, "items": {"$ref": _pointer(path)}} for path in keys}
    lists["policy"]["items"] = {"type": "string"}
    ranges: dict[str, Schema] = {path: {"$ref": "#/definitions/range"} for path in keys}
    drawn: dict[str, Schema] = {"method": {"enum": list(METHODS)}, "points": {"type": "integer", "minimum": 1}}
    policy = study["properties"]["policy"]
    policies = {"type": "object", "additionalProperties": _table(PolicyTable)}
    study["properties"] |= {
        "policy": {"description": policy.pop("description"), "anyOf": [policy, policies]},
        "grid": _varying("lists of values: every combination is a cell", lists),
        "zip": _varying("lists of the same length, whose values go together", lists),
        "sample": _varying("keys whose values are drawn", ranges, drawn),
        "where": {"description": "what holds in every cell", **_TEXTS},
        "argument": _table(Argument),
    }
    ends = {"from": {}, "to": {}, "scale": {"enum": ["linear", "log"]}, "of": {"type": "array"}}
    one_range = {"type": "object", "properties": ends, "additionalProperties": False}
    return {"$schema": _DIALECT, "title": "A study of coldfleet", **study, "definitions": {"range": one_range}}


def _table(model: type[Table]) -> Schema:
    """A table of known keys. None of them has to be there, since it may be in [grid] instead."""
    return {
        "description": (model.__doc__ or "").split("\n")[0],
        "type": "object",
        "properties": {name: _key(field) for name, field in model.model_fields.items()},
        "additionalProperties": False,
    }


def _key(field: FieldInfo) -> Schema:
    kind, of = field.annotation, get_args(field.annotation)
    if isinstance(kind, type) and issubclass(kind, Table):
        return _table(kind)
    if get_origin(kind) is dict and isinstance(of[1], type):  # classes by their names
        return {"type": "object", "patternProperties": {CLASS_NAME: _table(of[1])}, "additionalProperties": False}
    if get_origin(kind) is list and isinstance(of[0], type):
        return {"type": "array", "items": _table(of[0])}
    made = {**checker_of_field(field).json_schema(), "description": field.description}
    for name in ("default", "unit", "follows"):
        made.pop(name, None)
    if not field.is_required() and field.default is not None and not followed_by(field):
        quantity = quantity_of(field)
        made["default"] = quantity.format(field.default) if quantity else field.default
    return made


def _varying(description: str, keys: dict[str, Schema], others: dict[str, Schema] | None = None) -> Schema:
    """A table of keys by their dotted names, or in tables of their own; those of classes can be any."""
    table: Schema = {"type": "object", "properties": {}, "additionalProperties": False}
    for path, schema in keys.items():
        *above, name = path.split(".")
        inner = table
        for one in above:
            inner = inner["properties"].setdefault(
                one, {"type": "object", "properties": {}, "additionalProperties": False}
            )
        inner["properties"][name] = table["properties"][path] = schema
    for kind in CLASSES:
        table["properties"]["fleet"]["properties"][kind] = {"type": "object"}
    names: Schema = {rf"^fleet\.({'|'.join(CLASSES)})\.{CLASS_NAME.strip('^$')}\.": {}}
    return {
        "description": description,
        **table,
        "properties": {**table["properties"], **(others or {})},
        "patternProperties": names,
    }


def _pointer(path: str) -> str:
    return "#/properties/" + "/properties/".join(path.split("."))
