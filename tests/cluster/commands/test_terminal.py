"""What people see in a terminal: no line is wider than it, no word is broken, and a shell completes commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import coldfleet as package
from coldfleet.cluster.commands.cli import COMMANDS
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.terminal import counted
from tests.cluster.conftest import Said

Command = Callable[..., Said]


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize(
    "command", [("policies",), ("columns", "cells"), ("columns",), ("sweep",)], ids=lambda c: c[-1]
)
def test_lines_fit_and_words_are_whole(
    command: tuple[str, ...],
    columns: int,
    coldfleet: Command,
    done: Path,
    study_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = study_file if command == ("sweep",) else None
    rest = (wide, "--out", done, "--executor", "serial") if wide else ()
    monkeypatch.setenv("COLUMNS", "100")
    whole = set(coldfleet(*command, *rest).out.split())
    monkeypatch.setenv("COLUMNS", str(columns))
    said = coldfleet(*command, *rest)
    assert max(len(line) for line in said.out.splitlines() if str(done) not in line) <= columns
    rows = {word for line in re.findall(r"^row \d+$", said.out, re.M) for word in line.split()}
    assert set(said.out.split()) - rows <= whole, "a broken word is another word"


@pytest.mark.parametrize("columns", [80, 100])
def test_rows_too_wide_for_the_terminal_go_downwards(
    columns: int, coldfleet: Command, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("duckdb")
    monkeypatch.setenv("COLUMNS", str(columns))
    said = coldfleet("query", done, "SELECT * FROM cells LIMIT 2").out
    assert said.splitlines()[0] == "row 1"
    assert max(map(len, said.splitlines())) <= columns
    assert said.count("\n  policy ") == 2
    narrow = coldfleet("query", done, "SELECT policy, pgmajfault FROM cells LIMIT 2").out
    assert narrow.split()[:2] == ["policy", "pgmajfault"]


@pytest.mark.usefixtures("fake_engine")
def test_a_cell_ends_with_its_defaults_and_zeros(coldfleet: Command, plan: Plan, done: Path) -> None:
    said = coldfleet("run", done, "--cell", plan.cell_ids[5]).out
    first, rest = said.split("defaults and zeros:")
    assert "pgmajfault" in first
    assert "guest_memory_pages" in first
    assert "swap_device" not in first
    assert "swap_device" in rest


def test_the_version_is_told(coldfleet: Command) -> None:
    assert coldfleet("--version").out == f"coldfleet {package.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str) -> None:
    words = {
        "COMP_WORDS": "coldfleet rep",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "coldfleet rep",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    environment = {**os.environ, **words, "_COLDFLEET_COMPLETE": f"complete_{shell}"}
    said = subprocess.run([sys.executable, "-m", "coldfleet"], env=environment, capture_output=True, text=True)
    assert {name for name in ("replay", "report") if name in said.stdout} == {"replay", "report"}
    assert "sweep" not in said.stdout


@pytest.mark.parametrize(
    "asked",
    [{"_COLDFLEET_COMPLETE": "nonsense"}, {"_COLDFLEET_COMPLETE": "complete_nosh"}, {"_COLDFLEET_COMPLETE": "x_bash"},
     {"_COLDFLEET_COMPLETE": "complete_bash", "COMP_CWORD": "zz", "COMP_WORDS": "a"}],
)  # fmt: skip
def test_completion_that_no_shell_asks_for_is_one_line(
    asked: dict[str, str], coldfleet: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    said = coldfleet()
    assert (said.code, said.out) == (2, "")
    assert said.err.endswith("no shell asks so: `coldfleet --install-completion` sets up completion\n")
    assert len(said.err.splitlines()) == 1


def test_completion_knows_every_command(coldfleet: Command) -> None:
    said = coldfleet("--help").out
    assert all(command.__name__ in said for command in COMMANDS)


def test_one_is_not_many() -> None:
    assert [counted(n, "run") for n in (0, 1, 2, 1200)] == ["0 runs", "1 run", "2 runs", "1,200 runs"]
