"""Accesses a second of an import, and of what `coldfleet trace show` measures; and the most memory that each takes.

    python tests/benchmarks/bench_trace.py --accesses 100000000

The trace: Zipf(0.8) over 4 million pages in random order, in oracleGeneral (24 bytes an access). Each part runs in a
process of its own; seconds are CPU seconds, from the start of Python to the end, compiled code being there.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # the checkout that this file belongs to

from coldfleet.hostsim.trace.formats.block import ORACLE_GENERAL
from coldfleet.hostsim.trace.importing import import_trace
from coldfleet.hostsim.trace.summarize import summarize_trace

PAGES = 4_000_000
SKEW = 0.8
BLOCK = 5_000_000
UNKNOWN = -2  # next access of a trace that doesn't say


def make(file: Path, accesses: int) -> None:
    """The trace, a block at a time."""
    random = np.random.default_rng(1)
    cumulative = np.cumsum(np.arange(1, PAGES + 1) ** -SKEW)
    scattered = random.permutation(PAGES) + 1
    with file.open("wb") as out:
        for first in range(0, accesses, BLOCK):
            rows = np.zeros(min(BLOCK, accesses - first), ORACLE_GENERAL)
            rows["time"] = np.arange(first, first + len(rows)) // 1000
            rows["id"] = scattered[np.searchsorted(cumulative, random.random(len(rows)) * cumulative[-1])]
            rows["size"], rows["next"] = 4096, UNKNOWN
            rows.tofile(out)


def run(part: str, folder: Path) -> None:
    """One part, in this process."""
    trace = folder / "trace.parquet"
    rows = import_trace(folder / "trace.bin", trace).rows if part == "import" else summarize_trace(trace).accesses  # type: ignore[union-attr]
    seconds, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{part:<7} {rows:>12,} accesses {seconds:8.2f} CPU s {rows / seconds / 1e6:6.2f} M/s {memory:6} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accesses", type=int, default=20_000_000)
    parser.add_argument("--part", nargs=2, metavar=("PART", "DIR"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        run(arguments.part[0], Path(arguments.part[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "trace.bin", arguments.accesses)
        for part in ("import", "show"):
            subprocess.run([sys.executable, __file__, "--part", part, folder], check=True)


if __name__ == "__main__":
    main()
