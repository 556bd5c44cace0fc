"""The table of docs/traces.md: what traces are like, and how far their clones in twice the memory are from them.

    python tests/benchmarks/bench_clone.py [TRACE...]

LRU: miss ratio of an LRU that holds a share of the pages, in one round of the trace. refaults: the share of accesses
that refault on kernel 6.12 under that limit, in 40 ticks of two rounds (of at most a million accesses), mean of two
seeds. The differences are the largest at any of 64 sizes, and of the five limits and two seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[2]))  # the checkout that this file belongs to

from coldfleet.hostsim.engine.state import PTRS_PER_PTE
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.spec.host_spec import DataFile, GuestSpec, HostSpec, WorkloadSpec
from coldfleet.hostsim.trace.programs import PREFIX, program_names
from coldfleet.hostsim.trace.table import Trace
from coldfleet.hostsim.workload.stretch import scale_of
from coldfleet.hostsim.workload.trace_data import load_trace, sha256_of
from coldfleet.hostsim.workload.trace_stream import TraceStream
from coldfleet.policies import POLICIES
from tests.hostsim.workload.traces import miss_ratios

SHARES = (0.2, 0.35, 0.5, 0.65, 0.8)
SIZES = 64
SEEDS = (1, 2)
TICKS = 40
MOST = 1_000_000  # accesses of a run


def refaults(kind: str, file: DataFile, memory: int, pages: int, each: int, seed: int) -> npt.NDArray[np.float64]:
    """The share of accesses that refault, under each limit."""
    found = []
    for share in SHARES:
        guest = GuestSpec("g", memory, round(share * pages), each, workload=WorkloadSpec(kind, file=file))
        host = HostSpec("6.12", (guest,), TICKS)
        totals = simulate_host(host, POLICIES["lockless-6.15"], seed=seed, replicate=0, host=0).totals()
        found.append(totals["refaults"] / totals["accesses"])
    return np.array(found)


def measure(name: str) -> str:
    """A row of the table."""
    path = Trace.open(name).path
    file = DataFile(str(path), sha256_of(path))
    trace = load_trace(file)
    memory = -(-trace.pages // PTRS_PER_PTE) * PTRS_PER_PTE
    assert scale_of(trace.pages, 2 * memory) == 2
    sizes = np.unique(np.linspace(1, trace.pages, SIZES).astype(np.int64))
    spec = GuestSpec(
        "g", 2 * memory, 0, 2 * len(trace.accesses), workload=WorkloadSpec("clone", file=file, start="same")
    )
    clone = TraceStream(spec, seed=1, replicate=0, host=0, guest=0).draw_ticks(1, 1).accesses
    lru = abs(miss_ratios(clone, 2 * sizes) - miss_ratios(trace.accesses, sizes)).max()
    each = min(2 * len(trace.accesses), MOST) // TICKS
    own = [refaults("trace", file, memory, trace.pages, each, seed) for seed in SEEDS]
    twice = [refaults("clone", file, 2 * memory, 2 * trace.pages, 2 * each, seed) for seed in SEEDS]
    worst = max(abs(one - two).max() for one, two in zip(own, twice, strict=True))
    at = (np.array(SHARES) * trace.pages).astype(np.int64)
    curves = (
        ", ".join(f"{each:.3f}" for each in values)
        for values in (miss_ratios(trace.accesses, at), np.mean(own, axis=0))
    )
    return f"| {name} | {len(trace.accesses):,} | {trace.pages:,} | {' | '.join(curves)} | {lru:.4f} | {worst:.3f} |"


def main() -> None:
    at = ", ".join(f"{share:.0%}" for share in SHARES)
    print(f"| trace | accesses | pages | LRU at {at} | refaults at these | clone: LRU | clone: refaults |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in sys.argv[1:] or [PREFIX + program for program in program_names()]:
        print(measure(name), flush=True)


if __name__ == "__main__":
    main()
