"""coldfleet replay: a line a recording, or a matrix of a folder; refusals don't hide what the others showed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coldfleet.cluster.validation.matrix import NARROW
from coldfleet.cluster.validation.replays import Refusal, replay_all
from coldfleet.hostsim.replay.comparison import FIGURES, Comparison
from tests.cluster.conftest import Said
from tests.hostsim.small_recordings import make_recording, read_lines, write_lines

RECORDINGS = Path(__file__).parents[2] / "recordings"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings that the engine made itself."""
    folder = tmp_path_factory.mktemp("made")
    for number, (kind, mode) in enumerate([("host", "limit"), ("vm", "reclaim"), ("vm", "debugfs")]):
        for seed in (1, 2):
            make_recording(folder / f"{number}_r{seed}.jsonl.gz", kind=kind, mode=mode, seed=seed)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "folder"))


def change(path: Path, by: Callable[[list[dict[str, Any]]], object]) -> None:
    lines = read_lines(path)
    by(lines)
    write_lines(path, lines)


def test_the_matrix_of_the_shipped_recordings_is_exact(coldfleet: Callable[..., Said]) -> None:
    said = coldfleet("replay", RECORDINGS)
    assert said.code == 0
    assert max(map(len, said.out.splitlines())) <= 100
    count = len(list(RECORDINGS.glob("*.gz")))
    assert f"{count} of {count} recordings are exact at every step" in said.out
    assert re.search(r"6\.12 duovm +1 107/107", said.out)


def test_every_column_of_the_matrix_has_a_line_in_its_legend(folder: Path, coldfleet: Callable[..., Said]) -> None:
    lines = coldfleet("replay", folder).out.splitlines()
    titles = {title for line in lines if line.startswith("kernel, kind") for title in line.split()[2:]}
    never = {title for line in lines if line.startswith("never off: ") for title in re.findall(r"\w+", line[11:])}
    legend = lines[lines.index("What the columns and figures are; docs/truth.md has the kinds") + 1 :]
    assert never <= set(NARROW.values())
    assert titles | set(NARROW.values()) == {line.split()[0] for line in legend[: len(NARROW) + 2]}


def test_json_has_the_matrix_and_every_recording(folder: Path, coldfleet: Callable[..., Said]) -> None:
    said = coldfleet("replay", folder, "--json", "--workers", 1)
    found = json.loads(said.out)
    assert (said.code, found["refused"]) == (0, [])
    assert [(row["kernel"], row["kind"], row["mode"], row["recordings"]) for row in found["matrix"]] == [
        ("6.12", "vm", "debugfs", 2), ("6.12", "host", "limit", 2), ("6.12", "vm", "reclaim", 2),
    ]  # fmt: skip
    assert len(found["recordings"]) == 6
    for row in found["matrix"]:
        assert row["worst"] == dict.fromkeys(FIGURES, 0)
        assert row["exact_steps"] == row["steps"]
        assert row["in_range"] == {}
        assert row["repeated_recordings"] == 0  # their seeds differ


