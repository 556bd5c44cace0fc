"""The recipe of docs/clusters.md for images with compiled code: its commands, without Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import coldfleet
from tests.cluster.ray_node import ROOT

pytestmark = pytest.mark.slow

STUDY = """\
ticks = 4
overcommit = 1.5
policy = "six-steps"

[fleet]
hosts = 1
guests_per_host = 1

[guest]
memory = "4 MiB"
"""


def recipe() -> str:
    """What the last RUN of the Dockerfile runs."""
    found = re.search(
        r"^    RUN (coldfleet plan.*?[^\\])$", (ROOT / "docs/clusters.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert found
    return found[1]


def as_layer(folder: Path) -> None:
    """Packs and unpacks a folder as a layer of an image is: files have the same times, in whole seconds."""
    for path in [*folder.rglob("*"), folder]:
        seconds = int(path.stat().st_mtime)
        os.utime(path, (seconds, seconds))


def test_code_that_is_compiled_as_documented_is_warm_in_a_container(tmp_path: Path) -> None:
    shutil.copytree(
        Path(coldfleet.__file__).parent, tmp_path / "coldfleet", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / "study.toml").write_text(STUDY)
    (tmp_path / "bin").mkdir()
    for name, words in (("python", ""), ("coldfleet", "-m coldfleet ")):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words}"$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    cache = tmp_path / "opt" / "coldfleet"
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(cache),
        "PYTHONPATH": str(tmp_path),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    }

    def run(*words: str) -> str:
        return subprocess.run(words, env=environment, check=True, capture_output=True, text=True, cwd="/").stdout

    run("sh", "-c", recipe().replace("/opt/", f"{tmp_path}/opt/"))
    as_layer(tmp_path)
    asked = "from coldfleet.cluster.execution.cluster_check import is_compiled; print(is_compiled())"
    assert run("python", "-c", asked) == "True\n"
    assert all(path.stat().st_mode & 0o006 == 0o006 for path in cache.rglob("*"))
    source = tmp_path / "coldfleet" / "hostsim" / "mm" / "faults.py"
    source.write_text(source.read_text() + "# another version\n")
    assert run("python", "-c", asked) == "False\n"
