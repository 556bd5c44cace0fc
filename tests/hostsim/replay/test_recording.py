"""Recordings are read and checked at the door: what is damaged, changed or unknown is refused in one line."""

from __future__ import annotations

import copy
import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldfleet.hostsim.replay.comparison import compare_recording
from coldfleet.hostsim.replay.recording import NEVER_PRESENT, SWAPPED, page_state_hash, read_recording, residency_hash
from coldfleet.hostsim.replay.replay import check_replayable
from coldfleet.hostsim.spec.errors import UserError
from tests.hostsim.small_recordings import Lines, make_recording, read_lines, write_lines
from tests.reference.schedule import fnv1a as plain_fnv1a


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small recording without fault."""
    path = tmp_path_factory.mktemp("recording") / "whole.jsonl.gz"
    make_recording(path)
    return path


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    return tmp_path / "damaged.jsonl.gz"


def complaint(path: Path) -> str:
    """The one line that refuses a file, after the file's name."""
    with pytest.raises(UserError) as caught:
        check_replayable(read_recording(path))
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert len(text.splitlines()) == 1
    return text.removeprefix(f"{path}: ")


def test_a_whole_recording_is_read(whole: Path) -> None:
    recording = read_recording(whole)
    assert [step["ev"] for step in recording.steps] == ["start", "populate", *["touch", "age", "evict"] * 3]
    assert recording.header.kernel == "6.12"
    assert [guest.kind for guest in recording.header.guests] == ["host"]
    assert sorted(recording.list_hashes) == [(0, 1), (0, 2), (0, 3)]


def test_page_states_come_back_from_the_dump(whole: Path) -> None:
    recording = read_recording(whole)
    for step in recording.steps:
        states = recording.page_states(step)
        assert states is not None
        assert page_state_hash(states) == step["pgh"]
        assert residency_hash(states) == step["resh"]
        assert (states < SWAPPED).sum() == step["res"]
    assert recording.page_states({"r": 1}) is None


def test_page_state_hashes_are_those_of_the_written_rules() -> None:
    states = [0x33, SWAPPED, NEVER_PRESENT, 0, 0xF4]
    array = np.array(states, np.uint16)
    assert page_state_hash(array) == f"{plain_fnv1a(b'33..__00f4'):016x}"
    assert residency_hash(array) == f"{plain_fnv1a([2, 0, 1, 2, 2]):016x}"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.25, 0.5, 0.9, 0.999])
def test_a_cut_file_is_refused(whole: Path, damaged: Path, share: float) -> None:
    content = whole.read_bytes()
    damaged.write_bytes(content[: int(share * len(content))])
    assert complaint(damaged)


def test_a_file_cut_between_two_lines_and_zipped_again_is_refused(whole: Path, damaged: Path) -> None:
    lines = read_lines(whole)
    for kept in range(len(lines)):
        write_lines(damaged, lines[:kept])
        assert "not a recording" in complaint(damaged) if kept == 0 else "cut" in complaint(damaged)


def test_a_byte_cut_off_or_added_in_the_gzip_is_refused(whole: Path, damaged: Path) -> None:
    content = whole.read_bytes()
    damaged.write_bytes(content[:-1])
    assert "cut or damaged, not a whole gzip file" in complaint(damaged)
    damaged.write_bytes(content + b"?")
    assert "cut or damaged, not a whole gzip file" in complaint(damaged)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a recording: every line is to be a JSON object"),
        (b"not gzip at all", "cut or damaged, not a whole gzip file"),
        (gzip.compress(b"", mtime=0), "not a recording: every line is to be a JSON object"),
        (gzip.compress(b"{}\n", mtime=0), "not a recording: every line is to be a JSON object with an 'ev'"),
        (gzip.compress(b"[1, 2]\n", mtime=0), "not a recording: every line is to be a JSON object with an 'ev'"),
        (gzip.compress(b'{"ev": "hdr"}\n{"ev": "en', mtime=0), "line 2 is not JSON (Unterminated string starting at"),
        (gzip.compress(b'{"ev": "hdr"}\n\n{"ev": "end"}\n', mtime=0), "line 2 is blank"),
        (gzip.compress(b'{"ev": "hdr"}\n{"ev": "a", "ev": "a"}', mtime=0), "line 2 is not JSON (an object has a key"),
        (gzip.compress(b'{"ev": "hdr"}\n{broken\n', mtime=0), "line 2 is not JSON (Expecting property name"),
        (gzip.compress(b'{"ev": "start"}\n{"ev": "end"}\n', mtime=0), "the first line is not ev=hdr"),
        (gzip.compress(b'{"ev": "hdr"}\n{"ev": "end"}\n', mtime=0), "ev=hdr: field 'legend' is missing"),
        (gzip.compress(b"\xff\xfe\n", mtime=0), "cut or damaged"),
    ],
)  # fmt: skip
def test_what_is_no_recording_is_refused(damaged: Path, content: bytes, why: str) -> None:
    damaged.write_bytes(content)
    assert why in complaint(damaged)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert complaint(tmp_path / "absent.jsonl.gz") == "no such file"
    assert complaint(tmp_path) == "a directory, not a regular file"


