"""The public Python API: what is promised is there, light to import, typed, documented, and as the commands."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import coldfleet
from coldfleet.cluster.commands.cli import run_command
from coldfleet.cluster.results.run_status import RunStatus
from coldfleet.hostsim.spec.host_spec import HostSpec as Spec
from tests import notebook
from tests.cluster.conftest import Said, fake_engine

ROOT = Path(__file__).parents[1]
NAMES = [name for name in coldfleet.__all__ if name != "__version__"]
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(coldfleet, name))]
ANSWERS = ("coldfleet.cluster.answers", "coldfleet.cluster.validation")
RECORDING = ROOT / "tests" / "recordings" / "k6.12_classichost_zipf_reclaim_r2.jsonl.gz"
STUDY: dict[str, Any] = {
    "title": "small",
    "ticks": 4,
    "replicates": 3,
    "overcommit": 1.5,
    "fleet": {"hosts": 1, "guests_per_host": 2},
    "guest": {"memory": "2 MiB", "accesses_per_tick": 512},
    "grid": {"policy": ["evict-only", "lockless-6.15"], "nested_ratio": [0, 1]},
}
TEXT = """\
title = "small"
ticks = 4
replicates = 3
overcommit = 1.5
fleet = { hosts = 1, guests_per_host = 2 }
guest = { memory = "2 MiB", accesses_per_tick = 512 }
[grid]
policy = ["evict-only", "lockless-6.15"]
nested_ratio = [0, 1]
"""

__all__ = ["fake_engine"]  # a fixture


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def call(*arguments: object) -> Said:
        capsys.readouterr()
        return Said(run_command([str(argument) for argument in arguments]), *capsys.readouterr())

    return call


def test_the_lists_of_public_names_agree() -> None:
    homes = {name: home for home, names in coldfleet._HOMES.items() for name in names.split()}
    tree = ast.parse(Path(str(coldfleet.__file__)).read_text())
    typed = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("coldfleet")
        for alias in node.names
    }
    assert homes == typed
    assert sorted(homes) == sorted(NAMES)
    assert set(coldfleet.__all__) <= set(dir(coldfleet))
    with pytest.raises(AttributeError, match="has no attribute 'sweeep'"):
        coldfleet.sweeep  # type: ignore[attr-defined]  # noqa: B018


def test_import_is_light() -> None:
    code = "import sys; before = set(sys.modules); import coldfleet; print(*set(sys.modules) - before)"
    ran = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) <= {"coldfleet", "__future__"}
    microseconds = re.search(r"\| +(\d+) \| coldfleet$", ran.stderr, re.M)
    assert microseconds is not None
    assert int(microseconds[1]) < 50_000


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_documented(name: str) -> None:
    value = getattr(coldfleet, name)
    assert f"`{name}" in (ROOT / "docs" / "api.md").read_text()
    if name == "StudySource":
        return  # a type's alias
    assert inspect.getdoc(value)
    if name in FUNCTIONS:
        text = inspect.getdoc(value) or ""
        assert "Raises" in text or name == "summary", "errors"
        assert f"coldfleet.{name}(" in text or name == "get_policy", "an example"
        parameters = inspect.signature(value).parameters
        assert name == "get_policy" or all(f"``{parameter}``" in text for parameter in parameters)
    elif dataclasses.is_dataclass(value) and value.__module__.startswith(ANSWERS):
        fields = [field.name for field in dataclasses.fields(value)]
        assert all(f"``{field}``" in str(value.__doc__) for field in fields)


def test_the_signatures_in_the_docs_are_current() -> None:
    text = " ".join((ROOT / "docs/api.md").read_text().split())
    studies = (coldfleet.read_study, coldfleet.sweep, coldfleet.compare, coldfleet.capacity, coldfleet.policy_map)
    traces = (coldfleet.import_trace, coldfleet.record_trace, coldfleet.summarize_trace)
    for function in (*studies, coldfleet.simulate_host, coldfleet.replay, *traces):
        signature = inspect.signature(function)
        bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
        told = signature.replace(parameters=bare, return_annotation=signature.empty)
        assert f"{function.__name__}{told}" in text


def test_mypy_sees_the_types_of_a_client(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "client.py").write_text(
        "import coldfleet\n"
        'results = coldfleet.sweep({"ticks": 3}, "out", executor="serial")\n'
        "reveal_type(results)\n"
        'reveal_type(coldfleet.compare("study.toml", "a", "b").comparisons[0].interval)\n'
        'reveal_type(coldfleet.HostSpec("6.12", (), 3).ticks)\n'
        'reveal_type(coldfleet.get_policy("six-steps").name)\n'
        'coldfleet.sweep("study.toml", wrokers=3)\n'
        "coldfleet.sweeep\n"
    )
    where = Path(str(coldfleet.__file__)).parents[1]
    found = {} if where.name == "site-packages" else {"MYPYPATH": str(where)}
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "client.py"]
    ran = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **found}, capture_output=True, text=True, check=False
    )
    lines = [line.partition(": ")[2] for line in ran.stdout.splitlines() if "defined in" not in line]
    assert lines[:-1] == [
        'note: Revealed type is "coldfleet.cluster.results.results.Results"',
        'note: Revealed type is "tuple[float, float]"',
        'note: Revealed type is "int"',
        'note: Revealed type is "str"',
        'error: Unexpected keyword argument "wrokers" for "sweep"; did you mean "workers"?  [call-arg]',
        'error: Module has no attribute "sweeep"; maybe "sweep"?  [attr-defined]',
    ], ran.stdout + ran.stderr


def test_a_dict_is_the_same_study_as_a_file(study_file: Path) -> None:
    before = json.dumps(STUDY)
    assert coldfleet.read_study(STUDY) == coldfleet.read_study(study_file)
    assert json.dumps(STUDY) == before, "it is only read"
    arrays = {**STUDY, "grid": {"policy": ("evict-only", "lockless-6.15"), "nested_ratio": np.linspace(0, 1, 2)}}
    plan = coldfleet.read_study(arrays, name="mine")
    assert plan == coldfleet.read_study(STUDY)
    assert (plan.name, plan.cell_count, len(plan)) == ("mine", 4, 12)
    assert coldfleet.read_study(plan) is plan


def test_calibrations_of_a_dict_are_found_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "slow.toml").write_text("[calibration]\nfault_ns = 3500.0\n")
    with pytest.raises(coldfleet.UserError, match=r"study: calibration: slow.toml: no such file"):
        coldfleet.read_study({**STUDY, "calibration": "slow.toml"})
    plan = coldfleet.read_study({**STUDY, "calibration": "slow.toml"}, base=tmp_path)
    assert plan.values("calibration") == ("fault_ns=3500.0",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tics": 4}, 'study:tics: unknown key "tics": did you mean "ticks"?'),
        ({"fleet": {"hots": 1}}, 'study:fleet.hots: unknown key "hots" in [fleet]: did you mean "hosts"?'),
        ({"ticks": "4"}, "study: ticks = '4' is not a whole number"),
        ({"guest": {"memory": 4}}, 'study: guest.memory: 4 has no unit: write "4 MiB" or "4 pages"'),
        ({"guest": {"memory": "2 MiB", "workload": {"skw": 1}}}, 'study:guest.workload.skw: unknown key "skw" in'),
        ({"grid": {}}, "study:grid: [grid] is empty"),
        ({"grid": {"policy": ["six-step"]}}, "study: grid.policy: unknown policy 'six-step' (`coldfleet policies`"),
        ({"grid": {"guest.memry": ["2 MiB"]}}, 'study:grid.guest.memry: unknown key "guest.memry" in [grid]'),
        ({3: 4}, "study: the key 3 is not a text"),
    ],
)
def test_a_mistake_in_a_dict_is_one_line_with_the_key(change: dict[Any, Any], message: str) -> None:
    with pytest.raises(coldfleet.UserError) as error:
        coldfleet.read_study({**STUDY, **change})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_sweep_is_that_of_the_command(
    study_file: Path, tmp_path: Path, said: Callable[..., Said], fake_engine: list[Spec]
) -> None:
    told: list[float] = []

    class Teller:
        def say(self, text: str) -> None: ...

        def begin(self, done: int, total: int) -> None: ...

        def advance(self, runs: float, failed: int) -> None:
            told.append(runs)

        def end(self) -> None: ...

    results = coldfleet.sweep(STUDY, tmp_path / "mine", executor="serial", progress=Teller())
    assert sum(told) == 12
    said("sweep", study_file, "--out", tmp_path / "theirs", "--executor", "serial")
    theirs = coldfleet.Results.open(tmp_path / "theirs")
    for table in ("cells", "hosts", "guests"):
        assert results.table(table) == theirs.table(table)
    with pytest.raises(coldfleet.UserError, match="unknown executor 'threads': it should be 'auto', 'ray' or 'serial'"):
        coldfleet.sweep(STUDY, tmp_path / "other", executor="threads")
    with pytest.raises(coldfleet.UserError, match="workers and address are for ray"):
        coldfleet.sweep(STUDY, tmp_path / "other", executor="serial", workers=2)
    assert not (tmp_path / "other").exists()


def test_results_go_where_the_name_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_engine: list[Spec]
) -> None:
    monkeypatch.chdir(tmp_path)
    coldfleet.sweep(coldfleet.read_study(STUDY, name="mine"), executor="serial")
    assert len(coldfleet.Results.open("results/mine").table("cells")) == 12


def test_tables_become_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_engine: list[Spec]) -> None:
    results = coldfleet.sweep(STUDY, tmp_path / "out", executor="serial")
    columns = ["policy", "replicate", "pgmajfault"]
    rows = results.table("cells", columns).to_pylist()
    pytest.importorskip("polars")
    pytest.importorskip("pandas")
    assert results.to_polars("cells", columns).to_dicts() == rows
    assert results.to_pandas("cells", columns).to_dict("records") == rows
    for package, call in (("polars", results.to_polars), ("pandas", results.to_pandas)):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(coldfleet.UserError, match=r"pip install 'coldfleet\[frames\]'"):
            call("cells")
    with pytest.raises(coldfleet.UserError, match="unknown table 'cell': did you mean 'cells'"):
        results.table("cell")
    with pytest.raises(coldfleet.UserError, match="no column 'pgmajfalt' in cells: did you mean 'pgmajfault'"):
        results.table("cells", ["pgmajfalt"])


def test_the_summary_has_the_figures_of_the_command(
    study_file: Path, tmp_path: Path, said: Callable[..., Said], fake_engine: list[Spec]
) -> None:
    shown = json.loads(said("sweep", study_file, "--out", tmp_path / "out", "--executor", "serial", "--json").out)
    table = coldfleet.summary(coldfleet.Results.open(tmp_path / "out"))
    assert table.num_rows == 4
    for mine, theirs in zip(table.to_pylist(), shown["summary"], strict=True):
        assert (mine["policy"], mine["nested_ratio"], mine["replicates"]) == (
            theirs["policy"],
            theirs["nested_ratio"],
            theirs["replicates"],
        )
        for figure in ("refaults", "missed_young", "reclaim_cpu_s"):
            assert (mine[figure], mine[f"{figure}_ci95"]) == (theirs[figure]["mean"], theirs[figure]["ci95"])
    assert table.schema.field("refaults").metadata[b"unit"] == b"pages"
    nothing = coldfleet.sweep(STUDY, tmp_path / "out", executor="serial")
    nothing = dataclasses.replace(nothing, parts=(), status=RunStatus(nothing.plan))
    assert coldfleet.summary(nothing).num_rows == 0


QUESTIONS: dict[str, tuple[Callable[[Path], object], tuple[object, ...]]] = {
    "compare": (
        lambda study: coldfleet.compare(
            study, "evict-only", "lockless-6.15", at={"nested_ratio": 1}, budget=40, executor="serial"
        ),
        ("evict-only", "lockless-6.15", "--at", "nested_ratio=1", "--budget", 40),
    ),
    "capacity": (
        lambda study: coldfleet.capacity(
            study, "fault_rate<10%", at={"nested_ratio": 0}, high=2, step=0.5, budget=200, executor="serial"
        ),
        ("--slo", "fault_rate<10%", "--at", "nested_ratio=0", "--to", 2, "--step", 0.5, "--budget", 200),
    ),
    "map": (
        lambda study: coldfleet.policy_map(
            study, "nested_ratio", "overcommit", y_range=(1.5, 2), depth=0, budget=200, executor="serial"
        ),
        ("--x", "nested_ratio", "--y", "overcommit", "--y-range", "1.5:2", "--depth", 0, "--budget", 200),
    ),
}


@pytest.mark.parametrize("command", QUESTIONS)
def test_an_answer_is_that_of_the_command(
    command: str, study_file: Path, said: Callable[..., Said], fake_engine: list[Spec]
) -> None:
    ask, options = QUESTIONS[command]
    answer = json.loads(json.dumps(dataclasses.asdict(ask(study_file))))  # type: ignore[call-overload]
    told = said(command, *options, study_file, "--executor", "serial", "--json")
    assert told.code == 0, told.err
    shown = json.loads(told.out)
    for each in shown.get("comparisons", ()):
        each["setting"] = {}  # its keys are columns there
    assert shown == answer


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: coldfleet.compare(STUDY, "a", "a"), "a a: the same policy twice"),
        (lambda: coldfleet.compare(STUDY, "evict-only", "six-steps", confidence=100), "confidence 100: it should be"),
        (lambda: coldfleet.compare(STUDY, "evict-only", "six-steps", budget="5x"), "budget 5x: write a time"),
        (lambda: coldfleet.compare(STUDY, "evict-only", "six-steps", precision=0), "precision 0: write a share"),
        (lambda: coldfleet.capacity(STUDY, []), "slo: give at least one"),
        (lambda: coldfleet.capacity(STUDY, "fault_rate<1%"), "the study varies nested_ratio (0, 1): choose one value"),
        (lambda: coldfleet.policy_map(STUDY, "nested_ratio", "skew", depth=4), "depth 4: it should be 0 to 3"),
        (lambda: coldfleet.policy_map(STUDY, "nested_ratio", "rato"), "unknown key 'rato'"),
        (lambda: coldfleet.replay("nowhere.jsonl.gz"), "nowhere.jsonl.gz"),
    ],
)
def test_a_question_that_can_t_be_asked_is_one_line(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(coldfleet.UserError) as error:
        ask()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"study": 5}, "5 is not a study"),
        ({"out": ""}, "'' is not the name of a directory for results"),
        ({"out": 5}, "5 is not the name of a directory for results"),
        ({"out": "a\0b"}, "is not the name of a directory for results"),
        ({"out": "/dev/null"}, "/dev/null can't be a directory for results: Not a directory"),
        ({"out": "/dev/null/x"}, "/dev/null/x can't be a directory for results: Not a directory"),
        ({"out": "x" * 300}, "File name too long"),
        ({"executor": 5}, "unknown executor 5: it should be 'auto', 'ray' or 'serial'"),
        ({"workers": 0}, "workers = 0: it should be a whole number from 1, or None"),
        ({"progress": 5}, "progress = 5: it should be True, False, or have the methods of Reporter"),
    ],
)
def test_a_sweep_that_can_t_be_is_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(coldfleet.UserError) as error:
        coldfleet.sweep(**{"study": STUDY, "executor": "serial", **settings})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spec": 5}, "5 is not a HostSpec"),
        ({"seed": -1}, "seed = -1: it should be a whole number from 0"),
        ({"replicate": 2**31}, "replicate = 2147483648"),
        ({"host": "a"}, "host = 'a'"),
    ],
)
def test_a_host_that_can_t_be_is_one_line(settings: dict[str, Any], message: str) -> None:
    spec = coldfleet.HostSpec("6.12", (coldfleet.GuestSpec("web", 2048),), 4)
    with pytest.raises(coldfleet.UserError) as error:
        coldfleet.simulate_host(**{"spec": spec, "policy": "six-steps", **settings})
    assert str(error.value).startswith(message)
    with pytest.raises(coldfleet.PolicyError, match="5 is not the name of a policy"):
        coldfleet.simulate_host(spec, 5)  # type: ignore[arg-type]


def test_one_host_runs_under_a_policy_by_name_or_itself() -> None:
    guest = coldfleet.GuestSpec("web", memory_pages=512, limit_pages=256, accesses_per_tick=512)
    spec = coldfleet.HostSpec(kernel="6.12", guests=(guest,), ticks=2)
    host = coldfleet.simulate_host(spec, "lockless-6.15", seed=3)
    assert host == coldfleet.simulate_host(spec, coldfleet.get_policy("lockless-6.15"), seed=3)
    other = coldfleet.simulate_host(spec, "evict-only", seed=3)
    assert host.guests[0].access_hash == other.guests[0].access_hash
    assert host.totals()["pgmajfault"] > 0
    with pytest.raises(coldfleet.PolicyError, match="unknown policy 'lockles'"):
        coldfleet.simulate_host(spec, "lockles")


def test_policies_are_listed_by_their_names() -> None:
    listed = coldfleet.list_policies()
    assert {"evict-only", "lockless-6.15"} <= {policy.name for policy in listed}
    assert all(coldfleet.get_policy(policy.name) == policy for policy in listed)


def test_a_replay_is_that_of_the_command(said: Callable[..., Said]) -> None:
    answer = coldfleet.replay(RECORDING)
    (shown,) = json.loads(said("replay", RECORDING, "--json").out)["recordings"]
    assert {**json.loads(json.dumps(dataclasses.asdict(answer))), "figures": None} == {**shown, "figures": None}
    assert answer.steps > 10
    table = answer.table()
    assert table.num_rows == answer.steps * len(answer.figures)
    rows = [row for row in table.to_pylist() if row["figure"] == "res"]
    assert [(row["kernel"], row["ours"]) for row in rows] == list(answer.figures["res"])
    if answer.exact_steps == answer.steps:
        assert all(row["kernel"] == row["ours"] for row in rows)


def test_the_notebook_prints_what_it_shows() -> None:
    for package in ("altair", "vl_convert", "pandas"):
        pytest.importorskip(package)
    path = ROOT / "docs" / "notebook.ipynb"
    shown, ran = json.loads(path.read_text()), notebook.run(path)
    assert _printed(ran) == _printed(shown), "run: python -m tests.notebook docs/notebook.ipynb"
    pictures = [each for each in _outputs(ran) if "image/svg+xml" in each.get("data", {})]
    assert len(pictures) == 2


def _outputs(executed: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for cell in executed["cells"] for output in cell.get("outputs", ())]


def _printed(executed: dict[str, Any]) -> list[str]:
    return ["".join(output["text"]) for output in _outputs(executed) if output["output_type"] == "stream"]


def test_sub_packages_keep_their_names() -> None:
    assert isinstance(coldfleet.policies, ModuleType)
    assert not {"cluster", "configs", "hostsim", "policies"} & set(NAMES)
