"""The figures in the documentation are those that the simulator comes to: a slice of them in CI, the rest slow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import Said

ROOT = Path(__file__).parents[2]


def lines_of(text: str) -> list[list[str]]:
    """The lines of a text as words, so that layout doesn't count."""
    return [words for line in text.splitlines() if (words := line.split())]


def outputs(text: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Each command that stands alone in a text, with the indented lines after it: what it printed."""
    for command, printed in re.findall(r"^ {4}(coldfleet .+)\n\n.*?((?:^ {4}(?!coldfleet).*\n|\n)+)", text, re.M):
        if printed.strip():
            yield command, lines_of(printed)


def summary_of_quickstart(coldfleet: Callable[..., Said], tmp_path: Path, policies: list[str], ratios: str) -> Said:
    text = (ROOT / "configs/quickstart.toml").read_text()
    if policies:
        text = re.sub(r"^policy = .*$", f"policy = {policies}".replace("'", '"'), text, flags=re.M)
    text = text.replace("nested_ratio = [0, 0.05, 0.25, 1]", f"nested_ratio = {ratios}")
    (tmp_path / "quickstart.toml").write_text(text)
    said = coldfleet("sweep", tmp_path / "quickstart.toml", "--executor", "serial", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    return said


def test_rows_of_the_readme(coldfleet: Callable[..., Said], tmp_path: Path) -> None:
    said = summary_of_quickstart(coldfleet, tmp_path, ["was-fast", "lockless-6.15"], "[0, 1]")
    shown = lines_of((ROOT / "README.md").read_text())
    rows = [words for words in lines_of(said.out) if "±" in " ".join(words)]
    assert len(rows) == 4
    assert all(row in shown for row in rows)


@pytest.mark.slow
def test_table_of_the_readme(coldfleet: Callable[..., Said], tmp_path: Path) -> None:
    said = summary_of_quickstart(coldfleet, tmp_path, [], "[0, 0.05, 0.25, 1]")
    shown = (ROOT / "README.md").read_text()
    table = said.out.partition("    means over")[0].rstrip()
    assert lines_of(table)[:27] == lines_of(shown[shown.index("Six aging policies") :])[:27]


ANSWERS = [pair for pair in outputs((ROOT / "docs/answers.md").read_text()) if pair[1][0][0] != "coldfleet:"]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "shown"), ANSWERS, ids=[command[:40] for command, _ in ANSWERS])
def test_answers(
    command: str, shown: list[list[str]], coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    said = coldfleet(*shlex.split(command)[1:], "--executor", "serial")
    assert said.code == 0, said.err
    assert " ".join(word for line in shown for word in line) in " ".join(said.out.split())


@pytest.mark.slow
def test_arguments(coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes ten minutes on two cores."""
    monkeypatch.chdir(ROOT)
    said = coldfleet("argue", "--markdown")
    assert lines_of(said.out) == lines_of((ROOT / "docs/arguments.md").read_text())


FINDINGS = re.findall(
    r"\*\*From (\S+) to (\S+):\*\* (.+?)\n\n {4}coldfleet (ablate .+?)\n", (ROOT / "docs/findings.md").read_text(), re.S
)


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "shown", "command"), FINDINGS, ids=[found[3][24:60] for found in FINDINGS])
def test_findings(
    old: str, new: str, shown: str, command: str, coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    said = coldfleet(*shlex.split(command))
    assert said.code == 0, said.err
    assert " ".join(shown.split()) in " ".join(said.out.split()), (old, new)


COMPARED = re.findall(r"^ {4}coldfleet (compare lockless-6.15 was-fast .+)$", (ROOT / "docs/why.md").read_text(), re.M)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMPARED)
def test_why(command: str, coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    said = coldfleet(*shlex.split(command), "--executor", "serial")
    percents = re.findall(r"[\d.]+ %", said.out)[:1]
    text = " ".join((ROOT / "docs/why.md").read_text().split())
    assert percents
    assert all(percent in text for percent in percents)
