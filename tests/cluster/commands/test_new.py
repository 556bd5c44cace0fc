"""Studies to begin with: they are good, they run as they are, and so do the commands that they name."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.study.json_schema import study_schema
from coldfleet.cluster.study.questions import questions
from coldfleet.cluster.study.reader import read_study
from tests.cluster.conftest import Said

Command = Callable[..., Said]
NAMES = list(questions())
MOST_WORK = 60e6  # accesses of all runs together: a minute of a core takes more


def cut_down(path: Path) -> None:
    """Makes a study small, and leaves its keys as they are."""
    text = path.read_text()
    for key, value in (("ticks", "3"), ("replicates", "1"), ("memory", '"2 MiB"'), ("phase_ticks", "1")):
        text = re.sub(rf"(?m)^{key} = [^#\n]*", f"{key} = {value} ", text)
    path.write_text(text)


def test_every_question_is_listed(coldfleet: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    said = coldfleet("new", "--list")
    assert (said.code, said.err) == (0, "")
    assert [line.split()[0] for line in said.out.splitlines()] == NAMES
    for asked in questions().values():
        assert asked.endswith("?")
        assert asked in " ".join(said.out.split())
    assert coldfleet("new") == said
    monkeypatch.setenv("COLUMNS", "60")
    narrow = coldfleet("new", "--list").out
    assert max(map(len, narrow.splitlines())) <= 60
    assert narrow.split() == said.out.split()


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_commented_and_takes_no_more_than_a_minute(name: str, tmp_path: Path, coldfleet: Command) -> None:
    path = tmp_path / "mine.toml"
    said = coldfleet("new", name, path)
    assert (said.code, said.err) == (0, "")
    assert f"coldfleet sweep {path}" in said.out
    text = path.read_text()
    assert "STUDY" not in text
    assert text.count("# ") > 10
    jsonschema.validate(tomllib.loads(text), study_schema())
    plan = read_study(path)
    assert plan.cell_count > 1
    specs = [plan.cell(number).spec for number in range(plan.cell_count)]
    alike = [(spec.fleet.hosts * spec.fleet.guests_per_host, spec.guest, spec.ticks) for spec in specs]
    classes = [(each.count, each, spec.ticks) for spec in specs for each in spec.fleet.guest.values()]
    accesses = sum(count * guest.accesses_per_tick * ticks for count, guest, ticks in alike + classes)
    assert accesses * plan.replicates < MOST_WORK


@pytest.mark.parametrize("name", NAMES)
def test_a_study_runs_in_a_cut_down_form(name: str, tmp_path: Path, coldfleet: Command) -> None:
    path = tmp_path / "mine.toml"
    coldfleet("new", name, path)
    cut_down(path)
    results = sweep(path, tmp_path / "out", SerialExecutor(), audit=True)
    assert not results.failed, results.failed[0].error
    assert not results.missing
    assert sum(results.table("cells")["pgmajfault"].to_pylist())


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_the_comments_run(
    name: str, tmp_path: Path, coldfleet: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("duckdb", "altair", "vl_convert"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    coldfleet("new", name, "my study.toml")
    cut_down(tmp_path / "my study.toml")
    lines = re.findall(r"^# {5}coldfleet ([^#\n]+)", Path("my study.toml").read_text(), re.M)
    assert lines[0].startswith(("sweep", "capacity", "policies"))
    for line in lines:
        words = shlex.split(line)
        words += ["--executor", "serial"] if words[0] in ("sweep", "compare", "capacity", "ablate") else []
        words += ["--budget", "100"] if words[0] in ("compare", "capacity") else []
        if words[0] == "query" and not Path("results").exists():
            coldfleet("sweep", "my study.toml", "--executor", "serial")
        said = coldfleet(*words)
        assert said.code == 0, (line, said.err)


def test_no_file_is_overwritten(tmp_path: Path, coldfleet: Command) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    (tmp_path / "link.toml").symlink_to(tmp_path / "nowhere.toml")
    for name in ("mine.toml", "link.toml"):
        said = coldfleet("new", "policies", tmp_path / name)
        assert (said.code, said.out) == (2, "")
        assert f"{name} exists: give another name" in said.err
    assert path.read_text() == "mine"
    assert not (tmp_path / "nowhere.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["polices", "x.toml"], "no study is for 'polices' (--list has all): did you mean 'policies'"),
        (["policies", "nowhere/x.toml"], "nowhere/x.toml: No such file or directory"),
        (["nonsense"], f"no study is for 'nonsense' (--list has all): there are {NAMES[0]!r}, {NAMES[1]!r}"),
        (["policies", ""], "the file's name is empty: give one, such as policies.toml"),
        (["policies", "x.json"], "'x.json': a study's file ends in .toml: give it such a name"),
        (["policies", "a\nb.toml"], "a name with control characters"),
        (["../quickstart", "x.toml"], "no study is for '../quickstart'"),
    ],
)
def test_mistake_is_one_line_and_nothing_is_written(
    arguments: list[str], expected: str, tmp_path: Path, coldfleet: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = coldfleet("new", *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err
    assert not list(tmp_path.iterdir())


def test_the_schema_is_printed(coldfleet: Command) -> None:
    assert json.loads(coldfleet("new", "--schema").out) == study_schema()
