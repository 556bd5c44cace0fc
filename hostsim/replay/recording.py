"""Recordings of real kernels: JSON lines, gzipped, one file a run; read and checked at the door.

The format is described in tests/recordings/README.md. A recording that is cut, damaged or contradicts
itself is refused; nothing of it is guessed.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.replay.recording_checks import contradictions, unique_keys, wrong_lines
from coldfleet.hostsim.spec.checks import MAX_SWAPPINESS
from coldfleet.hostsim.spec.errors import UserError, cited
from coldfleet.hostsim.spec.input_file import open_input
from coldfleet.hostsim.spec.units import PAGE_BYTES
from coldfleet.hostsim.workload.mix_schedule import WORKLOADS as MIX_WORKLOADS
from coldfleet.hostsim.workload.schedule import FNV_OFFSET, FNV_PRIME, LAYOUTS, WORKLOADS, fnv1a

GUEST_KINDS = ("host", "vm", "shadow", "nested", "rmap", "mix")
DUO = "duo"
GLOBAL_MODE = "kswapd"  # no memcg limits: the host's memory runs out
MODES = ("debugfs", "reclaim", "ageonly", "limit", GLOBAL_MODE)
ZONE_FIELDS = ("managed", "free", "low", "high")
CLASSIC_MODES = ("reclaim", "limit")  # those that the classic LRU has, too
MGLRU_ON, MGLRU_OFF = "0x0007", "0x0000"  # header field lru_gen_enabled
STEP_EVENTS = ("start", "populate", "touch", "age", "evict", "reclaim", "parent")

SWAPPED = 256  # page states beyond the state byte
NEVER_PRESENT = 257

MAX_GUESTS = 2
MAX_SEED = 2**64 - 1  # a uint64
MIN_PAGES = 64  # fewer leave a schedule without a hot set
MAX_PAGES = 1 << 20  # 4 GiB a guest, 16 times the largest recording
MAX_ROUNDS = 10_000
MAX_ACCESSES = 1 << 24  # in all rounds together: 64 MiB of lists a guest
MAX_ROUND_PAGES = 1 << 26  # pages times rounds, as some steps walk all pages: 85 times the largest recording
MAX_ZONE_PAGES = 1 << 31
MAX_TEXT_BYTES = 64 << 20  # unpacked; the largest recording has 1.4 MB
MAX_VALUES = 2_000_000  # of all lines: each takes some 100 bytes of memory
PROTECTIONS = ("none", "low", "min")
FILE_ACCESSES = ("none", "read", "mmap", "mmaprnd", "write")
MAPPED = ("mmap", "mmaprnd")  # the latter with MADV_RANDOM
HUGE_KINDS = ("host", "vm")
THP_DEFRAG = {"always": True, "defer": False, "defer+madvise": True, "madvise": True, "never": False}
"""transparent_hugepage/defrag, and whether a fault reclaims for a huge page that was asked for by madvise."""
DEFAULT_SWAPPINESS = 60
MAX_MIN_TTL_MS = 1 << 31
MAX_READ_AHEAD_KB = 1 << 16
OP_WRITE = 2  # header field op: the rounds' touches write


@dataclass(frozen=True)
class RecordedGuest:
    """Who touched a memcg's memory, by which schedule. ``mixed``: L1 and L2 as in hostsim.workload.mix_schedule."""

    kind: str
    workload: str
    seed: int
    mixed: bool


@dataclass(frozen=True)
class RecordedFile:
    """The file of a guest's process: its ``pages`` have the numbers after those of the anonymous ones.

    ``access``: how it was accessed, one of FILE_ACCESSES. ``synced``: written back after each round's touches.
    ``readahead_pages``: the most that was read of it at a time beside the page asked for.
    """

    access: str
    pages: int
    synced: bool
    readahead_pages: int


@dataclass(frozen=True)
class RecordedHugePages:
    """The guest's memory was huge where it could be. ``reclaims``: a fault reclaimed for a huge page (defrag).

    ``collapses``: khugepaged made huge pages of small ones; in a replay it does not.
    """

    reclaims: bool
    collapses: bool


