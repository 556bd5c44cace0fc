"""Recordings of real kernels: JSON lines, gzipped, one file a run; read and checked at the door.

The format is described in tests/recordings/README.md. A recording that is cut, damaged or contradicts
itself is refused; nothing of it is guessed.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hostsim.errors import UserError
from hostsim.schedule import LAYOUTS, WORKLOADS, fnv1a

KINDS = ("host", "vm", "shadow", "nested", "rmap")
MODES = ("debugfs", "reclaim", "ageonly", "limit")
STEP_EVENTS = ("start", "populate", "touch", "age", "evict", "reclaim")

SWAPPED = 256  # page states beyond the state byte
NEVER_PRESENT = 257


@dataclass(frozen=True)
class Header:
    """What was recorded: kernel, guest, schedule and mode."""

    kernel: str
    kind: str
    workload: str
    mode: str
    pages: int
    accesses: int
    rounds: int
    seed: int
    layout: str
    target: int
    swappiness: int
    evict_swappiness: int
    raw: dict[str, Any]


@dataclass(frozen=True)
class Recording:
    """One recording: its header, its steps in order, and the hash of each round's accesses where given."""

    path: Path
    header: Header
    steps: list[dict[str, Any]]
    list_hashes: dict[int, str]

    def page_states(self, step: dict[str, Any]) -> npt.NDArray[np.uint16] | None:
        """The dump of all pages at a step: state bytes, SWAPPED or NEVER_PRESENT; None if it has none."""
        dump = step.get("pg")
        if dump is None:
            return None
        legend = {".": SWAPPED, "_": NEVER_PRESENT, **self.header.raw["legend"]}
        try:
            return np.array([legend[c] for c in dump], np.uint16)
        except KeyError as error:
            message = f"{self.path}: page dump of round {step['r']} has {error}, which the legend lacks"
            raise UserError(message) from None


def page_state_hash(states: npt.NDArray[np.uint16]) -> str:
    """pgh: FNV-1a over two characters a page: "..", "__" or the state byte in hex."""
    text = np.empty((len(states), 2), np.uint32)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text[:, 0] = digits[(states >> 4) & 15]
    text[:, 1] = digits[states & 15]
    text[states == SWAPPED] = ord(".")
    text[states == NEVER_PRESENT] = ord("_")
    return f"{int(fnv1a(text.ravel())):016x}"


def residency_hash(states: npt.NDArray[np.uint16]) -> str:
    """resh: FNV-1a over one value a page: 0 swapped, 1 never present, 2 resident."""
    values = np.full(len(states), 2, np.uint32)
    values[states == SWAPPED] = 0
    values[states == NEVER_PRESENT] = 1
    return f"{int(fnv1a(values)):016x}"


def read_recording(path: Path) -> Recording:
    """Reads and checks a recording; raises UserError with one line that says what is wrong with it."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
    except FileNotFoundError:
        raise UserError(f"{path}: no such recording") from None
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cut or damaged, not a whole gzip file ({error}); get a fresh copy") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line that is not JSON ({error}); get a fresh copy") from None
    if not lines or not all(isinstance(line, dict) and "ev" in line for line in lines):
        raise UserError(f"{path}: not a recording: every line is to be a JSON object with an 'ev'")
    if lines[0]["ev"] != "hdr":
        raise UserError(f"{path}: not a recording: the first line is not ev=hdr")
    if lines[-1]["ev"] != "end":
        raise UserError(f"{path}: cut: the last line is not ev=end; get a whole copy")
    header = _read_header(path, lines[0])
    steps = [line for line in lines if line["ev"] in STEP_EVENTS]
    hashes = {line["r"]: line["lh"] for line in lines if line["ev"] == "list"}
    recording = Recording(path, header, steps, hashes)
    _check_steps(recording)
    return recording


def _read_header(path: Path, raw: dict[str, Any]) -> Header:
    def field(name: str, kind: type) -> Any:
        value: Any = raw.get(name)
        good = isinstance(value, kind) and not isinstance(value, bool)
        if not good or (kind is int and value < 0):
            raise UserError(f"{path}: header field {name!r} is {value!r}, not a {kind.__name__}")
        return value

    def choice(name: str, known: tuple[str, ...]) -> str:
        value: str = field(name, str)
        if value not in known:
            raise UserError(f"{path}: header field {name!r} is {value!r}; known are {', '.join(known)}")
        return value

    if not isinstance(raw.get("legend"), dict):
        raise UserError(f"{path}: header field 'legend' is missing")
    release: str = field("rel", str)
    if raw.get("mix"):
        raise UserError(f"{path}: header field 'mix' is set; schedules of L1 and L2 mixed are not known here")
    return Header(
        kernel=".".join(release.split(".")[:2]),
        kind=choice("kind", KINDS),
        workload=choice("wl", WORKLOADS),
        mode=choice("mode", MODES),
        pages=field("n", int),
        accesses=field("acc", int),
        rounds=field("rounds", int),
        seed=field("seed", int),
        layout=choice("layout", LAYOUTS),
        target=field("target", int),
        swappiness=field("swappiness", int),
        evict_swappiness=field("evict_swappiness", int),
        raw=raw,
    )


def _check_steps(recording: Recording) -> None:
    path = recording.path
    for step in recording.steps:
        where = f"{path}: ev={step['ev']} of round {step.get('r')}"
        for name in ("r", "x", "res", "min", "max"):
            if not isinstance(step.get(name), int):
                raise UserError(f"{where}: field {name!r} is {step.get(name)!r}, not a number")
        if not isinstance(step.get("lg"), list) or not isinstance(step.get("st"), dict):
            raise UserError(f"{where}: field 'lg' or 'st' is missing")
        dump = step.get("pg")
        if dump is not None and len(dump) != recording.header.pages:
            raise UserError(f"{where}: dump of {len(dump)} pages where the header says {recording.header.pages}")
    if [step["ev"] for step in recording.steps[:2]] != ["start", "populate"]:
        raise UserError(f"{path}: cut: it does not begin with ev=start and ev=populate")
