"""coldfleet trace: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.cluster.conftest import Said
from tests.hostsim.trace import files

Command = Callable[..., Said]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "web.bin"
    path.write_bytes(files.oracle_general(np.arange(40_000) ** 2 % 5003, np.arange(40_000) // 50))
    return path


def test_an_import_says_what_it_made_and_what_the_format_does_not_know(
    source: Path, tmp_path: Path, coldfleet: Command
) -> None:
    said = coldfleet("trace", "import", source, "--out", tmp_path / "web.parquet")
    assert (said.code, said.err) == (0, "")
    assert "40,000 accesses, from web.bin (oracle-general)" in said.out
    assert "note: reads and writes can't be told apart" in said.out
    told = json.loads(coldfleet("trace", "import", source, "--out", tmp_path / "b.parquet", "--json").out)
    assert (told["rows"], told["format"]) == (40_000, "oracle-general")


@pytest.mark.parametrize("columns", ["60", "80", "200"])
@pytest.mark.parametrize("name", ["web", "damon", "lru-gen"])
def test_what_is_shown_fits_the_terminal(
    name: str, columns: str, source: Path, tmp_path: Path, coldfleet: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    if name != "web":
        source = tmp_path / name
        source.write_bytes(files.every_format(tmp_path)[name])
    said = coldfleet("trace", "show", source)
    assert (said.code, said.err) == (0, "")
    assert max(map(len, said.out.splitlines())) <= min(int(columns), 100)
    expected = {
        "web": ("40,000 accesses", "miss ratio of an LRU", "reuse distance", "inter-reference gap", "working set"),
        "damon": ("2 snapshots", "mean heat", "hot memory", "by age"),
        "lru-gen": ("2 snapshots", "by age", "anon", "file"),
    }[name]
    assert all(text in said.out for text in expected)


def test_a_file_and_its_import_show_the_same(source: Path, tmp_path: Path, coldfleet: Command) -> None:
    assert coldfleet("trace", "import", source, "--out", tmp_path / "web.parquet").code == 0
    shown = coldfleet("trace", "show", tmp_path / "web.parquet", "--size", "1 MiB", "--json").out
    assert coldfleet("trace", "show", source, "--size", "256", "--json").out == shown
    told = json.loads(shown)
    pages = pq.read_table(tmp_path / "web.parquet")["page"].to_numpy()
    assert told["pages"] == len(np.unique(pages))
    point = next(each for each in told["curve"] if each["pages"] == 256)
    assert point["misses"] == files.slow_lru_misses(pages, 256)


@pytest.mark.parametrize("name", ["web", "damon", "lru-gen"])
def test_pictures_are_written(name: str, source: Path, tmp_path: Path, coldfleet: Command) -> None:
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    if name != "web":
        source = tmp_path / name
        source.write_bytes(files.every_format(tmp_path)[name])
    said = coldfleet("trace", "show", source, "--export", tmp_path / "pictures")
    assert said.code == 0
    made = {path.name for path in (tmp_path / "pictures").iterdir()}
    names = {
        "web": ("miss-ratio", "reuse-distance", "gap", "working-set", "map"),
        "damon": ("hot-memory", "map", "ages"),
        "lru-gen": ("ages",),
    }[name]
    assert made == {f"{each}.{kind}" for each in names for kind in ("svg", "png")}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["import", "web.bin"], "--out FILE.parquet"), (["import", "nowhere", "--out", "o.parquet"], "no such file"),
     (["import", "web.bin", "--out", "no/o.parquet"], "there is no directory no"),
     (["import", "web.bin", "--out", "web.bin"], "exists already"),
     (["import", "web.bin", "--out", "o.parquet", "--as", "oracle"], "did you mean 'oracle-general'"),
     (["import", "web.bin", "--out", "o.parquet", "--as", "vscsi"], "not vscsi"),
     (["import", "web.bin", "--out", "o.parquet", "--as", "csv", "--column", "paeg=1"], "did you mean 'page'"),
     (["import", "web.bin", "--out", "o.parquet", "--column", "page"], "write WHAT=NAME"),
     (["import", "web.bin", "--out", "o.parquet", "--size", "5"], "are for trace show"),
     (["show", "web.bin", "--out", "o.parquet"], "--out and --window are for trace import"),
     (["show", "nowhere"], "no such file"), (["show", "."], "a directory"),
     (["show", "builtin:sqlite/"], "did you mean 'sqlite'"), (["show", "builtin://x"], "'builtin://x': there is"),
     (["show", "web.bin", "--size", "0"], "from 1"),
     (["show", "web.bin", "--size", "1 KiB"], "not a whole number of 4096-byte pages"), (["list", "web.bin"], "list")],
)  # fmt: skip
def test_a_mistake_is_one_line_and_nothing_is_written(
    arguments: list[str], expected: str, source: Path, coldfleet: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    before = source.read_bytes()
    said = coldfleet("trace", *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err
    assert [path.name for path in source.parent.iterdir()] == ["web.bin"]
    assert source.read_bytes() == before


needs_valgrind = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind isn't installed")


@needs_valgrind
def test_a_program_is_recorded(tmp_path: Path, coldfleet: Command) -> None:
    out = tmp_path / "true.parquet"
    said = coldfleet("trace", "record", "--window", 10, "--out", out, "--", "/bin/true")
    assert said.code == 0, said.err
    assert "from true (lackey)" in said.out
    assert pq.read_metadata(out).num_rows > 1000
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--", "/bin/true"], "trace record: name the file to make"),
        (["--out", "x.parquet", "--", "no-such-program"], "no such program"),
        (
            ["--out", "x.parquet", "--as", "csv", "--", "/bin/true"],
            "--as, --column and --time-unit are for",
        ),
        (["--out", "nowhere/x.parquet", "--", "/bin/true"], "there is no directory nowhere"),
    ],
)
def test_what_can_not_be_recorded_is_one_line(
    arguments: list[str], why: str, tmp_path: Path, coldfleet: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None if "no-such" in name else f"/bin/{name}")
    said = coldfleet("trace", "record", *arguments)
    assert (said.code, said.out, said.err.count("\n"), list(tmp_path.iterdir())) == (2, "", 1, [])
    assert why in said.err


def test_without_valgrind_it_says_what_is_missing(
    tmp_path: Path, coldfleet: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    said = coldfleet("trace", "record", "--out", tmp_path / "x.parquet", "--", "/bin/true")
    assert (said.code, "recording needs valgrind" in said.err) == (2, True)