Damage = Callable[[Lines], object]


def in_header(**changes: Any) -> Damage:
    return lambda lines: lines[0].update(changes)


def in_step(number: int, **changes: Any) -> Damage:
    return lambda lines: [line for line in lines if line["ev"] != "list"][number].update(changes)


def in_list(number: int, **changes: Any) -> Damage:
    return lambda lines: [line for line in lines if line["ev"] == "list"][number].update(changes)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (in_list(1, r=3), "ev=list of round 3 stands where ev=list of round 2 is due: a line was changed"),
        (in_header(rel="5.10.0-8-amd64"), "names kernel '5.10'; known are 6.1, 6.12, 6.16, 6.18, 7.3"),
        (in_header(rel=612), "header field 'rel' is 612, not a text"),
        (in_header(kind="container"), "header field 'kind' is 'container'; known are host, vm"),
        (in_header(wl="zipff"), "header field 'wl' is 'zipff'; known are hotcold, zipf"),
        (in_header(mode="kswap"), "header field 'mode' is 'kswap'; known are debugfs, reclaim"),
        (in_header(mode="kswapd"), "mode 'kswapd' needs an ev=zone with the zones' sizes and watermarks in 'zi'"),
        (in_header(layout="random"), "header field 'layout' is 'random'; known are perm, ident"),
        (in_header(lru_gen_enabled="0x0000"), "'mode' is 'debugfs', which needs MGLRU"),
        (in_header(lru_gen_enabled="0x0001"), "'lru_gen_enabled' is '0x0001'; known are 0x0000, 0x0007"),
        (in_header(n="700"), "header field 'n' is '700', not a number from"),
        (in_header(n=True), "header field 'n' is True, not a number from"),
        (in_header(acc=-1), "header field 'acc' is -1, not a number from"),
        (in_header(rounds=None), "header field 'rounds' is None, not a number from"),
        (in_header(target=[1]), "header field 'target' is [1], not a number from"),
        (in_header(seed="9"), "header field 'seed' is '9', not a number"),
        (in_header(legend=3), "ev=hdr: field 'legend' is 3, not a state byte for every letter"),
        (in_header(seed=10), "round 1: schedule hash is"),
        (in_header(acc=399), "ev=list of round 1: field 'cnt' is 400, not 399"),
        (in_header(wl="uniform"), "round 1: schedule hash is"),
        (in_header(layout="ident"), "round 1: schedule hash is"),
        (in_header(rounds=2), "cut: it has 11 steps where its header asks for 8"),
        (in_header(n=701), "dump of 700 pages where the header says 701"),
        (in_step(1, ev="touch"), "step 0 is ev=touch of round 0, where ev=start of round 0 is due"),
        (in_step(3, pg="A" * 699), "dump of 699 pages where the header says 700"),
        (in_step(3, res="700"), "ev=touch of round 1: field 'res' is '700', not a number"),
        (in_step(4, max=None), "ev=age of round 1: field 'max' is None, not a number"),
        (in_step(4, x=1.5), "ev=age of round 1: field 'x' is 1.5, not a number"),
        (in_step(4, lg=None), "ev=age of round 1: field 'lg' is None, not a list of generations"),
        (in_step(4, st=[]), "ev=age of round 1: field 'st' is [], not counters"),
        (in_step(4, c="z"), "ev=age of round 1: field 'c' is 'z', not 'a' or 'b'"),
        (in_step(4, fresh="0" * 16), "field 'fresh' is of a file, but header field 'file' names none"),
        (in_header(file="tape"), "header field 'file' is 'tape'; known are none, read, mmap, mmaprnd, write"),
        (in_header(file="read", na=600, nf=99), "'na' 600 and 'nf' 99 are not the 700 pages of 'n'"),
        (in_header(file="read", na=600, nf=100, read_ahead_kb=-1), "'read_ahead_kb' is -1, not a number from 0 to"),
        (in_header(thp=1), "header field 'thp_defrag' is None; it names one of always, defer"),
        (in_header(thp=1, thp_defrag="always [sometimes]"), "'always [sometimes]'; it names one of always, defer"),
        (in_header(thp=1, thp_defrag="[never]"), "ev=start of round 0: field 'ahp' is missing"),
        (in_header(thp=1, kind="nested"), "'thp' is 1: huge pages are modelled for one process or NPT guest"),
        (in_header(thp=1, kind="vm", npt="N"), "'thp' is 1: huge pages are modelled for one process or NPT guest"),
        (in_step(4, ahp=0), "field 'ahp' is of huge pages, but header field 'thp' is not 1"),
        (in_header(fsync=2), "field 'fsync' is 2, not 0 or 1"),
        (in_header(dirty=[1, 2]), "field 'dirty' is [1, 2], not four numbers"),
        (in_step(4, t=5), "ev=age of round 1: unknown field 't'"),
        (in_step(4, rez=5), "ev=age of round 1: unknown field 'rez': did you mean 'res'?"),
        (in_step(4, r=2), "step 3 is ev=age of round 2, where ev=age of round 1 is due"),
        (in_step(4, lgf={"tiers": {"1": {"0": ["e5"]}}}), "{'0': ['e5']}}}, not tier counters"),
        (in_step(4, mev={"max": 1}), "counter max of 'mev' is 1, though there is no limit"),
        (lambda lines: lines[-3]["st"].update(pgsteal=1), "counter pgsteal of 'st' went back to 1"),
        (lambda lines: lines[-2].pop("r"), "ev=evict: field 'r' is missing"),
        (in_header(drain=0), "header field 'drain' or 'nage' is not 1"),
        (in_header(flagbits=[27, 25, 2, 8, 2, 8]), "header field 'flagbits' is [27, 25, 2, 8, 2, 8]; known are"),
        (in_header(npt="X"), "header field 'npt' is 'X'; it is 'Y' or 'N'"),
        (lambda lines: lines.pop(-2), "cut: it has 10 steps where its header asks for 11"),
        (lambda lines: lines[-1].update(sum=3), "ev=end: unknown field 'sum'"),
        (lambda lines: lines[3].update(lh="0" * 16), "round 1: schedule hash is 0000000000000000, but this header's"),
        (lambda lines: lines.pop(), "cut: the last line is not ev=end"),
        (lambda lines: lines.pop(0), "the first line is not ev=hdr"),
        (lambda lines: lines.pop(1), "step 0 is ev=populate of round 0, where ev=start of round 0 is due"),
        (in_step(1, c="a"), "step 0 is ev=start of round 0 with 'c' 'a', where ev=start of round 0 without 'c' is due"),
        (in_header(seed=float("inf")), "header field 'seed' is inf, not a number"),
        (lambda lines: lines.insert(1, dict(lines[0])), "line 2: a second ev=hdr: a recording has one"),
        (lambda lines: lines.insert(4, {"ev": "end", "timeout": 5}), "line 5: ev=end, but 12 more follow"),
        (lambda lines: lines.insert(4, {"ev": "died"}), "line 5: ev=died: it is the last line but one"),
        (lambda lines: lines.insert(4, {"ev": "zone", "zi": {}}), "line 5: ev=zone: it is the second line"),
        (lambda lines: lines.insert(1, {"ev": "zone", "zi": {}}), "line 2: ev=zone, but header field 'mode' is"),
        (in_step(4, res=None), "line 6: ev=age of round 1: field 'res' is None, not a number"),
    ],
)  # fmt: skip
def test_a_changed_recording_is_refused(whole: Path, damaged: Path, damage: Damage, why: str) -> None:
    lines = copy.deepcopy(read_lines(whole))
    damage(lines)
    write_lines(damaged, lines)
    assert why in complaint(damaged)


