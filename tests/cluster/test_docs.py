"""The documentation says what the code does, and its examples run."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from coldfleet.cluster.commands.cli import COMMANDS
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.reference import pages
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.engine.hybrids import get_kernel
from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster.commands.test_examples import RUN_HERE
from tests.cluster.conftest import STUDY, Said

ROOT = Path(__file__).parents[2]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """Every code block in that language, with a name."""
    found = []
    for path in TEXTS:
        for number, code in enumerate(re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.M | re.S)):
            found.append((f"{path.stem}-{number}", code))
    return found


PYTHON = blocks("python")


@pytest.mark.parametrize("name", pages())
def test_reference_page_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == pages()[name], (
        "run: python -m coldfleet.cluster.results.reference docs"
    )


@pytest.mark.parametrize("code", [code for _, code in PYTHON], ids=[name for name, _ in PYTHON])
def test_python_example_runs(
    code: str, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_engine: list[HostSpec]
) -> None:
    for package in ("duckdb", "polars"):
        if f"import {package}" in code:
            pytest.importorskip(package)
    sweep(plan, tmp_path / "results" / "quickstart", SerialExecutor())
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {})


def test_example_studies_are_good(tmp_path: Path) -> None:
    for _, text in blocks("csv"):
        (tmp_path / "guests.csv").write_text(text)
    for _, text in blocks("toml"):
        tomllib.loads(text)
        path = tmp_path / "example.toml"
        path.write_text(text)
        assert read_study(path).cell_count > 1


def anchors(text: str) -> set[str]:
    """The anchors of a text's headings, as repositories' own views name them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    for path in [*TEXTS, *(ROOT / f"{name}.md" for name in ("ARCHITECTURE", "CHANGELOG", "CONTRIBUTING"))]:
        for target, anchor in re.findall(r"\]\((?![a-z]+:)([^)#]*)#?([^)]*)\)", path.read_text()):
            file = path.parent / target if target else path
            assert file.exists(), f"{path.name}: {target}"
            assert not anchor or anchor in anchors(file.read_text()), f"{path.name}: {target}#{anchor}"


def test_kernels_in_the_texts_are_those_there_are() -> None:
    lists = {
        "studies.md": r"`kernel` is one of (.+?), or a hybrid",
        "truth.md": r"Debian builds of Linux (.+?), with a process",
    }
    for name, pattern in lists.items():
        found = re.search(pattern, (ROOT / "docs" / name).read_text(), re.S)
        assert found is not None
        assert re.findall(r"(?<![\d.])\d\.\d+(?![\d.])", found[1]) == list(KERNELS), name


def test_kernels_that_are_advised_can_be_taken_and_ask_as_said() -> None:
    text = (ROOT / "docs" / "studies.md").read_text()
    rows = re.findall(r"^\| ([\d., ]+) \| `\"(.+?)\"`", text.partition("### Which kernel")[2], re.M)
    advised = {release: kernel for releases, kernel in rows for release in releases.split(", ")}
    assert {"5.14", "5.15", "6.6", "6.8", *KERNELS} <= advised.keys()
    for release, kernel in advised.items():
        policy = get_kernel(kernel).policy
        minor = tuple(map(int, release.split(".")))
        asks = "evict-only" if minor < (6, 12) else "locked-6.12" if minor < (6, 15) else "lockless-6.15"
        assert policy == asks, release
    assert all(get_kernel(advised[name]) == kernel for name, kernel in KERNELS.items())


def test_every_study_is_in_the_gallery() -> None:
    text = (ROOT / "docs" / "gallery.md").read_text()
    for path in sorted((ROOT / "configs").rglob("*.toml")):
        shown = path.relative_to(ROOT)
        assert f"](../{shown})" in text or shown.parent.name == "arguments", shown
    assert all(text.rfind("\n    coldfleet ", 0, at.start()) > text.rfind("\n## ", 0, at.start())
               for at in re.finditer(r"^!\[", text, re.M)), "a picture without the command that makes it"  # fmt: skip


def test_commands_in_the_texts_exist() -> None:
    names = {command.__name__ for command in COMMANDS}
    for path in TEXTS:
        for name in re.findall(r"(?:^    |`|&& )coldfleet ([a-z]+)", path.read_text(), re.M):
            assert name in names, f"{path.name}: coldfleet {name}"


ANSWERS = re.findall(r"^ {4}coldfleet (\w+ .+)$", (ROOT / "docs" / "answers.md").read_text(), re.M)


@pytest.mark.parametrize("command", [command for command in ANSWERS if f"coldfleet {command}" not in RUN_HERE])
def test_command_for_an_answer_runs(
    command: str,
    coldfleet: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_engine: list[HostSpec],
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    said = coldfleet(*shlex.split(command), "--executor", "serial", "--budget", "2000")
    assert said.code == 0, said.err


ANSWERED = ("columns", "diff", "explain", "query", "report")  # from results, as the texts show


def commands_in_the_texts() -> list[str]:
    lines = [line for path in TEXTS for line in re.findall(r"^    (coldfleet .*[^\\\n])$", path.read_text(), re.M)]
    return list(dict.fromkeys(line.partition("  #")[0].rstrip() for line in lines if line.split()[1] in ANSWERED))


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the results of small studies that are called as those of the texts."""
    folder = tmp_path_factory.mktemp("docs")
    policies = STUDY.replace('["evict-only", "six-steps"]', '["fast-only-v5", "lockless-6.15"]')
    for name, overcommit in (("quickstart", 1.5), ("before", 1.5), ("after", 2.0)):
        (folder / "small.toml").write_text(policies.replace("overcommit = 1.5", f"overcommit = {overcommit}"))
        sweep(read_study(folder / "small.toml"), folder / "results" / name, SerialExecutor())
    return folder


def as_run_here(line: str) -> str:
    """Whatever the study, here it is the small one, which varies the share of nested VMs; many lines are one then."""
    line = re.sub(r"results/[\w-]+", "results/quickstart", line)
    line = re.sub(r"(curves|by)-[\w-]+", "curves-nested_ratio", line)
    return re.sub(r"docs/pictures/[\w-]+", "pictures", line)


@pytest.mark.parametrize(
    "line", dict.fromkeys(as_run_here(line) for line in commands_in_the_texts() if line not in RUN_HERE)
)
def test_command_that_answers_runs(
    line: str, quickstart: Path, coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("duckdb", "altair", "vl_convert"):
        pytest.importorskip(package)
    monkeypatch.chdir(quickstart)
    cell = Plan.thaw(json.loads((quickstart / "results/quickstart/study.json").read_text())["study"]).cell_ids[2]
    words = [cell if re.fullmatch(r"CELL|[0-9a-f]{6}", word) else word for word in shlex.split(line)[1:]]
    said = coldfleet(*[word if word != "0x4d2" else "0xd2" for word in words])  # its guests are smaller
    assert said.code == 0, said.err
    assert said.out


def test_cell_in_the_readme_exists() -> None:
    study, cell = re.search(r"coldfleet run (\S+) --cell (\w+)", TEXTS[0].read_text()).groups()  # type: ignore[union-attr]
    assert any(cell_id.startswith(cell) for cell_id in read_study(ROOT / study).cell_ids)


def test_policy_in_the_docs_is_as_printed(coldfleet: Callable[..., Said]) -> None:
    shown = [line.strip() for line in coldfleet("policies", "was-fast").out.splitlines()]
    text = (ROOT / "docs" / "policies.md").read_text()
    assert all(line in text for line in shown)