def test_what_was_not_compared_has_no_figure(folder: Path, coldfleet: Callable[..., Said]) -> None:
    def without_dump(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line.pop("pg", None)
        lines[-2]["st"].update(pgscan=lines[-2]["st"]["pgscan"] + 500)

    for repeat in (1, 2):
        change(folder / f"0_r{repeat}.jsonl.gz", without_dump)
    found = json.loads(coldfleet("replay", folder, "--json", "--workers", 1).out)
    assert {row["mode"]: row["dumped_steps"] > 0 for row in found["matrix"]} == {
        "limit": False, "reclaim": True, "debugfs": True,
    }  # fmt: skip
    said = coldfleet("replay", folder, "--workers", 1).out
    table, ranges = said.split("limit: ")[1:3]
    assert "page" not in table
    assert "fres" not in ranges.splitlines()[3]
    assert re.search(r"the kernel itself +[02]( +-| +\d+)+ *$", ranges, re.MULTILINE)


def test_a_counter_that_is_off_shows_how_far_and_whether_it_is_in_range(
    folder: Path, coldfleet: Callable[..., Said]
) -> None:
    change(folder / "0_r1.jsonl.gz", lambda lines: lines[-2]["st"].update(pgscan=lines[-2]["st"]["pgscan"] + 500))
    found = json.loads(coldfleet("replay", folder, "--json", "--workers", 1).out)
    (limit,) = [row for row in found["matrix"] if row["mode"] == "limit"]
    assert limit["worst"] == {**dict.fromkeys(FIGURES, 0), "pgscan": 500}
    assert limit["in_range"]["pgscan"]["inside"] == limit["in_range"]["pgscan"]["steps"] - 1
    assert limit["in_range"]["res"]["inside"] == limit["in_range"]["res"]["steps"]
    (recording,) = [row for row in found["recordings"] if row["exact_steps"] < row["steps"]]
    assert recording["worst"] == {"pgscan": 500}
    assert recording["first_difference"]["field"] == "pgscan"
    said = coldfleet("replay", folder, "--workers", 1)
    assert said.code == 1
    assert "5 of 6 recordings are exact at every step" in said.out
    assert "limit: percentage of the steps inside the kernels' own range" in said.out


def test_a_refused_recording_does_not_hide_the_others(folder: Path, coldfleet: Callable[..., Said]) -> None:
    bad = folder / "1_r1.jsonl.gz"
    change(bad, lambda lines: lines[0].update(mode="kswpd"))
    said = coldfleet("replay", folder, "--workers", 1)
    assert said.code == 2
    assert "5 of 5 recordings are exact at every step" in said.out
    (refusal,) = [line for line in said.err.splitlines() if line.startswith("coldfleet: ")]
    assert refusal.startswith(f"coldfleet: {bad}: header field 'mode' is 'kswpd'")
    assert "1 of 6 recordings were refused" in said.err


def test_one_bad_recording_alone_is_one_line(folder: Path, coldfleet: Callable[..., Said]) -> None:
    said = coldfleet("replay", folder / "absent.jsonl.gz")
    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines()[-1] == f"coldfleet: {folder / 'absent.jsonl.gz'}: no such file"


def test_an_empty_folder_is_refused(tmp_path: Path, coldfleet: Callable[..., Said]) -> None:
    said = coldfleet("replay", tmp_path)
    assert (said.code, said.out) == (2, "")
    assert "no recordings (*.jsonl.gz) in this folder" in said.err


def test_what_is_written_is_replayed_as_exact(folder: Path, tmp_path: Path, coldfleet: Callable[..., Said]) -> None:
    out = tmp_path / "out"
    assert coldfleet("replay", folder, "--out", out, "--workers", 1).code == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in folder.iterdir())
    assert coldfleet("replay", out, "--workers", 1).code == 0
    assert "is there already" in coldfleet("replay", folder, "--out", out).err


def test_nothing_is_written_if_one_recording_is_refused(
    folder: Path, tmp_path: Path, coldfleet: Callable[..., Said]
) -> None:
    change(folder / "2_r2.jsonl.gz", lambda lines: lines.pop())
    said = coldfleet("replay", folder, "--out", tmp_path / "out")
    assert (said.code, said.out) == (2, "")
    assert not (tmp_path / "out").exists()


def test_several_processes_answer_the_same_in_the_same_order(folder: Path) -> None:
    change(folder / "0_r2.jsonl.gz", lambda lines: lines[-2].update(res=1))
    change(folder / "1_r2.jsonl.gz", lambda lines: lines.pop(0))
    files = sorted(folder.iterdir())
    for one, many in zip(replay_all(files, 1), replay_all(files, 2), strict=True):
        assert type(one) is type(many)
        if isinstance(one, Refusal):
            assert one == many
        else:
            assert isinstance(many, Comparison)
            assert (one.recording.path, one.exact, one.worst, one.measured, one.first) == (
                many.recording.path, many.exact, many.worst, many.measured, many.first,
            )  # fmt: skip
