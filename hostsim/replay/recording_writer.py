"""Writes a simulated run in the recordings' own format, so that others can compare it with their tools."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from coldfleet.hostsim.replay.recording import NEVER_PRESENT, SWAPPED, Recording

_LETTERS = "".join(chr(code) for code in range(ord("A"), ord("z") + 1) if chr(code).isalpha()) + "0123456789"
_MORE_LETTERS = "".join(chr(code) for code in range(0xC0, 0x180))


def write_recording(path: Path, recording: Recording, steps: list[dict[str, Any]], simulator: str) -> None:
    """Writes the steps that the simulator made of a recording's schedule; raises FileExistsError if there is one."""
    states = sorted(
        {int(s) for step in steps if "states" in step for s in np.unique(step["states"])} - {SWAPPED, NEVER_PRESENT}
    )
    letters = dict(zip(states, _LETTERS + _MORE_LETTERS, strict=False))
    header = {**recording.header.raw, "simulator": simulator, "legend": {letters[s]: s for s in states}}
    table = np.full(NEVER_PRESENT + 1, "?", dtype="<U1")
    for state, letter in {**letters, SWAPPED: ".", NEVER_PRESENT: "_"}.items():
        table[state] = letter
    with gzip.open(path, "xt", 6, "utf-8") as file:  # 9, the default, takes several times as long for as much
        _write(file, header)
        for step in steps:
            key = (recording.guest_of(step), step["r"])
            if step["ev"] in ("populate", "touch") and step["x"] and key in recording.list_hashes:
                child = {"c": step["c"]} if "c" in step else {}
                listed = {"ev": "list", **child, "r": step["r"], "cnt": step["x"], "lh": recording.list_hashes[key]}
                _write(file, listed)
            dump = {"pg": "".join(table[step["states"]])} if "states" in step else {}
            _write(file, {**{name: value for name, value in step.items() if name != "states"}, **dump})
        _write(file, {"ev": "end"})


def _write(file: Any, line: dict[str, Any]) -> None:
    file.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")
