"""Accesses a second of guests that follow a trace, against drawn ones: ``python -m tests.benchmarks.bench_traced``.

The trace has the very accesses that the synthetic workload draws, so that both hosts do the same work. They run in
turns in this process; of each pair the ratio of CPU times is taken, and the median of these printed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from coldfleet.hostsim.engine.state import ACCESS_PAGE
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.spec.host_spec import ClockSpec, GuestSpec, HostSpec, WorkloadSpec
from coldfleet.hostsim.workload.streams import GuestStream
from coldfleet.policies import POLICIES
from tests.hostsim.workload.traces import write_trace

PAGES, EACH, TICKS, PAIRS = 65_536, 262_144, 20, 9


def cpu_s(load: WorkloadSpec, clock: ClockSpec | None) -> float:
    """CPU time of a host whose guest may keep two thirds of its memory."""
    spec = HostSpec("6.12", (GuestSpec("g", PAGES, PAGES * 2 // 3, EACH, workload=load),), TICKS, clock=clock)
    start = time.process_time()
    simulate_host(spec, POLICIES["lockless-6.15"], seed=1, replicate=0, host=0)
    return time.process_time() - start


def main() -> None:
    """Prints the speed of the trace, of its clone and of a stack, as shares of that of the synthetic workload."""
    synthetic = WorkloadSpec("zipf")
    drawn = GuestStream(GuestSpec("g", PAGES, accesses_per_tick=EACH), seed=1, replicate=0, host=0, guest=0)
    pages = drawn.draw_ticks(1, TICKS).accesses & np.uint32(ACCESS_PAGE)
    with tempfile.TemporaryDirectory() as folder:
        file = write_trace(Path(folder) / "t.parquet", pages)
        for name, clock in (("replay", None), ("on a clock", ClockSpec())):
            for kind in ("trace", "clone", "stack"):
                load = WorkloadSpec(kind, file=file, start="same")
                for each in (synthetic, load):
                    cpu_s(each, clock)  # compiled, read, and its memory touched
                pairs = [(cpu_s(synthetic, clock), cpu_s(load, clock)) for _ in range(PAIRS)]
                ratio = statistics.median(a / b for a, b in pairs)
                million = EACH * TICKS / 1e6 / min(b for _, b in pairs)
                print(f"{name}, {kind}: {ratio:.2f} of the synthetic speed, {million:.1f} M accesses/s")


if __name__ == "__main__":
    main()
