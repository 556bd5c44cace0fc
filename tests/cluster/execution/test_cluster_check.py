"""coldfleet cluster check: what it says of real nodes, and what of answers that no node here gives."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import coldfleet.policies
from coldfleet.cluster.commands import output
from coldfleet.cluster.execution import cluster_check
from coldfleet.cluster.execution.cluster_check import examine
from coldfleet.cluster.execution.ray_nodes import OTHER_VERSION
from coldfleet.cluster.results.versions import engine_digest, versions
from tests.cluster.ray_node import Head, Node, command, mounted, wait_for


@pytest.mark.cluster
def test_every_node_is_a_row_and_says_why_it_is_not_fit(cluster: Head, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("makes mount namespaces with `unshare`, which takes root")
    installed = Path(coldfleet.policies.__file__).parent
    shutil.copytree(installed, other := tmp_path / "policies")
    (other / "policy.py").write_text((other / "policy.py").read_text() + "# another version\n")
    for folder in (shared := tmp_path / "shared", own := tmp_path / "own"):
        folder.mkdir()
    (own / "results" / "parts").mkdir(parents=True)
    cold = ["env", f"XDG_CACHE_HOME={tmp_path / 'cache'}"]
    nodes = []
    try:
        for name, what, where in (("older", other, installed), ("apart", own, shared)):
            prefix = [*mounted(name, what, where), *cold]
            nodes.append(Node(cluster.joining, cluster.token, tmp_path / f"{name}.log", prefix))
            wait_for("Ray runtime started", nodes[-1].log, within_s=120)
        words = ("cluster", "check", "--out", shared / "results")
        as_table = command(cluster, cluster.token, *words)
        text, said = as_table.communicate(timeout=300)
        as_json = command(cluster, cluster.token, *words, "--json")
        data, _ = as_json.communicate(timeout=300)
    finally:
        for node in nodes:
            node.stop()
    assert (as_table.returncode, as_json.returncode) == (1, 1), said
    assert said == ""
    assert not any(shared.iterdir())  # nothing is left behind
    found = {node["machine"]: node for node in json.loads(data)["nodes"]}
    assert not json.loads(data)["fit"]
    assert len(found) == 3
    older, apart = found.pop("older"), found.pop("apart")
    (here,) = found.values()
    assert older["unfit"] == [OTHER_VERSION]
    assert apart["unfit"] == [f"what it writes to {shared}/results isn't there on this machine: share it between all"]
    assert (here["unfit"], here["writes"], apart["writes"], older["writes"]) == ([], True, False, None)
    there = sorted(map(str, (tmp_path / "cache").rglob("*make_all*.nbi")))  # a worker of this Ray may have brought it
    assert (apart["compiled"], older["compiled"]) == (bool(there), None), there
    for node in (here, older, apart):
        assert node["python"] == versions()["python"]
        assert (node["cpus"], node["token"]) == (1, True)
        assert node["memory_bytes"] > 1 << 20
        assert abs(node["clock_s"]) <= node["clock_error_s"] + 0.05  # they are one machine
    head, *rows = text.splitlines()
    assert " ".join(head.split()) == "node fit Python coldfleet CPUs GiB free results token compiled clock"
    assert max(map(len, rows)) <= output.WIDTH
    assert [row.split()[:4] for row in rows[:3] if row.startswith("older")] == [
        ["older", "no", versions()["python"], "another"]
    ]
    assert f"older: {OTHER_VERSION}" in rows


@pytest.mark.cluster
def test_fit_nodes_are_exit_code_0(cluster: Head, tmp_path: Path) -> None:
    done = command(cluster, cluster.token, "cluster", "check", "--out", tmp_path / "out")
    text, said = done.communicate(timeout=120)
    assert (done.returncode, said) == (0, "")
    assert text.splitlines()[1].split()[1] == "yes"
    assert "written" in text
    assert not (tmp_path / "out").exists()


class OneNode:
    """A Ray of one node, whose answers are made up."""

    exceptions = SimpleNamespace(RayError=LookupError, GetTimeoutError=TimeoutError)

    def __init__(self, answer: dict[str, Any] | Exception, ahead_s: float = 0.0) -> None:
        self.answer = answer
        self.ahead_s = ahead_s

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": "a", "Alive": True, "Resources": {"CPU": 4.0}, "NodeManagerAddress": "10.0.0.7"}]

    def wait(self, *_: object, **__: object) -> None:
        pass

    def get(self, question: Any, timeout: float) -> Any:
        if question is cluster_check.time_there:
            return time.time() + self.ahead_s
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def shutdown(self) -> None:
        pass


def answer(**changed: Any) -> dict[str, Any]:
    seen = {"machine": "m", "python": versions()["python"], "engine": engine_digest(), "error": ""}
    return {"seen": seen, "why_not": "", "memory_bytes": 8 << 30, "token": True, "compiled": True, **changed}


@pytest.mark.parametrize(
    ("ray", "why"),
    [
        (OneNode(answer()), ""),
        (OneNode(answer(), ahead_s=800), ""),
        (OneNode(answer(), ahead_s=-1000), "its clock is off by -1,000 s: object stores refuse that: set it by NTP"),
        (OneNode(answer(memory_bytes=100 << 20)), "it has 100 MiB of memory free, and a worker takes 400 at least"),
        (OneNode(answer(why_not="Permission denied")), "it can't write to OUT: Permission denied"),
        (OneNode(TimeoutError()), "it doesn't answer within 60 s"),
        (OneNode(LookupError("no process")), "nothing runs there (no process)"),
    ],
)
def test_a_node_is_unfit_for_a_reason(ray: OneNode, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_: object, node: str, question: Any, *arguments: Any) -> Any:
        if question is examine and not why.startswith("it can't write"):
            (tmp_path / "out" / arguments[1]).write_text(arguments[1])
        return question

    monkeypatch.setattr(cluster_check, "ask", ask)
    monkeypatch.setattr(cluster_check, "join", lambda address: ray)
    (tmp_path / "out").mkdir()
    (node,) = cluster_check.check_cluster("head:6379", str(tmp_path / "out"))
    assert [each.replace(str(tmp_path / "out"), "OUT") for each in node.unfit] == ([why] if why else [])
    assert node.cpus == 4
    assert not [each for each in (tmp_path / "out").iterdir() if each.is_file()] or why
