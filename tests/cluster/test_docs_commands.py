"""Commands of the texts that test_docs.py doesn't run, each as it is written; what takes minutes is slow.

Where a text means a large study, its first cell is run once; where it means a cluster, a fake one is asked.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.host_spec import HostSpec
from tests.cluster import test_docs
from tests.cluster.commands.test_examples import examples
from tests.cluster.conftest import STUDY, Said
from tests.cluster.execution.test_submit import FakeDashboard
from tests.hostsim.trace.files import damon, oracle_general, packed

ROOT = Path(__file__).parents[2]
TEXTS = [*test_docs.TEXTS, ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md"]
DIRECTORY = ("status", "resume", "retry", "verify", "compact")  # commands on a directory of results
QUICK = ("new", "policies", "replay", "validate")
FAKE = ("sweep", "plan", "run", "compare", "capacity", "map", "search")  # the engine answers at once
CLUSTER = ("submit", "job")
TRACES = ("trace",)
MINUTES = ("ablate", "argue", "calibrate")  # of calibrate and validate CI runs one, in validation/test_published.py
HELPED = ("fleet",)  # as in its help
USAGE = re.compile(r"COMMAND|\[--|\bSTUDY\b")  # says how a command is written


def shown() -> list[str]:
    """All commands that stand on lines of their own, without comments; those that are cut in lines are joined."""
    found = []
    for path in TEXTS:
        text = re.sub(r"\\\n +", "", path.read_text())
        found += re.findall(r"^ {4}(?:pip install [^&\n]+&& )?coldfleet (\w.*?)(?: +#.*)?$", text, re.M)
    return [line for line in dict.fromkeys(found) if not USAGE.search(line)]


def of(*commands: str) -> list[str]:
    return [line for line in SHOWN if line.split()[0] in commands and line not in test_docs.ANSWERS]


SHOWN = shown()


def test_every_command_has_a_test() -> None:
    kinds = (*test_docs.ANSWERED, *DIRECTORY, *QUICK, *FAKE, *CLUSTER, *MINUTES, *TRACES, *HELPED)
    assert {line.split()[0] for line in SHOWN} <= set(kinds)
    assert len(SHOWN) > 50
    assert {f"coldfleet {line}" for line in of(*HELPED)} <= set(examples()), (
        "tests/cluster/commands/test_examples.py runs those of the help"
    )
    answered = {line.removeprefix("coldfleet ") for line in test_docs.commands_in_the_texts()}
    cut = [line for line in of(*test_docs.ANSWERED) if line not in answered]
    assert all(line.startswith("query results/answer") for line in cut), "tests/cluster/test_answer_page.py runs that"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory like the checkout's, to write into."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    shutil.copy(ROOT / "hostsim" / "published" / "v4_access_tracking.csv", tmp_path / "mine.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cut(study: Path) -> None:
    """Leaves one replicate of one cell: of each list of the grid its first value."""
    head, grid, lists = study.read_text().partition("[grid]")
    head = re.sub(r"^replicates = .*$", "replicates = 1", head, flags=re.M)
    study.write_text(head + grid + re.sub(r"^(\S+ = \[[^\],]+)[^\]]*\]", r"\1]", lists, flags=re.M))


@pytest.mark.parametrize("line", [line for line in of(*QUICK) if line != "validate"])
def test_quick_command_runs(line: str, folder: Path, coldfleet: Callable[..., Said]) -> None:
    said = coldfleet(*shlex.split(line))
    assert said.code == 0, said.err
    assert said.out


@pytest.mark.parametrize("line", of(*DIRECTORY))
def test_command_on_results_runs(line: str, folder: Path, coldfleet: Callable[..., Said]) -> None:
    (folder / "small.toml").write_text(STUDY.replace("replicates = 3", "replicates = 1"))
    sweep(read_study(folder / "small.toml"), folder / "results" / "quickstart", SerialExecutor())
    said = coldfleet(*shlex.split(line))
    assert said.code == 0, said.err
    assert said.out


@pytest.mark.parametrize("line", of(*FAKE))
def test_command_on_a_study_runs(
    line: str, folder: Path, coldfleet: Callable[..., Said], fake_engine: list[HostSpec]
) -> None:
    words = shlex.split(re.sub(r"s3://[^'\" ]+", "bucket", line))
    if words[0] == "sweep":
        if "/arguments/" in words[1]:
            pytest.skip("a claim's checks need all of its cells: the tests of claims run it")
        cut(folder / words[1])
    limits = ["--budget", "200"] if words[0] in ("compare", "capacity", "map", "search") else []
    serial = [] if words[0] in ("run", "plan") else ["--executor", "serial"]
    said = coldfleet(*words, *serial, *limits)
    assert said.code == 0, said.err
    assert said.out
    assert fake_engine


def test_commands_on_traces_run_one_after_the_other(folder: Path, coldfleet: Callable[..., Said]) -> None:
    (folder / "web.oracleGeneral.bin.zst").write_bytes(packed(oracle_general())["zstd"])
    (folder / "damon.data").write_bytes(damon())
    for line in of(*TRACES):
        said = coldfleet(*shlex.split(line))
        assert said.code == 0, said.err
        assert said.out


class FakeCluster(FakeDashboard):
    """A cluster that is done with every job at once."""

    def submit_job(self, *, submission_id: str, **job: Any) -> None:
        self.jobs[submission_id] = "SUCCEEDED"

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        yield self.get_job_logs(job_id)


@pytest.mark.parametrize("line", of(*CLUSTER))
def test_command_for_a_cluster_runs(
    line: str, folder: Path, coldfleet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = FakeCluster()
    cluster.jobs = {word: "SUCCEEDED" for word in line.split() if re.fullmatch(r"coldfleet-\w+-\w+-\d", word)}
    cluster.jobs |= {"another": "RUNNING"}
    module = SimpleNamespace(JobSubmissionClient=cluster)
    monkeypatch.setattr("coldfleet.cluster.execution.ray_jobs.importlib.import_module", lambda name: module)
    said = coldfleet(*shlex.split(line))
    assert said.code == 0, said.err
    assert said.out


@pytest.mark.slow
@pytest.mark.parametrize("line", ["validate", *of(*MINUTES)])
def test_command_that_takes_minutes_runs(line: str, folder: Path, coldfleet: Callable[..., Said]) -> None:
    said = coldfleet(*shlex.split(line))
    assert said.code == 0, said.err
    assert said.out
