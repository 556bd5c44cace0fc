"""The JSON schema of studies accepts what the reader accepts, and marks what editors can mark."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from coldfleet.cluster.study.json_schema import study_schema
from coldfleet.cluster.study.model import walk_keys
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError
from tests.cluster.test_docs import ROOT, blocks

SCHEMA = jsonschema.Draft7Validator(study_schema())
STUDIES = sorted((ROOT / "configs").rglob("*.toml"))
EXAMPLES = [text for _, text in blocks("toml")]
GOOD = """\
ticks = 4
overcommit = 1.5
nested_ratio = "25 %"
policy = "six-steps"
[fleet]
hosts = 1
guests_per_host = 1
[guest]
memory = "4 MiB"
workload.kind = "hotcold"
[grid]
"guest.workload.skew" = [0.5, 1.0]
nested.exposed_share = ["8 %", 0.5]
"""
BAD = {
    "unknown key": ("ticks = 4", "tics = 4"),
    "unknown key of a table": ("memory", "memry"),
    "unknown table": ("[fleet]", "[flet]"),
    "unknown key of a grid": ("workload.skew", "workload.skw"),
    "unknown key of a grid's table": ("exposed_share", "exposed"),
    "no list": ("[0.5, 1.0]", "0.5"),
    "wrong type": ("ticks = 4", 'ticks = "4"'),
    "no unit": ('"4 MiB"', "4096"),
    "wrong unit": ('"4 MiB"', '"4 MB"'),
    "out of range": ("overcommit = 1.5", "overcommit = 0.5"),
    "no share": ('"25 %"', '"25"'),
    "unknown name": ('"hotcold"', '"hot"'),
    "in a grid out of range": ('"8 %", 0.5', '"8 %", 1.5'),
}


def as_json(text: str) -> Any:
    """A study as editors hold it against a schema: a date is a text."""
    return json.loads(json.dumps(tomllib.loads(text), default=str))


def complaints(study: dict[str, Any]) -> list[str]:
    return [f"{list(error.path)}: {error.message}" for error in SCHEMA.iter_errors(study)]


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(study_schema())
    assert json.loads((ROOT / "docs" / "study.schema.json").read_text()) == study_schema()


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_that_come_along_are_good(path: Path) -> None:
    assert complaints(as_json(path.read_text())) == []


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_of_the_documentation_are_good(text: str) -> None:
    assert complaints(as_json(text)) == []


def test_a_good_study_has_no_complaint() -> None:
    assert complaints(tomllib.loads(GOOD)) == []
    read_study(tomllib.loads(GOOD))


@pytest.mark.parametrize(("old", "new"), BAD.values(), ids=BAD.keys())
def test_what_the_reader_refuses_is_marked(old: str, new: str) -> None:
    assert old in GOOD
    study = tomllib.loads(GOOD.replace(old, new))
    assert complaints(study)
    with pytest.raises(UserError):
        read_study(study)


@pytest.mark.parametrize("path", [path for path, _ in walk_keys()])
def test_every_key_is_described_and_its_default_is_good(path: str) -> None:
    *tables, name = path.split(".")
    schema = study_schema()
    for table in tables:
        schema = schema["properties"][table]
    schema = schema["properties"][name]
    assert schema["description"]
    if "default" in schema:
        jsonschema.validate(schema["default"], schema)