@pytest.mark.parametrize(
    "damage",
    [
        in_step(4, r=[[["x" * 999]]]),
        in_step(4, ev="x" * 999),
        in_step(4, **{"x" * 999: 1}),
        in_header(flagbits="x" * 999),
        in_header(npt="x" * 999),
        in_header(rel="x" * 999),
        in_header(seed="x" * 999),
        in_list(1, lh="x" * 999),
        lambda lines: (lines[1]["st"].update({"x" * 999: 2}), lines[2]["st"].update({"x" * 999: 1})),
        in_step(4, mev={"x" * 999: 1}),
    ],
)
def test_what_is_long_is_cited_by_its_beginning(whole: Path, damaged: Path, damage: Damage) -> None:
    lines = copy.deepcopy(read_lines(whole))
    damage(lines)
    write_lines(damaged, lines)
    assert "x" * 30 in complaint(damaged)
    assert len(complaint(damaged)) < 300


def test_a_page_state_that_the_legend_lacks_is_refused(whole: Path, damaged: Path) -> None:
    lines = read_lines(whole)
    lines[2]["pg"] = "?" + lines[2]["pg"][1:]
    write_lines(damaged, lines)
    with pytest.raises(UserError, match="page dump of round 0 has '\\?', which the legend lacks"):
        compare_recording(read_recording(damaged))


