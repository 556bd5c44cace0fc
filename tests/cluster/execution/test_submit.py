"""Jobs: what is checked before one is sent, the manifests, and the whole way against a real Ray head."""

from __future__ import annotations

import secrets
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from coldfleet.cluster.execution import ray_jobs
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.study.plan import Plan
from tests.cluster.conftest import Said
from tests.cluster.ray_node import ROOT, Node, environment, free_port, wait_for
from tests.hostsim.workload.traces import write_trace

Command = Callable[..., Said]


class FakeDashboard:
    """As much of Ray's job client as is used."""

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        self.sent: list[dict[str, Any]] = []

    def __call__(self, address: str) -> FakeDashboard:
        if "nowhere" in address:
            raise ConnectionError(f"Failed to connect to Ray at address: {address}.\nMore lines.")
        if "locked" in address:
            raise RuntimeError("Request failed with status code 401: Unauthorized")
        return self

    def submit_job(self, *, entrypoint: str, submission_id: str, runtime_env: dict[str, Any]) -> None:
        files = {path.name for path in Path(runtime_env["working_dir"]).iterdir()}
        self.sent.append({"entrypoint": entrypoint, "files": files, **runtime_env})
        self.jobs[submission_id] = "PENDING"

    def list_jobs(self) -> list[Any]:
        return [
            SimpleNamespace(submission_id=name, status=SimpleNamespace(value=state))
            for name, state in self.jobs.items()
        ]

    def stop_job(self, job_id: str) -> bool:
        self.jobs[job_id] = "STOPPED"
        return True

    def get_job_logs(self, job_id: str) -> str:
        return "six-steps\n"


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> FakeDashboard:
    fake = FakeDashboard()
    module = SimpleNamespace(JobSubmissionClient=fake)
    monkeypatch.setattr("coldfleet.cluster.execution.ray_jobs.importlib.import_module", lambda name: module)
    return fake


def test_study_alone_is_sent(dashboard: FakeDashboard, study_file: Path, coldfleet: Command) -> None:
    said = coldfleet("submit", study_file, "--out", "s3://b/my results", "--workers", 3)
    assert said.code == 0
    (sent,) = dashboard.sent
    assert sent["files"] == {"small.toml"}
    words = shlex.split(sent["entrypoint"])
    assert words[:5] == ["python", "-m", "coldfleet", "sweep", "small.toml"]
    assert words[5:] == ["--out", "s3://b/my results", "--address", "auto", "--workers", "3"]


def test_a_question_is_sent_as_it_is_asked(dashboard: FakeDashboard, study_file: Path, coldfleet: Command) -> None:
    ask = "capacity --slo 'fault_rate<15%' --at nested_ratio=0"
    for asked in (ask, "compare evict-only six-steps"):
        assert coldfleet("submit", study_file, "--out", "/shared/x", "--ask", asked, "--workers", 3).code == 0
    first, second = (shlex.split(sent["entrypoint"])[3:] for sent in dashboard.sent)  # other questions, other jobs
    rest = ["small.toml", "--out", "/shared/x", "--address", "auto", "--workers", "3"]
    assert first == ["capacity", "--slo", "fault_rate<15%", "--at", "nested_ratio=0", *rest]
    assert second == ["compare", "evict-only", "six-steps", *rest]
    script = coldfleet("submit", study_file, "--out", "/shared/x", "--ask", ask, "--print", "slurm").out
    assert "-m coldfleet capacity --slo 'fault_rate<15%'" in script


@pytest.mark.parametrize(
    ("ask", "why"),
    [("compar a b", "did you mean 'compare'"), ("", "a job can be sweep"), ("compare one", "Missing argument"),
     ("capacity --slo 'x", "No closing quotation"), ("capacity", "Missing option '--slo'"),
     ("verify", "a job can be sweep, compare, capacity"), ("map --x a --y b --z c", "No such option")],
)  # fmt: skip
def test_a_question_that_can_t_be_read_is_not_sent(
    ask: str, why: str, dashboard: FakeDashboard, study_file: Path, coldfleet: Command
) -> None:
    said = coldfleet("submit", study_file, "--out", "/shared/x", "--ask", ask)
    assert (said.code, said.out, said.err.count("\n"), dashboard.sent) == (2, "", 1, [])
    assert why in said.err