@dataclass(frozen=True)
class Header:
    """What was recorded: kernel, guests, schedule and mode. Two guests are children of one parent memcg."""

    kernel: str
    guests: tuple[RecordedGuest, ...]
    mode: str
    pages: int
    accesses: int
    rounds: int
    layout: str
    target: int
    swappiness: int
    evict_swappiness: int
    writes: bool
    lru_gen: bool  # MGLRU was on
    file: RecordedFile | None
    protection: str  # what guest a has of ``protected_pages``, one of PROTECTIONS: memory.low, memory.min
    protected_pages: int
    huge: RecordedHugePages | None
    min_ttl_ms: int
    zones: tuple[dict[str, int], ...]  # of the host's memory, lowest first, in pages; empty unless mode is kswapd
    raw: dict[str, Any]

    @property
    def anon_pages(self) -> int:
        """Of ``pages``, those that are anonymous; the others are the file's."""
        return self.pages - (self.file.pages if self.file else 0)

    @property
    def label(self) -> str:
        """What was recorded, in a word: host, vm, hostident, mixvm, duovm, write ..."""
        if len(self.guests) > 1:
            name = {"vm host": "duovm", "host vm": "duohv"}.get(" ".join(guest.kind for guest in self.guests), "duo")
            return name if self.protection == "none" else f"{name}{self.protection}{self._protected_percent}"
        guest = self.guests[0]
        if self.file:
            return self._file_label(self.file)
        if self.huge:
            variants = {"ident": self.layout == "ident", "dm": self.huge.reclaims, "kh": self.huge.collapses}
            return f"t{guest.kind}" + "".join(name for name, given in variants.items() if given)
        if not self.lru_gen:
            return f"classic{guest.kind}"
        if self.mode == GLOBAL_MODE:
            return "glob" if guest.kind == "host" else f"glob{guest.kind}"
        if guest.mixed and guest.kind != "mix":
            return f"mix{guest.kind}"
        return "write" if self.writes else guest.kind + ("ident" if self.layout == "ident" else "")

    @property
    def _protected_percent(self) -> int:
        """The protected pages, of those of a guest."""
        return self.protected_pages * 100 // self.pages

    def _file_label(self, file: RecordedFile) -> str:
        """fread, fmmap, fdirty: a file alone; fmix, fmixm: beside as much anonymous memory; fvm: beside a guest."""
        if self.anon_pages == 0:
            name = {
                "read": "fread",
                "mmap": "fmmap",
                "mmaprnd": "fmmaprnd",
                "write": "fdirtys" if file.synced else "fdirty",
            }[file.access]
        elif self.guests[0].kind != "host":
            name = f"f{self.guests[0].kind}"
        else:
            name = {"read": "fmix", "mmap": "fmixm", "mmaprnd": "fmixmrnd", "write": "fmixw"}[file.access]
        name += f"s{self.swappiness}" if self.swappiness != DEFAULT_SWAPPINESS else ""
        return name + ("ident" if self.layout == "ident" else "")


@dataclass(frozen=True)
class Recording:
    """One recording: its header, its steps in order, and the hashes of lists of accesses: [guest, round]."""

    path: Path
    header: Header
    steps: list[dict[str, Any]]
    list_hashes: dict[tuple[int, int], str]

    def page_states(self, step: dict[str, Any]) -> npt.NDArray[np.uint16] | None:
        """The dump of all pages at a step: state bytes, SWAPPED or NEVER_PRESENT; None if it has none."""
        dump = step.get("pg")
        if dump is None:
            return None
        legend = {".": SWAPPED, "_": NEVER_PRESENT, **self.header.raw["legend"]}
        characters = np.frombuffer(dump.encode("utf-32-le", "surrogatepass"), np.uint32)
        known = np.array([ord(character) for character in legend], np.uint32)
        order = np.argsort(known)
        found = np.minimum(np.searchsorted(known, characters, sorter=order), len(known) - 1)
        unknown = characters[known[order[found]] != characters]
        if len(unknown):
            message = f"{self.path}: page dump of round {step['r']} has {chr(unknown[0])!r}, which the legend lacks"
            raise UserError(message)
        return np.array(list(legend.values()), np.uint16)[order[found]]

    def guest_of(self, step: dict[str, Any], field: str = "c") -> int:
        """The guest that a step describes ("c"), or whose half round it is ("h")."""
        return "ab".index(step.get(field, "a"))


