"""Published measurements beside what the simulator says of the same: the lines of ``coldfleet validate``.

The benchmark's lines come from the model of mmu_lock (hostsim.published.access_tracking), the others from the
page-level engine, by the studies in configs/validation. Nothing of an outcome is written down but what was published.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldfleet.cluster.execution.work import simulate_run
from coldfleet.cluster.results.parts import Rows
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.published.access_tracking import run_benchmark
from coldfleet.hostsim.published.rows import PublishedRow
from coldfleet.hostsim.spec.calibration import Calibration

HELD_OUT = (4,)  # vCPU counts whose rows the published calibration was not fitted to
FITTED, NOT_FITTED = "fitted", "held out"
ENGINE = "engine"
BAR = 0.15  # by which the published figures themselves vary from run to run: a row that is further off is a miss

# 20241019012940.3656292-1-jthoughton@google.com: latency of opening a tab beside a VM, ms
TAB_OPEN_MS = {
    "p50": {"no MGLRU": 1315.0, "MGLRU": 2559.0, "MGLRU, 6.12's fix": 1119.0},
    "p99": {"no MGLRU": 3454.0, "MGLRU": 12060.0, "MGLRU, 6.12's fix": 4211.0},
}
FIX = "MGLRU, 6.12's fix"

# 20230609005943.43041-1-yuzhao@google.com: multichase, total samples in the same time
MULTICHASE_BEFORE, MULTICHASE_AFTER = 6824.0, 7237.0
CHASE_NS = 200.0  # assumed: one link of the chain, a TLB and a cache miss in a guest
OPTANE_READ_NS = 10_000.0  # assumed: data sheets of Optane SSDs; 4 KiB, nothing else to do


@dataclass(frozen=True)
class Line:
    """One figure, published and simulated. ``basis``: "fitted", "held out" of the fit, or by the "engine"."""

    what: str
    unit: str
    published: float
    simulated: float
    basis: str

    @property
    def error(self) -> float:
        """simulated / published - 1."""
        return self.simulated / self.published - 1

    @property
    def missed(self) -> bool:
        """Whether it is further off than BAR."""
        return abs(self.error) > BAR


def benchmark_lines(rows: Iterable[PublishedRow], calibration: Calibration, held_out: Collection[int]) -> list[Line]:
    """access_tracking_perf_test: wall time and pass time of every row."""
    lines = []
    for row in rows:
        simulated = run_benchmark(row.vcpus, row.policy, calibration)
        basis = NOT_FITTED if row.vcpus in held_out else FITTED
        name = f"{row.vcpus:>2} vCPUs, {row.policy_name}"
        lines.append(Line(f"{name}: vCPU wall", "s", row.vcpu_wall_s, simulated.vcpu_wall_s, basis))
        if row.aging_pass_s is not None and simulated.aging_pass_s is not None:
            lines.append(Line(f"{name}: aging pass", "s", row.aging_pass_s, simulated.aging_pass_s, basis))
    return lines


def engine_lines() -> list[Line]:
    """The tables of ChromeOS and of multichase; takes a minute more if the engine has to be compiled."""
    return [*chromeos_lines(), *multichase_lines()]


def chromeos_lines() -> list[Line]:
    """Latencies over those with 6.12's fix: published of opening a tab, simulated of a batch of a process' accesses."""
    sums = {name: dict.fromkeys(TAB_OPEN_MS, 0.0) for name in TAB_OPEN_MS["p50"]}
    for run in _study("chromeos").runs():
        mglru = run.cell.spec.reclaim.lru == "mglru"
        name = "no MGLRU" if not mglru else "MGLRU" if run.cell.policy.name == "evict-only" else FIX
        (process,) = (row for row in simulate_run(run)["guests"] if row["guest"] == 1)
        for percentile in TAB_OPEN_MS:
            sums[name][percentile] += process[f"latency_{percentile}_ns"]
    return [
        Line(
            f"ChromeOS, {percentile} of latency beside a VM: {name} / fix",
            "ratio",
            published[name] / published[FIX],
            sums[name][percentile] / sums[FIX][percentile],
            ENGINE,
        )
        for percentile, published in TAB_OPEN_MS.items()
        for name in published
        if name != FIX
    ]


def multichase_lines() -> list[Line]:
    """Links chased in the same time, after v2 of the series over before."""
    times = dict.fromkeys(("before-v2", "test-clear-v2"), 0.0)
    for run in _study("multichase").runs():
        times[run.cell.policy.name] += _chase_ns(simulate_run(run))
    ratio = times["before-v2"] / times["test-clear-v2"]
    return [Line("multichase, v2 / before", "ratio", MULTICHASE_AFTER / MULTICHASE_BEFORE, ratio, ENGINE)]


def worst(lines: Sequence[Line], *, fitted: bool) -> float:
    """The largest error, as a share, of the lines that were fitted, or of those that were held out."""
    return max((abs(line.error) for line in lines if (line.basis == FITTED) == fitted), default=0.0)


def _chase_ns(rows: Rows) -> float:
    """All CPUs of that host chase, so what reclaim and faults take, it takes from them."""
    cell = rows["cells"][0]
    chased, waited = cell["accesses"] * CHASE_NS, cell["pgmajfault"] * OPTANE_READ_NS
    return float(chased + waited + cell["fault_cpu_ns"] + cell["reclaim_cpu_ns"])


def _study(name: str) -> Plan:
    from coldfleet import configs

    return read_study(Path(next(iter(configs.__path__))) / "validation" / f"{name}.toml")
