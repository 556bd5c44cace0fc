"""What the fuzzers of all rooms have in common: pieces to mutate inputs with, how many, and what may come of one.

An input is accepted, and then what comes of it is lawful, or it is refused in one line; within seconds, in bounded
memory, and without a warning, which pytest makes an error. CI runs a slice. ``FUZZ=5000 pytest -m slow -k fuzz`` runs
as many inputs in each test that is marked slow; ``--hypothesis-show-statistics`` counts what came of them.
"""

from __future__ import annotations

import os
import resource
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, currently_in_test_context, event, settings
from hypothesis import strategies as st

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.policies import PolicyError

SECONDS = 30.0  # of CPU time that an input may take: several times what any takes on an idle machine
MAX_BYTES = 1 << 30  # that it may take of memory
BOUNDED = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(BOUNDED, max_examples=int(os.environ.get("FUZZ", "2000")), database=None)

NUMBERS = st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, 63, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 10**30])
HOSTILE = st.sampled_from(
    [
        "", " ", "\0", "\x1b[31m", "\x1b]0;x\x07", "[/x]", "[bold]", "=1+1", "\u202e", "\u2028", "\ud800", "é", "٣",
        "²", "-", "--", "1e999", "nan", "-inf", "0x10", "1_000", "9" * 20, "9" * 5000, " " * 5000, "a" * 5000,
        "../../etc", "/dev/zero", "%s", "{0}", "${x}", "<script>", "'; --", "\r\n", "\\", "None", "true", "1.5.5",
        ".", "/", ":", "=",
    ]
)  # fmt: skip
TEXTS = HOSTILE | st.text(max_size=12)
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
"""A value of any kind, as JSON and TOML have them."""

Edit = tuple[int, int, str]
Cut = tuple[int, int, bytes]
CUTS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 40), st.binary(max_size=8)), min_size=1, max_size=3)
"""Where in a file so many bytes are replaced by others."""


def edits_with(pieces: list[str], length: int = 2000) -> st.SearchStrategy[list[Edit]]:
    """Where in a text so many characters are replaced by one of the pieces, or by anything."""
    piece = st.sampled_from(pieces) | TEXTS
    return st.lists(st.tuples(st.integers(0, length), st.integers(0, 12), piece), min_size=1, max_size=4)


def edited(text: str, edits: list[Edit]) -> str:
    """A text after some edits."""
    for place, cut, piece in edits:
        text = text[: place % (len(text) + 1)] + piece + text[place % (len(text) + 1) + cut :]
    return text


def cut_up(content: bytes, cuts: list[Cut]) -> bytes:
    """A file's bytes after some cuts."""
    for place, cut, piece in cuts:
        content = content[: place % (len(content) + 1)] + piece + content[place % (len(content) + 1) + cut :]
    return content


def phrases(words: list[str], most: int = 8) -> st.SearchStrategy[str]:
    """Texts of words that mean something where they are read, in any order, with junk in between."""
    return st.lists(st.sampled_from(words) | TEXTS, max_size=most).map(" ".join) | st.lists(
        st.sampled_from(words), max_size=most
    ).map("".join)


def put(tree: Any, path: list[str | int], value: Any) -> None:
    """Puts a value at a place of nested tables and lists, as far as there is such a place."""
    for name in path[:-1]:
        if isinstance(tree, dict):
            tree = tree.setdefault(name, {})
        elif isinstance(tree, list) and tree and isinstance(name, int):
            tree = tree[name % len(tree)]
        else:
            return
    if isinstance(tree, dict):
        tree[path[-1]] = value
    elif isinstance(tree, list) and tree and isinstance(path[-1], int):
        tree[path[-1] % len(tree)] = value


def outcome(use: Callable[[], object]) -> str:
    """What comes of an input: "" if it is accepted, or the one line that refuses it; anything else is a fault."""
    start, held = time.process_time(), _held_bytes()
    try:
        use()
        said = ""
    except (UserError, PolicyError) as error:
        said = str(error)
        assert len(said.splitlines()) == 1, said
    assert time.process_time() - start < SECONDS
    assert _held_bytes() - held < MAX_BYTES
    _count("refused" if said else "accepted")
    return said


def check_said(code: int, out: str, err: str) -> None:
    """What a command may end with: 0, 1 or 2, and nothing that a terminal would obey."""
    assert code in (0, 1, 2), err
    assert "Traceback" not in err
    assert "a bug in coldfleet" not in err
    for text in (out, err):
        assert not set(text) & {"\x1b", "\0", "\x07", "\x7f", "\u202e", "\u2028"}, text
    if code == 2:
        assert not out
        assert sum(line.startswith("coldfleet: ") for line in err.splitlines()) >= 1, err
    _count(f"exit {code}")


def _count(end: str) -> None:
    """For the statistics."""
    if currently_in_test_context():
        event(end)


def _held_bytes() -> int:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def write_trace(path: Any, rows: list[tuple[Any, ...]], types: list[tuple[Any, ...]]) -> None:
    """A packing trace: ``rows`` of vm (vmTypeId, starttime, endtime), ``types`` (vmTypeId, machineId, core, memory)."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE vm (vmId, tenantId, vmTypeId, priority, starttime, endtime)")
        db.execute("CREATE TABLE vmType (id, vmTypeId, machineId, core, memory, hdd, ssd, nic)")
        db.executemany("INSERT INTO vm VALUES (?, 7, ?, 0, ?, ?)", [(n, *row) for n, row in enumerate(rows)])
        db.executemany("INSERT INTO vmType VALUES (?, ?, ?, ?, ?, 0, 0, 0)", [(n, *row) for n, row in enumerate(types)])
    db.close()