def page_state_hash(states: npt.NDArray[np.uint16]) -> str:
    """pgh: FNV-1a over two characters a page: "..", "__" or the state byte in hex."""
    return f"{int(_hash_pairs(states, _PAIRS)):016x}"


def residency_hash(states: npt.NDArray[np.uint16]) -> str:
    """resh: FNV-1a over one value a page: 0 swapped, 1 never present, 2 resident."""
    return f"{int(fnv1a(_RESIDENCY[states])):016x}"


_PAIRS = np.array([list(f"{state:02x}") for state in range(SWAPPED)] + [list(".."), list("__")])
_PAIRS = _PAIRS.view(np.uint32).reshape(len(_PAIRS), 2)  # the two characters of every page state
_RESIDENCY = np.array([2] * SWAPPED + [0, 1], np.uint32)  # what resh says of it


@compiled
def _hash_pairs(states: npt.NDArray[np.uint16], pairs: npt.NDArray[np.uint32]) -> np.uint64:
    digest = FNV_OFFSET
    for state in states:
        for column in range(2):
            digest = (digest ^ np.uint64(pairs[state, column])) * FNV_PRIME
    return digest


def read_recording(path: Path) -> Recording:
    """Reads and checks a recording; raises UserError with one line that says what is wrong with it."""
    with open_input(path) as packed:
        try:
            lines = [_read_line(path, number, line) for number, line in enumerate(_text_lines(path, packed), 1)]
        except UserError:
            raise
        except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cut or damaged, not a whole gzip file ({error}); get a fresh copy") from None
    if not lines or not all(isinstance(line, dict) and isinstance(line.get("ev"), str) for line in lines):
        raise UserError(f"{path}: not a recording: every line is to be a JSON object with an 'ev'")
    if lines[0]["ev"] != "hdr":
        raise UserError(f"{path}: not a recording: the first line is not ev=hdr")
    if lines[-1]["ev"] != "end":
        raise UserError(f"{path}: cut: the last line is not ev=end; get a whole copy")
    _refuse(path, wrong_lines(lines))
    header = _read_header(path, lines[0], [line for line in lines if line["ev"] == "zone"])
    _refuse(path, contradictions(lines))
    steps = [line for line in lines if line["ev"] in STEP_EVENTS]
    listed = [line for line in lines if line["ev"] == "list"]
    hashes = {("ab".index(line.get("c", "a")), line["r"]): line["lh"] for line in listed}
    return Recording(path, header, steps, hashes)