def test_second_submission_waits_for_the_first(dashboard: FakeDashboard, study_file: Path, coldfleet: Command) -> None:
    first = coldfleet("submit", study_file, "--out", "/shared/x").out.split()[0]
    again = coldfleet("submit", study_file, "--out", "/shared/x")
    assert (again.code, again.out.splitlines()[0]) == (0, f"{first} runs already")
    coldfleet("submit", study_file, "--out", "/shared/y")
    assert len(dashboard.sent) == 2  # other results, another job
    dashboard.jobs[first] = "SUCCEEDED"
    assert coldfleet("submit", study_file, "--out", "/shared/x").out.split()[0] == first[:-1] + "2"


def test_working_directory_is_sent_with_the_study_in_it(
    dashboard: FakeDashboard, study_file: Path, coldfleet: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "s.toml").write_text(study_file.read_text())
    said = coldfleet("submit", tmp_path / "sub" / "s.toml", "--out", "/shared/x", "--working-dir", tmp_path)
    assert said.code == 0
    assert "sub/s.toml" in dashboard.sent[0]["entrypoint"]
    assert ".git" in dashboard.sent[0]["excludes"]
    said = coldfleet("submit", study_file, "--out", "/shared/x", "--working-dir", tmp_path / "sub")
    assert (said.code, "wouldn't be sent" in said.err) == (2, True)
    monkeypatch.setattr(ray_jobs, "MAX_BYTES", 10)
    said = coldfleet("submit", study_file, "--out", "/shared/x", "--working-dir", tmp_path)
    assert (said.code, "which Ray doesn't take" in said.err) == (2, True)


