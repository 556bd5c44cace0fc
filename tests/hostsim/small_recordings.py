"""Small recordings made by the engine itself: for tests about files, not about kernels."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from coldfleet.hostsim.engine.state import PTRS_PER_PTE
from coldfleet.hostsim.replay.recording import Recording, read_recording
from coldfleet.hostsim.replay.recording_writer import write_recording
from coldfleet.hostsim.replay.replay import access_lists, simulate_recording
from coldfleet.hostsim.workload.schedule import fnv1a

Lines = list[dict[str, Any]]

HEADER: dict[str, Any] = {
    "ev": "hdr",
    "rel": "6.12.107+deb13-amd64",
    "kind": "host",
    "wl": "zipf",
    "mode": "debugfs",
    "n": 700,
    "acc": 400,
    "rounds": 3,
    "seed": 9,
    "layout": "perm",
    "target": 350,
    "swappiness": 60,
    "evict_swappiness": 200,
    "lru_gen_enabled": "0x0007",
    "legend": {},
}
EVENTS = {"debugfs": ("touch", "age", "evict"), "reclaim": ("touch", "reclaim"), "limit": ("touch",)}
EVENTS["ageonly"] = EVENTS["debugfs"][:2]


def write_lines(path: Path, lines: Lines) -> None:
    """Any objects as a gzipped file of JSON lines."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def read_lines(path: Path) -> Lines:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def make_recording(path: Path, **changes: Any) -> Recording:
    """Writes what the engine makes of a small schedule, and reads it; ``changes``: of the header."""
    header = {**HEADER, **changes}
    blank: dict[str, Any] = {"x": 0, "res": 0, "min": 0, "max": 3, "lg": [], "st": {}}
    if header.get("thp"):
        blank |= {"ahp": 0, "hp": "." * -(-header["n"] // PTRS_PER_PTE)}
    events = [("start", 0), ("populate", 0)]
    events += [(event, r) for r in range(1, header["rounds"] + 1) for event in EVENTS[header["mode"]]]
    empty = path.with_suffix(".empty")
    write_lines(empty, [header, *({"ev": event, "r": r, **blank} for event, r in events), {"ev": "end"}])
    schedule = read_recording(empty)
    empty.unlink()
    lists = access_lists(schedule.header, schedule.header.guests[0])
    schedule.list_hashes.update({(0, r): f"{int(fnv1a(listed)):016x}" for r, listed in enumerate(lists, 1)})
    write_recording(path, schedule, list(simulate_recording(schedule)), "coldfleet")
    return read_recording(path)
