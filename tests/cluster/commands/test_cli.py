"""The command line: quick to answer, one line for a mistake, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coldfleet.cluster.commands.cli import COMMANDS
from coldfleet.policies import POLICIES
from tests.cluster.conftest import Said

Command = Callable[..., Said]
NAMES = [command.__name__ for command in COMMANDS]


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_imports_nothing_slow(name: str) -> None:
    """What takes a second to import would keep a person waiting for a line of help."""
    code = (
        "import sys; from coldfleet.cluster.commands.cli import run_command; code = run_command(sys.argv[1:]);"
        "slow = {'numpy', 'numba', 'pyarrow', 'ray'} & set(sys.modules); print(code, sorted(slow))"
    )
    arguments = [name, "--help"] if name else ["--help"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize("name", NAMES)
def test_help_has_examples(name: str, coldfleet: Command) -> None:
    said = coldfleet(name, "--help")
    assert said.code == 0
    assert "Examples:" in said.out
    assert f"coldfleet {name}" in said.out


def test_no_command_prints_the_help(coldfleet: Command) -> None:
    said = coldfleet()
    assert said.code == 0
    assert all(name in said.out for name in NAMES)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["swep"], "No such command 'swep'"), (["sweep"], "Missing argument"), (["run", "x.toml"], "x.toml: no such file"),
     (["sweep", "x.toml", "--exectuor", "ray"], "--exectuor"), (["sweep", "x.toml", "--workers", "0"], "--workers"),
     (["sweep", "x.toml", "--executor", "cloud"], "cloud"), (["sweep", "nowhere.toml"], "nowhere.toml: no such file"),
     (["policies", "was-fas"], "did you mean 'was-fast' or")],
)  # fmt: skip
def test_mistake_is_one_line(arguments: list[str], expected: str, coldfleet: Command) -> None:
    said = coldfleet(*arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err


def test_serial_executor_has_no_workers(coldfleet: Command, study_file: Path, tmp_path: Path) -> None:
    said = coldfleet("sweep", study_file, "--out", tmp_path / "o", "--executor", "serial", "--address", "head:6379")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert not (tmp_path / "o").exists()


def test_bug_is_one_line_too(coldfleet: Command, study_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise KeyError("oops")

    monkeypatch.delenv("COLDFLEET_DEBUG", raising=False)
    monkeypatch.setattr("coldfleet.cluster.study.reader.read_study", broken)
    said = coldfleet("sweep", study_file)
    assert (said.code, said.err.count("\n")) == (3, 1)
    assert "KeyError" in said.err


def test_closed_pipe_ends_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "coldfleet", "policies"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.stderr == ""


def test_policies_lists_all(coldfleet: Command) -> None:
    said = coldfleet("policies")
    assert said.code == 0
    assert all(name in said.out for name in POLICIES)
    assert max(map(len, said.out.splitlines())) <= 100
    data = json.loads(coldfleet("policies", "--json").out)
    assert [policy["name"] for policy in data] == list(POLICIES)
    assert all(policy["source"] and policy["digest"] for policy in data)


@pytest.mark.parametrize("name", POLICIES)
def test_policies_shows_steps_sites_and_source(name: str, coldfleet: Command) -> None:
    policy = POLICIES[name]
    said = coldfleet("policies", name)
    for number, step in enumerate(policy.steps, 1):
        assert f"{number}. {step.text}" in said.out
    assert policy.source in " ".join(said.out.split())
    assert all(f"{site}:" in said.out for site in ("walk", "look_around", "evict"))
    assert json.loads(coldfleet("policies", name, "--json").out)["steps"] == [step.text for step in policy.steps]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("command", ["columns cells", "columns nothing", "policies six-steps --json"])
def test_streams_may_be_closed(closed: str, command: str) -> None:
    script = f"{sys.executable} -m coldfleet {command} {closed}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == (2 if "nothing" in command else 0), done
    assert "bug" not in done.stderr
    assert not (done.stdout and closed.startswith(">&-"))
