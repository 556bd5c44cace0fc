"""Requests per second of one trace: coldfleet's full MGLRU engine beside caches that only count misses, on one core.

    pip install '.[benchmark]' && python tests/benchmarks/bench_replay.py

The trace: 20 million accesses, Zipf(0.9) over 262,144 pages in random order; the memory holds 30 % of them.
libCacheSim reads it in C from a binary file in its oracleGeneral format, coldfleet from an array. The runs of both
alternate, so that the machine's other work disturbs them alike. Compilation and construction are not timed.
Ratios are to libCacheSim's LRU as it comes; it is faster with a hash table of the cache's size, which is shown too. The
dense LRU is a linked list in arrays indexed by page, compiled by numba: the least that an exact LRU has to do.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[2]))  # the checkout that this file belongs to

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.policies import get_policy
from tests.benchmarks.machine import machine

PAGES = 262_144
SKEW = 0.9
RESIDENT_SHARE = 0.3
KERNEL = "6.12"
ORACLE_GENERAL = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next_access", "<i8")])
PEERS = ("Clock", "S3FIFO", "Sieve")
UNKNOWN = -2  # next_access of a trace that doesn't say
DEFAULT_HASHPOWER = 24  # libCacheSim's hash table: 2^24 buckets, far more than the capacity needs
FITTING_HASHPOWER = 17  # the power of two above the capacity
Run = Callable[[], tuple[float, float]]
"""One replay: (CPU seconds, miss ratio)."""


def zipf_trace(accesses: int, seed: int = 1) -> npt.NDArray[np.uint32]:
    """Page numbers, hot pages scattered."""
    random = np.random.default_rng(seed)
    cumulative = np.cumsum(np.arange(1, PAGES + 1, dtype=np.float64) ** -SKEW)
    ranks = np.searchsorted(cumulative, random.random(accesses) * cumulative[-1])
    return random.permutation(PAGES).astype(np.uint32)[ranks]


def write_for_libcachesim(trace: npt.NDArray[np.uint32], file: Path) -> None:
    """The trace in the oracleGeneral format: 24 bytes a request."""
    rows = np.zeros(len(trace), ORACLE_GENERAL)
    rows["id"] = trace + 1  # it takes 0 for no object
    rows["size"] = 1
    rows["next_access"] = UNKNOWN
    rows.tofile(file)


def load_libcachesim() -> Any:
    try:
        import libcachesim
    except ImportError:
        sys.exit("libcachesim isn't installed: pip install '.[benchmark]'")
    return libcachesim


def libcachesim_run(library: Any, file: Path, hashpower: int, policy: str = "LRU") -> Run:
    """One replay of a trace file through a cache of libCacheSim."""

    def run() -> tuple[float, float]:
        parameters = library.ReaderInitParam(ignore_obj_size=True)
        reader = library.TraceReader(str(file), library.TraceType.ORACLE_GENERAL_TRACE, parameters)
        cache = getattr(library, policy)(cache_size=capacity(), hashpower=hashpower)
        start = time.process_time()
        missed, _ = cache.process_trace(reader)
        return time.process_time() - start, float(missed)

    return run


def coldfleet_run(trace: npt.NDArray[np.uint32], *, kvm: bool) -> Run:
    """One replay through the engine: a process (primary MMU) or a VM (TDP MMU and notifiers)."""
    kernel = KERNELS[KERNEL]
    slot = Memslot(PAGES, kvm=kvm, max_pages=capacity())

    def run() -> tuple[float, float]:
        memory = HostMemory([slot], kernel, get_policy(kernel.policy))
        start = time.process_time()
        memory.touch(0, trace)
        seconds = time.process_time() - start
        return seconds, int(memory.events(0)["pgfault"]) / len(trace)

    HostMemory([slot], kernel, get_policy(kernel.policy)).touch(0, trace[:1])  # compiles, or loads from the cache
    return run


@compiled
def dense_lru(
    trace: npt.NDArray[np.uint32], newer: npt.NDArray[np.int32], older: npt.NDArray[np.int32], room: int
) -> int:
    """Misses of an LRU: a ring of pages whose head is the last of the arrays; -1: a page isn't there."""
    head = len(newer) - 1
    newer[:], older[:] = -1, -1
    newer[head] = older[head] = head
    held = missed = 0
    for page in trace:
        if newer[page] >= 0:
            newer[older[page]], older[newer[page]] = newer[page], older[page]
        else:
            missed += 1
            held += 1
            if held > room:
                last = newer[head]
                newer[head], older[newer[last]] = newer[last], head
                newer[last] = -1
                held -= 1
        first = older[head]
        newer[first], older[page], newer[page], older[head] = page, first, head, page
    return missed


def dense_lru_run(trace: npt.NDArray[np.uint32]) -> Run:
    newer, older = np.zeros(PAGES + 1, np.int32), np.zeros(PAGES + 1, np.int32)

    def run() -> tuple[float, float]:
        start = time.process_time()
        missed = dense_lru(trace, newer, older, capacity())
        return time.process_time() - start, missed / len(trace)

    dense_lru(trace[:1], newer, older, capacity())
    return run


def capacity() -> int:
    return int(PAGES * RESIDENT_SHARE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accesses", type=int, default=20_000_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    library = load_libcachesim()
    trace = zipf_trace(arguments.accesses)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.oracleGeneral.bin"
        contestants = {
            "libcachesim LRU": libcachesim_run(library, file, DEFAULT_HASHPOWER),
            "  with a fitting table": libcachesim_run(library, file, FITTING_HASHPOWER),
            **{f"libcachesim {name}": libcachesim_run(library, file, DEFAULT_HASHPOWER, name) for name in PEERS},
            "dense LRU": dense_lru_run(trace),
            "coldfleet, process": coldfleet_run(trace, kvm=False),
            "coldfleet, vm": coldfleet_run(trace, kvm=True),
        }
        write_for_libcachesim(trace, file)
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
        for _ in range(arguments.runs):
            for name, run in contestants.items():
                runs[name].append(run())
    print(machine())
    print(f"{len(trace):,} accesses, Zipf({SKEW}) over {PAGES:,} pages, {capacity():,} resident; M requests/s")
    print(f"{'':22} {'median':>8} {'min':>8} {'max':>8} {'ratio':>7} {'misses':>7}")
    baseline = 0.0
    for name, found in runs.items():
        rates = [len(trace) / seconds / 1e6 for seconds, _ in found]
        median = statistics.median(rates)
        baseline = baseline or median
        figures = f"{median:8.2f} {min(rates):8.2f} {max(rates):8.2f} {median / baseline:6.1f}x {found[0][1]:7.2%}"
        print(f"{name:22} {figures}")


if __name__ == "__main__":
    main()