def _read_line(path: Path, number: int, line: str) -> Any:
    """One line's value; raises UserError with its number in the file."""
    if not line.strip():
        raise UserError(f"{path}: line {number} is blank; get a fresh copy")
    try:
        return json.loads(line, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        why = f"{error.msg}, column {error.colno}"
    except (ValueError, RecursionError) as error:
        why = str(error)
    raise UserError(f"{path}: line {number} is not JSON ({why}); get a fresh copy")


def _text_lines(path: Path, packed: BinaryIO) -> Iterator[str]:
    """The lines of a gzipped text, unpacked one by one; raises UserError where it grows beyond all recordings."""
    left, values = MAX_TEXT_BYTES, MAX_VALUES
    with gzip.open(packed) as file:
        while line := file.readline(left + 1):
            left -= len(line)
            values -= sum(map(line.count, (b",", b"[", b"{")))
            if left < 0 or values < 0:
                raise UserError(
                    f"{path}: more than {MAX_TEXT_BYTES >> 20} MiB or {MAX_VALUES:,} values when it is unpacked: "
                    "no recording is so large"
                )
            yield line.decode()


def _refuse(path: Path, complaints: Iterator[str]) -> None:
    """Raises UserError for the first complaint, if there is one."""
    for complaint in complaints:
        raise UserError(f"{path}: {complaint}")


def _read_header(path: Path, raw: dict[str, Any], zone_lines: list[dict[str, Any]]) -> Header:
    def number(name: str, least: int, most: int, default: int | None = None) -> int:
        value: Any = raw.get(name, default)
        if not _is_number(value, least, most):
            raise UserError(f"{path}: header field {name!r} is {cited(value)}, not a number from {least} to {most}")
        return int(value)

    def choice(name: str, known: tuple[str, ...]) -> str:
        value = raw.get(name)
        if not isinstance(value, str) or value not in known:
            raise UserError(f"{path}: header field {name!r} is {cited(value)}; known are {', '.join(known)}")
        return value

    release = raw.get("rel")
    if not isinstance(release, str):
        raise UserError(f"{path}: header field 'rel' is {cited(release)}, not a text")
    duo = raw.get("kind") == DUO
    lru_gen = choice("lru_gen_enabled", (MGLRU_OFF, MGLRU_ON)) == MGLRU_ON
    mode = choice("mode", MODES)
    if not lru_gen and mode not in CLASSIC_MODES:
        raise UserError(
            f"{path}: header field 'mode' is {mode!r}, which needs MGLRU, but 'lru_gen_enabled' says it is off"
        )
    if not duo and (extra := [name for name in ("kinds", "wls", "seeds") if name in raw]):
        raise UserError(f"{path}: header field {extra[0]!r} is of two guests, but 'kind' is {cited(raw.get('kind'))}")
    rounds, pages = number("rounds", 0, MAX_ROUNDS), number("n", MIN_PAGES, MAX_PAGES)
    if pages * rounds > MAX_ROUND_PAGES:
        raise UserError(
            f"{path}: header fields 'n' {pages} and 'rounds' {rounds}: {pages * rounds:,} pages in all rounds "
            f"together; at most {MAX_ROUND_PAGES:,} are replayed"
        )
    access = choice("file", FILE_ACCESSES) if "file" in raw else "none"
    readahead_kb = 0 if access == "none" else number("read_ahead_kb", 0, MAX_READ_AHEAD_KB, 0)
    return Header(
        kernel=".".join(release.split(".")[:2]),
        guests=_read_guests(path, raw) if duo else _read_guests(path, _as_duo(raw)),
        mode=mode,
        pages=pages,
        accesses=number("acc", 0, MAX_ACCESSES // max(rounds, 1)),
        rounds=rounds,
        layout=choice("layout", LAYOUTS),
        target=number("target", 1, MAX_GUESTS * MAX_PAGES),
        swappiness=number("swappiness", 0, MAX_SWAPPINESS),
        evict_swappiness=number("evict_swappiness", 0, MAX_SWAPPINESS, MAX_SWAPPINESS),
        writes=raw.get("op") == OP_WRITE,
        lru_gen=lru_gen,
        file=_read_file(path, raw, access, pages, readahead_kb),
        protection=choice("prot", PROTECTIONS) if "prot" in raw else "none",
        protected_pages=number("protval", 0, MAX_GUESTS * MAX_PAGES) if "prot" in raw else 0,
        huge=_read_huge(path, raw) if raw.get("thp") else None,
        min_ttl_ms=number("min_ttl_ms", 0, MAX_MIN_TTL_MS, 0),
        zones=_read_zones(path, mode, zone_lines),
        raw=raw,
    )


def _read_file(path: Path, raw: dict[str, Any], access: str, pages: int, readahead_kb: int) -> RecordedFile | None:
    anon, of_file = raw.get("na", pages), raw.get("nf", 0)
    if anon + of_file != pages or (access == "none") != (of_file == 0):
        raise UserError(f"{path}: header fields 'na' {anon} and 'nf' {of_file} are not the {pages} pages of 'n'")
    if access == "none":
        return None
    if raw.get("kind") == DUO:
        raise UserError(f"{path}: header field 'file' is {access!r}, but 'kind' is {DUO!r}: a file is of one guest")
    return RecordedFile(access, of_file, bool(raw.get("fsync")), readahead_kb * 1024 // PAGE_BYTES)


def _read_huge(path: Path, raw: dict[str, Any]) -> RecordedHugePages:
    """How huge pages were had; raises UserError where they aren't modelled."""
    alone = not raw.get("mix") and raw.get("file", "none") == "none" and raw["mode"] != GLOBAL_MODE
    if not alone or raw["lru_gen_enabled"] == MGLRU_OFF or _mmu_kind(raw, raw["kind"]) not in HUGE_KINDS:
        raise UserError(
            f"{path}: header field 'thp' is 1: huge pages are modelled for one process or NPT guest ('kind' "
            f"{' or '.join(HUGE_KINDS)}) under MGLRU, without 'mix', 'file' or mode {GLOBAL_MODE}"
        )
    defrag = re.findall(r"\[([a-z+]+)\]", str(raw.get("thp_defrag")))
    if len(defrag) != 1 or defrag[0] not in THP_DEFRAG:
        raise UserError(
            f"{path}: header field 'thp_defrag' is {cited(raw.get('thp_defrag'))}; it names one of "
            f"{', '.join(THP_DEFRAG)} in brackets"
        )
    return RecordedHugePages(THP_DEFRAG[defrag[0]], raw.get("khp_defrag") == "1")


def _read_zones(path: Path, mode: str, lines: list[dict[str, Any]]) -> tuple[dict[str, int], ...]:
    """The zones of ev=zone, in the order of /proc/zoneinfo: the lowest first."""
    if mode != GLOBAL_MODE:
        return ()
    zones = lines[0].get("zi") if lines else None
    if not isinstance(zones, dict) or not zones:
        raise UserError(f"{path}: mode {mode!r} needs an ev=zone with the zones' sizes and watermarks in 'zi'")
    for name, zone in zones.items():
        for field in ZONE_FIELDS:
            if not isinstance(zone, dict) or not _is_number(zone.get(field), 0, MAX_ZONE_PAGES):
                raise UserError(
                    f"{path}: ev=zone: field {field!r} of zone {cited(name)} is not a number from 0 to {MAX_ZONE_PAGES}"
                )
    return tuple({field: zone[field] for field in ZONE_FIELDS} for zone in zones.values())


def _is_number(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _as_duo(raw: dict[str, Any]) -> dict[str, Any]:
    """The header of one guest, written as that of a duo."""
    return {**raw, "kinds": [raw.get("kind")], "wls": [raw.get("wl")], "seeds": [raw.get("seed")]}


def _as_given(raw: dict[str, Any], name: str) -> str:
    """A field of a duo's header and its value; of one guest's, which has no lists, as it stands there."""
    if raw.get("kind") == DUO:
        return f"{name!r} is {cited(raw.get(name))}"
    return f"{name.removesuffix('s')!r} is {cited(raw[name][0])}"


def _read_guests(path: Path, raw: dict[str, Any]) -> tuple[RecordedGuest, ...]:
    mixed = raw.get("mix") == 1
    known = {"kinds": GUEST_KINDS, "wls": MIX_WORKLOADS if mixed else WORKLOADS}
    for name, values in known.items():
        given = raw.get(name)
        good = isinstance(given, list) and 1 <= len(given) <= MAX_GUESTS and all(each in values for each in given)
        if not good:
            raise UserError(f"{path}: header field {_as_given(raw, name)}; known are {', '.join(values)}")
    seeds = raw.get("seeds")
    if not isinstance(seeds, list) or not all(_is_number(seed, 0, MAX_SEED) for seed in seeds):
        raise UserError(f"{path}: header field {_as_given(raw, 'seeds')}, not a number from 0 to {MAX_SEED}")
    if not len(raw["kinds"]) == len(raw["wls"]) == len(seeds):
        raise UserError(f"{path}: header fields 'kinds', 'wls' and 'seeds' have different lengths")
    described = zip(raw["kinds"], raw["wls"], seeds, strict=True)
    return tuple(RecordedGuest(_mmu_kind(raw, kind), workload, seed, mixed) for kind, workload, seed in described)


def _mmu_kind(raw: dict[str, Any], kind: str) -> str:
    """The kind of guest, told apart by which MMU maps it: a recorder calls all plain guests "vm"."""
    if kind == "vm" and raw.get("npt") == "N":
        return "shadow"
    if kind == "vm" and raw.get("tdp_mmu") == "N":
        return "rmap"
    return kind
