"""The figures in the documentation are those that the simulator comes to: a slice of them in CI, the rest slow."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration
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


def test_rows_of_the_first_study(coldfleet: Callable[..., Said], tmp_path: Path) -> None:
    said = summary_of_quickstart(coldfleet, tmp_path, ["was-fast", "lockless-6.15"], "[0, 1]")
    shown = lines_of((ROOT / "docs/quickstart.md").read_text())
    rows = [words for words in lines_of(said.out) if "±" in " ".join(words)]
    assert len(rows) == 4
    assert all(row in shown for row in rows)


@pytest.mark.slow
def test_table_of_the_first_study(coldfleet: Callable[..., Said], tmp_path: Path) -> None:
    said = summary_of_quickstart(coldfleet, tmp_path, [], "[0, 0.05, 0.25, 1]")
    shown = (ROOT / "docs/quickstart.md").read_text()
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
@pytest.mark.cluster
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


def figure_of(text: str) -> tuple[float, float]:
    """What a text such as "9.29 ms" says, in seconds if it has a unit, and half of its last digit."""
    number, _, unit = text.replace(",", "").partition(" ")
    scale = {"": 1.0, "s": 1.0, "ms": 1e-3, "ns": 1.0}[unit]
    digits = len(number.partition(".")[2])
    return float(number) * scale, 0.501 * scale / 10**digits


def is_shown(value: float, text: str) -> bool:
    """Whether a text is this value, as rounded there."""
    shown, half = figure_of(text)
    return abs(value - shown) <= half


def rows_of(text: str, columns: int) -> list[list[str]]:
    """The cells of the tables of a text that have so many columns, without their heads."""
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\|.*\|$", text, re.M)]
    return [row for row in rows if len(row) == columns and not row[0].startswith("---")]


@pytest.mark.slow
def test_times(coldfleet: Callable[..., Said]) -> None:
    page = (ROOT / "docs/time.md").read_text()
    lines = json.loads(coldfleet("validate", "--json").out)
    benchmark = [line for line in lines if line["basis"] != "engine"]
    shown = []  # what the page says of each line: published, simulated with the error, basis
    for what, wall, wall_simulated, a_pass, pass_simulated, basis in rows_of(page, 6)[1:]:
        name = what.replace("vCPU,", "vCPUs,").replace("no aging", "no-aging")
        shown.append((f"{name}: vCPU wall", wall, wall_simulated, basis))
        shown += [(f"{name}: aging pass", a_pass, pass_simulated, basis)] if a_pass else []
    assert len(shown) == len(benchmark)
    for line, (what, published, simulated, basis) in zip(benchmark, shown, strict=True):
        value, _, error = simulated.partition(" (")
        assert (line["what"].strip(), line["basis"]) == (what, basis)
        assert is_shown(line["published"], published), what
        assert is_shown(line["simulated"], value), what
        assert round(100 * line["error"]) == int(error.rstrip(" %)")), what
    engine = [line for line in lines if line["basis"] == "engine"]
    for line, (what, published, simulated) in zip(
        engine, rows_of(page.partition("## Two tables")[2], 3)[1:], strict=True
    ):
        assert is_shown(line["published"], published), what
        assert is_shown(line["simulated"], simulated), what


def test_the_readme_names_what_is_not_within_15_percent() -> None:
    rows = rows_of((ROOT / "docs/time.md").read_text().partition("## Two tables")[2], 3)[1:]
    far = [each for _, *each in rows if not 0.85 <= float(each[1]) / float(each[0]) <= 1.15]
    published, simulated = (" and ".join(each) for each in zip(*far, strict=True))
    assert f"{simulated} where {published}" in " ".join((ROOT / "README.md").read_text().split())


def test_figures_of_the_calibration() -> None:
    text = (ROOT / "docs/time.md").read_text()
    rows = {name.strip("`"): (value, source) for name, value, source in rows_of(text, 3) if name.startswith("`")}
    assert set(rows) == {each.name for each in fields(Calibration)}
    for each in fields(Calibration):
        value, source = rows[each.name]
        assert (source.split("; ")[0] == "fit") == each.metadata["fitted"], each.name
        if each.metadata["unit"] == "ns":
            assert is_shown(getattr(DEFAULT, each.name), " ".join(value.split()[:2])), each.name


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "shown"), [("locked-6.12", "26 s"), ("lockless-6.15", "0.31 s")])
def test_times_without_the_tdp_mmu(policy: str, shown: str, coldfleet: Callable[..., Said]) -> None:
    said = coldfleet("validate", "--vcpus", 64, "--policy", policy, "--tdp", "off", "--json")
    assert is_shown(json.loads(said.out)["aging_pass_s"], shown)
    text = " ".join((ROOT / "docs/time.md").read_text().split())
    assert "With 64 vCPUs a pass under the lock then takes 26 s, and 0.31 s without it" in text


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
