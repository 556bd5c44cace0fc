"""A recording with one bit flipped is refused or gives a difference; it never passes and never crashes.

A flip in the file breaks its checksum, unless it leaves the text as it was: there are many ways to pack the same text.
In the text, unpacked and packed again, a flip has to be seen in every field that the simulator needs or compares;
docs/truth.md lists the others.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldfleet.hostsim.replay.comparison import compare_recording
from coldfleet.hostsim.replay.observe import COUNTERS, LIST_SIZES
from coldfleet.hostsim.replay.recording import read_recording
from coldfleet.hostsim.spec.errors import UserError

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "tests" / "recordings").glob("*.jsonl.gz"))
GZIP_HEADER = 10  # bytes, and the file's name if there is one
FNAME = 8

UNCLAIMED = (
    "cur", "vm", "mev", "mi", "zi", "kvm", "lgf.mm", "ver", "rel", "id", "label", "swappiness", "op", "guest_paging",
    "dk", "ior", "iow", "fmap", "nd", "nwb", "pgd", "disk", "fault_around", "dirty", "thp_enabled", "thp_defrag",
    "khp_defrag", "min_ttl_ms",
)  # fmt: skip
"""Fields of which a change may pass."""


def verdict(path: Path) -> str:
    """What becomes of a file: refused, different or passed. Anything else than UserError is a crash."""
    try:
        comparison = compare_recording(read_recording(path))
    except UserError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017 - one of three good ends
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        return "refused"
    return "passed" if comparison.exact == comparison.steps else "different"


def flip(content: bytes, position: int, bit: int) -> bytes:
    flipped = bytearray(content)
    flipped[position] ^= 1 << bit
    return bytes(flipped)


def same_text(one: Path, other: Path) -> bool:
    return gzip.decompress(one.read_bytes()) == gzip.decompress(other.read_bytes())


def changed_fields(before: bytes, after: bytes) -> Iterator[tuple[str, ...]]:
    """The fields of a line that differ."""
    yield from _changed(json.loads(before), json.loads(after), ())


def _changed(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            yield from _changed(before.get(key), after.get(key), (*path, key))
    elif before != after:
        yield path


def is_claimed(path: tuple[str, ...], lru_gen: bool) -> bool:
    if path[0] == "st":
        return path[1] in COUNTERS or (path[1] in LIST_SIZES and not lru_gen)
    return path[0] not in UNCLAIMED and ".".join(path[:2]) not in UNCLAIMED


def flip_texts(path: Path, count: int, seed: int, target: Path) -> dict[str, int]:
    """Flips that many bits of the text, one at a time, most of them outside of the page dumps, which are the bulk."""
    text = gzip.decompress(path.read_bytes())
    lines = text.splitlines(keepends=True)
    lru_gen = b'"lru_gen_enabled":"0x0007"' in lines[0]
    random = np.random.default_rng(seed)
    ends = {"refused": 0, "different": 0, "passed": 0}
    for _ in range(count):
        number = int(random.integers(len(lines)))
        line = lines[number]
        dump = line.find(b'"pg":"')
        position = int(random.integers(len(line) if random.random() < 0.2 or dump < 0 else dump))
        damaged = flip(line, position, int(random.integers(8)))
        target.write_bytes(gzip.compress(b"".join([*lines[:number], damaged, *lines[number + 1 :]]), 1))
        end = verdict(target)
        ends[end] += 1
        if end == "passed":
            claimed = [field for field in changed_fields(line, damaged) if is_claimed(field, lru_gen)]
            assert not claimed, f"{path.name} line {number} byte {position}: {claimed} passed"
    return ends


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_a_flipped_bit_of_the_file_never_passes(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    start = content.index(b"\0", GZIP_HEADER) + 1 if content[3] & FNAME else GZIP_HEADER
    random = np.random.default_rng(len(content))
    target = tmp_path / path.name
    for position in [start, *random.integers(start, len(content), 8).tolist(), len(content) - 8, len(content) - 1]:
        target.write_bytes(flip(content, position, int(random.integers(8))))
        assert verdict(target) == "refused" or same_text(path, target), position


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_a_flipped_bit_of_a_claimed_field_never_passes(path: Path, tmp_path: Path) -> None:
    ends = flip_texts(path, 8, path.stat().st_size, tmp_path / path.name)
    assert ends["refused"] + ends["different"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_many_flipped_bits_of_claimed_fields_never_pass(seed: int, tmp_path: Path) -> None:
    for path in SHIPPED:
        ends = flip_texts(path, 80, seed, tmp_path / path.name)
        assert ends["refused"] > ends["passed"]


def test_the_docs_list_what_is_not_claimed() -> None:
    text = (ROOT / "docs" / "truth.md").read_text()
    for name in UNCLAIMED:
        assert f"`{name}`" in text, name