def test_data_is_sent_with_the_study(
    dashboard: FakeDashboard, study_file: Path, coldfleet: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    write_trace(tmp_path / "data" / "web.parquet", [1, 2, 3])
    text = study_file.read_text()
    study_file.write_text(text.replace('kind = "zipf"', 'kind = "trace"\nfile = "data/web.parquet"'))
    sent: list[str] = []
    submitted = dashboard.submit_job

    def submit(**job: Any) -> None:
        sent.extend(sorted(path.name for path in Path(job["runtime_env"]["working_dir"]).rglob("*.*")))
        submitted(**job)

    monkeypatch.setattr(dashboard, "submit_job", submit)
    assert coldfleet("submit", study_file, "--out", "/shared/x").code == 0
    assert sent == ["small.toml", "web.parquet"]
    said = coldfleet("submit", study_file, "--out", "/shared/x", "--print", "kuberay")
    assert (said.code, "name its URI" in said.err) == (2, True)
    study_file.write_text(text.replace('kind = "zipf"', f'kind = "trace"\nfile = "{tmp_path}/data/web.parquet"'))
    said = coldfleet("submit", study_file, "--out", "/shared/x")
    assert (said.code, "can't be sent along" in said.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--out", "results/x"], "an absolute path or a URI"), (["--out", "/x", "--address", "head:6379"], "dashboard"),
     (["--out", "/x", "--address", "http://nowhere:1"], "Failed to connect"), ([], "--out"),
     (["--out", "/x", "--address", "http://locked"], "another token")],
)  # fmt: skip
def test_mistake_is_one_line(
    arguments: list[str], expected: str, dashboard: FakeDashboard, study_file: Path, coldfleet: Command
) -> None:
    said = coldfleet("submit", study_file, *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err
    assert dashboard.sent == []


def test_bad_study_is_not_sent(dashboard: FakeDashboard, study_file: Path, coldfleet: Command) -> None:
    study_file.write_text(study_file.read_text().replace("ticks", "tics"))
    said = coldfleet("submit", study_file, "--out", "/shared/x")
    assert (said.code, "did you mean" in said.err) == (2, True)
    assert dashboard.sent == []


def test_jobs_are_looked_after(dashboard: FakeDashboard, coldfleet: Command) -> None:
    dashboard.jobs = {"a-1": "RUNNING", "b-1": "FAILED"}
    assert coldfleet("job", "status").out == "a-1  RUNNING\nb-1  FAILED\n"
    assert [coldfleet("job", "status", job).code for job in ("a-1", "b-1")] == [0, 1]
    assert coldfleet("job", "logs", "a-1").out == "six-steps\n"
    assert coldfleet("job", "stop", "a-1").out == "a-1 is stopping\n"
    assert coldfleet("job", "stop", "a-1").out == "a-1 has ended already\n"
    for words, expected in ((["status", "c"], "no job 'c'"), (["stop"], "which one?"), (["log"], "log")):
        said = coldfleet("job", *words)
        assert (said.code, said.err.count("\n"), expected in said.err) == (2, 1, True)


def test_kuberay_manifest_is_yaml_with_the_study_in_it(study_file: Path, coldfleet: Command) -> None:
    said = coldfleet(
        "submit", study_file, "--out", "s3://b/x", "--print", "kuberay", "--nodes", 7, "--image", "me/cf:1"
    )
    assert said.code == 0
    config, job = yaml.safe_load_all(said.out)
    assert tomllib.loads(config["data"]["study.toml"]) == tomllib.loads(study_file.read_text())
    spec = job["spec"]
    assert shlex.split(spec["entrypoint"])[3:] == [
        "sweep", "/study/study.toml", "--out", "s3://b/x", "--address", "auto"
    ]  # fmt: skip
    assert spec["backoffLimit"] == 3
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    (workers,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert workers["replicas"] == 7
    assert workers["template"]["spec"]["containers"][0]["image"] == "me/cf:1"
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert head["volumes"][0]["configMap"]["name"] == config["metadata"]["name"] == job["metadata"]["name"]


def test_slurm_script_is_a_good_one(study_file: Path, tmp_path: Path, coldfleet: Command) -> None:
    said = coldfleet("submit", study_file, "--out", "/shared/a b", "--print", "slurm", "--nodes", 7)
    assert said.code == 0
    assert "#SBATCH --nodes=7" in said.out
    assert "'/shared/a b'" in said.out
    subprocess.run(["bash", "-n"], input=said.out, text=True, check=True)


@pytest.fixture
def head(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A Ray head of our own on loopback, with a token: the address of its dashboard, and what its clients need."""
    token = secrets.token_hex(32)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as short:  # sockets have short paths
        arguments = ["--head", "--num-cpus", "2", "--node-ip-address", "127.0.0.1", "--port", str(free_port())]
        arguments += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(port), "--temp-dir", short]
        arguments += ["--dashboard-agent-listen-port", str(free_port())]
        node = Node(arguments, token, tmp_path / "head.log")
        try:
            wait_for("Ray runtime started", node.log, within_s=90)
            yield f"http://127.0.0.1:{port}", environment(token)
        finally:
            node.stop()


def run(*words: object, env: dict[str, str], within_s: float = 240) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coldfleet", *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=within_s, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.cluster
def test_the_whole_way_on_a_real_head(
    head: tuple[str, dict[str, str]], study_file: Path, plan: Plan, tmp_path: Path
) -> None:
    address, env = head
    expected = sweep(plan, tmp_path / "serial", SerialExecutor())
    out = tmp_path / "out"

    wrong = run("job", "status", "--address", address, env={**env, "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    assert (wrong.returncode, "it wants another token" in wrong.stderr) == (2, True), wrong.stderr

    first = run("submit", study_file, "--out", out, "--address", address, "--follow", env=env)
    print(first.stdout)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "18 runs = 6 cells x 3 replicates" in first.stdout
    assert "six-steps" in first.stdout
    assert "SUCCEEDED" in first.stdout
    assert "Traceback" not in first.stdout + first.stderr
    results = Results.open(out)
    for table in TABLES:
        assert results.table(table).equals(expected.table(table))

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    again = run("submit", study_file, "--out", out, "--address", address, "--follow", env=env)
    print(again.stdout)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "is complete" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before

    long = tmp_path / "long.toml"
    long.write_text(study_file.read_text().replace("ticks = 4", "ticks = 4000").replace("2048", "65536"))
    submitted = run("submit", long, "--out", tmp_path / "long", "--address", address, env=env)
    job = submitted.stdout.split()[0]
    assert run("submit", long, "--out", tmp_path / "long", "--address", address, env=env).stdout.startswith(
        f"{job} runs already"
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "long" / "study.json").exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert f"{job}  RUNNING" in run("job", "status", "--address", address, env=env).stdout
    assert run("job", "stop", job, "--address", address, env=env).returncode == 0
    while run("job", "status", job, "--address", address, env=env).stdout.strip() == f"{job}  RUNNING":
        assert time.monotonic() < deadline + 60
        time.sleep(1)
    state = run("job", "status", job, "--address", address, env=env)
    print(state.stdout, run("job", "logs", job, "--address", address, env=env).stdout[-500:])
    assert (state.returncode, state.stdout.strip()) == (1, f"{job}  STOPPED")
    assert Results.open(tmp_path / "long").missing