@pytest.mark.parametrize("field", ["x", "res", "min", "max", "lg", "lg-file", "st", "pg", "pgh", "resh", "lgf"])
def test_any_changed_field_of_a_step_is_a_difference(whole: Path, damaged: Path, field: str) -> None:
    lines = read_lines(whole)
    step = lines[-2]
    assert step["ev"] == "evict"
    changed = {
        "lg": [[seq, pages + 1, 0] for seq, pages, _ in step["lg"]],
        "st": {**step["st"], "pgsteal": step["st"]["pgsteal"] + 1},
        "pg": step["pg"][::-1],
        "pgh": step["resh"],
        "resh": step["pgh"],
        "lgf": {"tiers": {"1": {"0": ["5e"]}}},
        "lg-file": [[seq, pages, 1] for seq, pages, _ in step["lg"]],
    }
    step[field.removesuffix("-file")] = changed.get(field, 77)
    write_lines(damaged, lines)
    comparison = compare_recording(read_recording(damaged))
    assert comparison.exact == comparison.steps - 1
    assert comparison.first is not None
    assert (comparison.first.step, comparison.first.event, comparison.first.round) == (10, "evict", 3)


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    path = tmp_path_factory.mktemp("recording") / "huge.jsonl.gz"
    make_recording(path, n=1300, target=700, thp=1, thp_defrag="always [never]")
    return read_lines(path)


