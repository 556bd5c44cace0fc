"""Imports: every format becomes the same trace, packed or not, and nothing is written of what is no trace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace.formats.block import ORACLE_GENERAL
from coldfleet.hostsim.trace.importing import FORMATS, ImportProgress, import_trace
from coldfleet.hostsim.trace.table import ACCESSES, HEAT, Trace
from tests.hostsim.trace import files
from tests.hostsim.trace.files import PAGES, REAL, TIMES, WRITES, every_format, needs_real, packed

ACCESS_FORMATS = ["oracle-general", "vscsi", "vscsi 2", "csv", "txt", "lackey", "perf-script", "parquet"]
CLOCK = {"lackey": False, "txt": False}
KNOWS_WRITES = {"txt": False, "oracle-general": False}


def imported(folder: Path, content: bytes, format: str | None = None, **options: Any) -> tuple[Trace, dict[str, Any]]:
    path = folder / "original"
    path.write_bytes(content)
    out = folder / "trace.parquet"
    out.unlink(missing_ok=True)
    trace = import_trace(path, out, format=format, **options)
    assert Trace.open(out) == trace
    return trace, pq.read_table(out).to_pydict()


def refused(folder: Path, content: bytes, format: str | None = None, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        imported(folder, content, format, **options)
    assert [each.name for each in folder.iterdir()] == ["original"], "nothing is written"
    return str(caught.value)


@pytest.mark.parametrize("name", ACCESS_FORMATS)
def test_every_format_of_accesses_becomes_the_same_trace(name: str, tmp_path: Path) -> None:
    trace, rows = imported(tmp_path, every_format(tmp_path)[name])
    format = name.split()[0]
    assert (trace.format, trace.kind, trace.rows) == (format, "accesses", len(PAGES))
    assert rows["page"] == PAGES.tolist()
    clock = CLOCK.get(format, True)
    assert trace.clock == clock
    assert rows["time"] == (TIMES * 10**9 if clock else np.arange(len(PAGES))).tolist()
    known = KNOWS_WRITES.get(format, True)
    assert rows["write"] == ([bool(write) for write in WRITES] if known else [None] * len(PAGES))
    process = {"perf-script": 42, "parquet": 3}.get(format)
    assert set(rows["process"]) == {process}
    assert ("reads and writes can't be told apart" in trace.notes) == (not known)


@pytest.mark.parametrize("way", ["gzip", "zstd", "xz", "bzip2", "zlib"])
def test_packed_files_are_unpacked_and_cut_ones_refused(way: str, tmp_path: Path) -> None:
    content = files.oracle_general(np.arange(5000), np.arange(5000))
    rows = imported(tmp_path, packed(content)[way])[1]
    assert rows["page"] == list(range(5000))
    (tmp_path / "trace.parquet").unlink()
    assert "cut" in refused(tmp_path, packed(content)[way][:-20], "oracle-general")


def test_damon_is_regions_with_heat(tmp_path: Path) -> None:
    trace, rows = imported(tmp_path, files.damon())
    assert (trace.kind, trace.format) == ("heat", "damon")
    assert rows["snapshot"] == [0, 0, 1, 1]
    assert rows["start"] == [0, 0, 10**8, 10**8]
    assert rows["page"] == [1, 3, 1, 3]
    assert rows["pages"] == [2, 1, 2, 1]
    assert rows["heat"] == [5, 0, 5, 0]
    assert rows["most"] == [20] * 4
    assert rows["age"] == [3 * 10**8, 7000] * 2
    assert rows["target"] == ["77"] * 4
    assert any("DAMON doesn't know which pages" in note for note in trace.notes)


def test_damons_tracepoint_is_the_same(tmp_path: Path) -> None:
    rows = imported(tmp_path, files.damon_script())[1]
    assert rows["page"] == [1, 3, 1, 3]
    assert rows["heat"] == [5, 0, 5, 0]
    assert rows["end"] == [8281_500000000] * 2 + [8282_500000000] * 2
    assert rows["start"] == [None] * 2 + [8281_500000000] * 2


def test_lru_gen_is_ages_without_addresses(tmp_path: Path) -> None:
    rows = imported(tmp_path, files.lru_gen())[1]
    assert rows["snapshot"] == [0] * 4 + [1] * 4
    assert rows["kind"][:4] == ["anon", "file"] * 2
    assert rows["pages"][:4] == [30, 5, 10, 6]
    assert rows["age"][:4] == [900 * 10**6] * 2 + [600 * 10**6] * 2
    assert set(rows["page"]) == {None}
    assert set(rows["target"]) == {"/ node 0"}
    full = files.lru_gen().replace(b"30  5\n", b"30  5\n            0        3r        1e        0p\n")
    assert imported(tmp_path, full)[1] == rows


def test_a_working_set_report_is_ages_too(tmp_path: Path) -> None:
    rows = imported(tmp_path, files.working_set())[1]
    assert rows["pages"] == [2, 1, 10, 0]
    assert rows["age"] == [10**9, 10**9, None, None]


def test_page_idle_is_ranges_of_frames(tmp_path: Path) -> None:
    rows = imported(tmp_path, files.page_idle(), "page-idle")[1]
    assert rows["page"] == [0, 8, 16]
    assert rows["pages"] == [8, 8, 112]
    assert rows["heat"] == [0, 1, 0]


def test_files_continue_each_other(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(files.page_idle())
    second.write_bytes(files.page_idle())
    trace = import_trace([first, second], tmp_path / "both.parquet", format="page-idle")
    assert pq.read_table(trace.path)["snapshot"].to_pylist() == [0, 0, 0, 1, 1, 1]
    first.write_bytes(files.csv())
    second.write_bytes(files.csv())
    with pytest.raises(UserError, match="access 8 is earlier than the one before"):
        import_trace([first, second], tmp_path / "back.parquet")


def test_an_access_over_the_end_of_a_page_is_one_of_both(tmp_path: Path) -> None:
    rows = imported(tmp_path, b" M 00001ffe,4\nI  00003000,2\n")[1]
    assert (rows["page"], rows["write"]) == ([1, 2, 3], [True, True, False])


def test_processes_and_page_faults_of_perf(tmp_path: Path) -> None:
    lines = (
        b"# comment\n bash  11/12   1.000001: page-faults:  55d907edc5c0\n"
        b"\t     55d907edc5c0 main+0x4 (/bin/bash)\n\n"
        b" bash 11/12 1.5: exceptions:page_fault_user: address=0x7fc39bee2b70 ip=0x7fc3 error_code=0x6\n"
        b" bash 11/12 1.6: cycles:  ffffffff81775dda elf_load+0x28a ([kernel.kallsyms])\n"
        b" bash 11/12 1.7: cpu/mem-loads,ldlat=30/P: 7fc39bee2000 68100142 |OP LOAD|LVL L1 hit 4012 f (/bin/x)\n"
    )
    rows = imported(tmp_path, lines)[1]
    assert rows["page"] == [0x55D907EDC, 0x7FC39BEE2, 0x7FC39BEE2]
    assert rows["write"] == [None, True, False]
    assert rows["time"] == [1_000_001_000, 1_500_000_000, 1_700_000_000]
    assert rows["process"] == [11] * 3


def test_perf_without_addresses_says_how_to_get_them(tmp_path: Path) -> None:
    line = b" ls 11741   563.336052:   1 page-faults:  ffffffff81775dda elf_load+0x28a ([kernel.kallsyms])\n"
    assert "perf script -F comm,pid,tid,time,event,addr" in refused(tmp_path, line)


@pytest.mark.parametrize(
    ("header", "columns"),
    [(b"time,address,rw\n", None), (b"when;what;where\n", {"time": "when", "address": "where", "rw": "what"}),
     (b"", {"time": "1", "address": "2"})],
)  # fmt: skip
def test_columns_have_names_or_numbers(header: bytes, columns: dict[str, str] | None, tmp_path: Path) -> None:
    semicolons = b";" in header
    lines = b'1.5;"R";0x1000\n2;W;8191\n' if semicolons else b"1.5,0x1000,28\r\n2,8191,2a\r\n"
    rows = imported(tmp_path, header + lines, columns=columns, time_unit="ms")[1]
    assert rows["page"] == [1, 1]
    assert rows["time"] == [1_500_000, 2_000_000]
    assert rows["write"] == ([False, True] if columns is None or semicolons else [None, None])


BAD = {
    "empty": (b"", "empty", None),
    "a cut record": (files.oracle_general()[:-5], "cut: the last record has 19 of 24 bytes", "oracle-general"),
    "big-endian": (files.oracle_general(np.arange(9), np.arange(9) * 300)[::-1], "", "oracle-general"),
    "text as oracle-general": (b"this is some text, not binary\n" * 24, "not oracleGeneral", "oracle-general"),
    "text as vscsi": (b"this is some text, not binary...\n" * 32, "not vscsi", "vscsi"),
    "unsorted": (b"time,page\n5,1\n4,1\n", "access 2 is earlier than the one before it", None),
    "negative": (b"time,page\n5,-1\n", "line 2: a negative number", None),
    "negative time": (b"time,page\n-5,1\n", "line 2: a negative number", None),
    "10^19 in csv": (b"time,page\n5,10000000000000000000\n", "line 2: a number is too large", None),
    "10^19 as address": (b"time,address\n5,10000000000000000000\n", "line 2: a number is too large", None),
    "10^19 in txt": (b"1\n2\n10000000000000000000\n", "line 3: a number is too large", None),
    "10^30 in txt": (b"1\n%d\n" % 10**30, "line 2: a number is too large", None),
    "a time of 10^19": (b"time,page\n10000000000000000000,1\n", "line 2: a number is too large", None),
    "letters in txt": (b"1\n2\nabc\n", "line 3: a field is not a number", "txt"),
    "a line cut": (b"time,page,rw\n1,2,r\n1,\n", "line 3", None),
    "too few": (b"time,page\n1\n", "line 2: too few fields", None),
    "two numbers": (b"1 2\n3 4\n", "more than one field", "txt"),
    "no read, no write": (b"page,rw\n1,x\n", "line 2: neither a read nor a write", None),
    "no page": (b"time,rw\n1,r\n", "no column of pages", "csv"),
    "lackey cut": (b" L 1000,8\n L 10", "line 2: not a line of lackey", None),
    "lackey negative": (b" L 1000,8\n L -10,8\n", "line 2: a negative number", None),
    "lackey 10^19": (b" L 1000,8\n L 8ac7230489e80000,8\n", "line 2: a number is too large", None),
    "perf 10^19": (b" a 1/1 1.0: page-faults: 8ac7230489e80000\n", "0x8ac7230489e80000 is no address", None),
    "an old DAMON record": (b"damon_recfmt_ver\x02\0\0\0" + b"\0" * 40, "a record of an older DAMON", None),
    "perf process 10^19": (b" a 9999999999999999999/1 1.0: page-faults: 1000\n", "too large for a process id", None),
    "perf.data": (b"PERFILE2" + b"\0" * 40, "perf script", None),
    "DAMON cut": (files.damon()[:-9], "not damo's JSON, damaged or cut", None),
    "DAMON 10^19": (files.damon(end="10,000,000,000,000,000,000"), "addresses have 57 bits", None),
    "DAMON backwards": (files.damon(end="0"), "its end is after its start", None),
    "DAMON of text": (files.damon(nr_accesses="many"), "nr_accesses is 'many'", None),
    "DAMON script cut": (files.damon_script()[:-5], "line 4: cut or damaged", None),
    "DAMON script without its end": (files.damon_script().rpartition(b"   kdamond")[0], "cut: the last interval", None),
    "no generation": (b"memcg     1 /\n node     0\n", "no generation and no bin", None),
    "generations": (b"memcg 1 /\n node 0\n 5 9 1 1\n 4 9 1 1\n", "line 4: generations are not in order", None),
    "bitmap cut": (files.page_idle()[:-3], "cut: the last record has 5 of 8 bytes", "page-idle"),
    "no idle page": (b"\0" * 64, "no page is idle", "page-idle"),
    "Parquet cut": (b"PAR1" + b"\0" * 100, "not Parquet, damaged or cut", None),
    "anything": (b"\xff\xfe\x00 nothing that is known", "no known format", None),
    "the perf test": (b"Populating memory             : 1.263s\nWriting to populated memory : 1s\n", "calibrate", None),
    "a format that isn't": (b"1\n", "did you mean 'txt'?", "text"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    content, expected, format = BAD[name]
    said = refused(tmp_path, content, format)
    assert expected in said
    assert "\n" not in said


def test_big_endian_is_said(tmp_path: Path) -> None:
    rows = np.frombuffer(files.oracle_general(), ORACLE_GENERAL).copy()
    rows["next"] = [2, 6, 5, -1, -1, -1, -1]
    assert "big-endian" in refused(tmp_path, rows.byteswap().tobytes(), "oracle-general")
    assert imported(tmp_path, rows.tobytes())[1]["page"] == PAGES.tolist()


@pytest.mark.parametrize("what", ["file", "link to nothing"])
def test_nothing_is_overwritten(what: str, tmp_path: Path) -> None:
    out = tmp_path / "trace.parquet"
    if what == "file":
        out.write_text("mine")
    else:
        out.symlink_to("nowhere")
    (tmp_path / "original").write_bytes(files.csv())
    with pytest.raises(UserError, match="exists already: give another name"):
        import_trace(tmp_path / "original", out)
    assert what != "file" or out.read_text() == "mine"


def test_a_trace_says_what_it_is(tmp_path: Path) -> None:
    for schema in (ACCESSES, HEAT):
        assert all(field.metadata[b"description"] for field in schema)
        assert all(b"unit" in field.metadata for field in schema)
    imported(tmp_path, files.csv())
    schema = pq.read_schema(tmp_path / "trace.parquet")
    assert schema.field("time").metadata[b"unit"] == b"ns"
    assert schema.equals(ACCESSES)
    with pytest.raises(UserError, match="is imported already: coldfleet trace show"):
        import_trace(tmp_path / "trace.parquet", tmp_path / "again.parquet")


def test_a_damaged_trace_is_one_line(tmp_path: Path) -> None:
    trace = imported(tmp_path, files.oracle_general(np.arange(5000) * 77, np.arange(5000)))[0]
    content = bytearray(trace.path.read_bytes())
    content[200:900] = b"\xff" * 700
    trace.path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"trace\.parquet"):
        list(Trace.open(trace.path).batches())
    pq.write_table(pa.table({"page": [1]}), trace.path)
    with pytest.raises(UserError, match="Parquet, but no trace of coldfleet"):
        Trace.open(trace.path)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[ImportProgress] = []
    content = files.oracle_general(np.arange(600_000) % 977, np.arange(600_000))
    trace, _ = imported(tmp_path, content, progress=told.append)
    assert trace.rows == 600_000
    assert [each.rows for each in told] == sorted(each.rows for each in told)
    assert told[-1].bytes_read == told[-1].bytes_total == len(content)
    assert len(told) > 2


@needs_real
@pytest.mark.parametrize("name", sorted(path.name for path in REAL.glob("*")) if REAL.is_dir() else [])
def test_real_files_are_imported(name: str, tmp_path: Path) -> None:
    if name in ("README.md", "access_tracking.txt"):
        with pytest.raises(UserError, match=r"no known format|see coldfleet calibrate"):
            import_trace(REAL / name, tmp_path / "t.parquet")
        return
    trace = import_trace(REAL / name, tmp_path / "t.parquet")
    rows = {
        "cloudPhysics": 113_872,
        "damo.damon.data.snapshot.anon": 105,
        "damo.damon.data.snapshot.inactive": 478,
        "damo.damon.data.snapshot.nofilter": 132,
        "damo.damon.data": 9773,
        "damo.perf": 10_260,
        "lru_gen": 16,
    }
    assert trace.rows == next(count for start, count in rows.items() if name.startswith(start))
    assert set(FORMATS) >= {trace.format}


def test_a_sweep_loads_no_importer_of_traces() -> None:
    """So that its compiled code is what it was."""
    code = "import sys, coldfleet.hostsim.host, coldfleet.cluster.execution.sweep; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "coldfleet.hostsim.host\n" in loaded
    assert "coldfleet.hostsim.trace.importing" not in loaded


def test_parquet_is_read_group_by_group(tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"ts": pa.array(range(9), pa.timestamp("us")), "address": [4096 * n for n in range(9)]}),
                   path, row_group_size=4)  # fmt: skip
    rows = pq.read_table(import_trace(path, tmp_path / "t.parquet").path)
    assert rows["page"].to_pylist() == list(range(9))
    assert rows["time"].to_pylist() == [1000 * n for n in range(9)]
