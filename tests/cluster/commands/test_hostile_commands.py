"""Hostile inputs by the real command line: exit 0, 1 or 2, in ten seconds of CPU time and 1 GiB, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from tests.cluster.commands.test_hostile_texts import QUERIES, TEXTS, read_study_with
from tests.cluster.study.test_hostile_studies import EDITS, STUDY
from tests.cluster.study.test_hostile_traces import GOOD_ROWS, GOOD_TYPES
from tests.fuzzing import CUTS, LONG, MAX_BYTES, SECONDS, Cut, Edit, check_said, cut_up, edited, write_trace
from tests.hostsim.published.test_hostile_rows import CSV
from tests.hostsim.small_recordings import make_recording

FEW = settings(LONG, max_examples=min(LONG.max_examples, 300), phases=(Phase.generate, Phase.shrink))
"""Each takes a second or two."""

Make = Callable[[], list[str]]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound study, results, recording, trace and table of rows."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "study.toml").write_text(STUDY)
    (folder / "rows.csv").write_text(CSV)
    make_recording(folder / "recording.jsonl.gz")
    write_trace(folder / "trace.sqlite", GOOD_ROWS, GOOD_TYPES)
    sweep(read_study_with({"replicates": 1}), folder / "results", SerialExecutor())
    return folder


WATCH = """\
import json, os, sys
child = os.posix_spawn(sys.executable, [sys.executable, "-m", "coldfleet", *sys.argv[1:]], os.environ)
_, status, used = os.wait4(child, 0)
with open("used", "w") as file:
    json.dump([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss << 10], file)
"""
"""Runs a command in between: Linux counts what a parent has as its child's, and pytest has much."""


def run_command(folder: Path, arguments: list[str]) -> None:
    """Runs coldfleet, and checks its end, CPU time and memory. Arguments can't have a NUL."""
    words = [word.replace("\0", "").encode(errors="replace").decode() for word in arguments]
    with (folder / "out").open("w+b") as out, (folder / "err").open("w+b") as err:
        subprocess.run([sys.executable, "-S", "-c", WATCH, *words], cwd=folder, stdout=out, stderr=err, check=True)
    code, seconds, held = json.loads((folder / "used").read_text())
    check_said(code, *((folder / name).read_text(errors="replace") for name in ("out", "err")))
    assert seconds < SECONDS
    assert held < MAX_BYTES
    event(f"{words[0]} exits {code}")


@pytest.mark.slow
@FEW
@given(st.data(), EDITS, CUTS, QUERIES, TEXTS)
def test_fuzz_commands(
    good: Path,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    edits: list[Edit],
    cuts: list[Cut],
    sql: str,
    text: str,
) -> None:
    folder = tmp_path_factory.mktemp("input") / "all"
    copytree(good, folder)
    results, study = str(folder / "results"), str(folder / "study.toml")
    part = sorted((folder / "results" / "parts").iterdir())[0]

    def damage(*names: str) -> str:
        path = folder / data.draw(st.sampled_from(names))
        path.write_bytes(cut_up(path.read_bytes(), cuts))
        return str(path)

    def damaged_results() -> str:
        damage("results/journal.jsonl", "results/study.json", "results/plan.parquet", f"results/parts/{part.name}")
        return results

    def edited_study() -> str:
        Path(study).write_text(edited(STUDY, edits), errors="replace")
        return study

    makers: tuple[Make, ...] = (
        lambda: ["plan", edited_study(), "--sample", "0"],
        lambda: ["policies", "--study", edited_study()],
        lambda: ["verify", damaged_results()],
        lambda: ["status", damaged_results()],
        lambda: ["report", damaged_results()],
        lambda: ["query", damaged_results(), "SELECT * FROM cells"],
        lambda: ["query", results, sql],
        lambda: ["query", results, sql, "--csv"],
        lambda: ["run", results, "--cell", text],
        lambda: ["explain", results, "", "--page", text],
        lambda: ["columns", text],
        lambda: ["policies", text],
        lambda: ["sweep", study, "--out", str(folder / text), "--executor", text],
        lambda: ["compare", study, "locked-6.12", text, "--executor", "serial", "--at", text],
        lambda: ["capacity", study, "--slo", text, "--budget", text],
        lambda: ["replay", damage("recording.jsonl.gz")],
        lambda: ["fleet", damage("trace.sqlite"), "--at", "1"],
        lambda: ["calibrate", "published", "--data", damage("rows.csv")],
    )
    run_command(folder, data.draw(st.sampled_from(makers))())