def test_a_recording_of_huge_pages_is_exact_until_its_blocks_are_changed(huge: Lines, damaged: Path) -> None:
    lines = copy.deepcopy(huge)
    assert lines[2]["hp"] == "HHs"
    write_lines(damaged, lines)
    comparison = compare_recording(read_recording(damaged))
    assert comparison.exact == comparison.steps
    lines[2]["hp"], lines[2]["ahp"] = "HPs", 512
    write_lines(damaged, lines)
    comparison = compare_recording(read_recording(damaged))
    assert comparison.exact == comparison.steps - 1
    assert (comparison.worst["ahp"], comparison.worst["hp"]) == (512, 1)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (in_step(1, hp="HH"), "field 'hp' is of 2 blocks of 2 MiB where the header says 3"),
        (in_step(1, hp="HHx"), "field 'hp' is 'HHx', not H, P, s or . for each 2 MiB"),
        (in_step(2, hpn=[0, 1, 0, 2]), "field 'hpn' is [0, 1, 0, 2], but 'hp' has [0, 2, 0, 1]"),
        (in_step(1, ahp=-1), "field 'ahp' is -1, not a number"),
        (in_header(thp=0), "field 'ahp' is of huge pages, but header field 'thp' is not 1"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(huge: Lines, damaged: Path, damage: Damage, why: str) -> None:
    lines = copy.deepcopy(huge)
    damage(lines)
    write_lines(damaged, lines)
    assert why in complaint(damaged)


SHIPPED = Path(__file__).parents[2] / "recordings" / "k6.12_vm_scan_debugfs_r2.jsonl.gz"


@pytest.mark.parametrize("shipped", [False, True])
def test_every_flipped_byte_of_the_gzip_is_refused_or_a_difference(whole: Path, damaged: Path, shipped: bool) -> None:
    content = (SHIPPED if shipped else whole).read_bytes()
    named = content[3] & 8  # the gzip header ends with the file's name
    start = content.index(b"\0", 10) + 1 if named else 10
    random = np.random.default_rng(1)
    for position in random.choice(np.arange(start, len(content)), 100, replace=False).tolist():
        flipped = bytearray(content)
        flipped[position] ^= int(random.integers(1, 256))
        damaged.write_bytes(flipped)
        try:
            comparison = compare_recording(read_recording(damaged))
        except UserError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017 - either way will do
            assert str(error).startswith(f"{damaged}: ")  # noqa: PT017
        else:
            assert comparison.exact < comparison.steps or gzip.decompress(flipped) == gzip.decompress(content)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2**31),
        ("n", 63),
        ("acc", 2**31),
        ("acc", 2**40),
        ("rounds", 10**8),
        ("rounds", 10**12),
        ("seed", 2**64),
        ("seed", True),
        ("swappiness", 201),
        ("swappiness", 10**6),
        ("evict_swappiness", 2**64),
        ("evict_swappiness", "60"),
        ("target", 2**63),
        ("target", 0),
        ("target", 1.5),
        ("wl", [1, 2]),
        ("wl", ["zipf"]),
        ("kind", {}),
        ("kinds", ["host", "vm"]),
        ("mode", ["debugfs"]),
        ("layout", 1),
        ("rel", ["6.12"]),
        ("ver", {"a": 1}),
        ("label", [[[]]]),
        ("drain", "1"),
    ],
)
def test_a_header_out_of_range_is_refused_before_any_work(whole: Path, damaged: Path, field: str, value: Any) -> None:
    header, *rest = read_lines(whole)
    write_lines(damaged, [{**header, field: value}, *rest])
    assert repr(field) in complaint(damaged)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("res", 2**63),
        ("x", 10**400),
        ("st", {"pgmajfault": 2**63}),
        ("st", {"kernel": 10**15}),
        ("lg", [[0, 2**40, 0]]),
        ("lg", [[0, 2**70, 0]]),
        ("lgf", {"tiers": {"0": {"0": ["9" * 5000 + "r"]}}}),
        ("ev", ["start"]),
        ("ev", 7),
        ("ev", None),
    ],
)
def test_a_count_that_no_kernel_has_is_refused(whole: Path, damaged: Path, field: str, value: Any) -> None:
    header, start, *rest = read_lines(whole)
    write_lines(damaged, [header, {**start, field: value}, *rest])
    assert complaint(damaged)


def test_small_lines_that_tell_of_endless_work_are_refused(whole: Path, damaged: Path) -> None:
    header, *rest = read_lines(whole)
    write_lines(damaged, [{**header, "n": 1 << 20, "rounds": 65, "acc": 1}, *rest])
    assert complaint(damaged) == (
        "header fields 'n' 1048576 and 'rounds' 65: 68,157,440 pages in all rounds together; at most 67,108,864 are "
        "replayed"
    )
    write_lines(damaged, [{**header, "n": 1 << 20, "rounds": 64, "acc": 1}, *rest])
    assert "pages in all rounds" not in complaint(damaged)


def test_a_recording_that_died_before_its_first_step_is_refused(whole: Path, damaged: Path) -> None:
    header = read_lines(whole)[0]
    write_lines(damaged, [header, {"ev": "end", "died": 9}])
    assert "ev=start" in complaint(damaged)


@pytest.mark.parametrize("piece", [b"\n", b"[", b" " * 64, b"{},"])
def test_a_gzip_bomb_is_not_unpacked(damaged: Path, piece: bytes) -> None:
    with gzip.open(damaged, "wb") as file:
        for _ in range(260):
            file.write(piece * ((1 << 18) // len(piece)))
    tracemalloc.start()
    try:
        assert complaint(damaged)
        assert tracemalloc.get_traced_memory()[1] < 256 << 20
    finally:
        tracemalloc.stop()


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl.gz")
    assert "FIFO" in complaint(tmp_path / "pipe.jsonl.gz")
    assert "FIFO" in complaint(Path("/dev/zero"))
    assert "directory" in complaint(tmp_path)
    with pytest.raises(UserError, match="not the name of a file"):
        read_recording(tmp_path / "a\0b")
