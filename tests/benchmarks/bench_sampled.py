"""How much faster a sample is than the whole host: ``python -m tests.benchmarks.bench_sampled --gib 4``.

Ten hosts of all sorts, each in full, at 1/16 and at 1/64, in turns, so that what else the machine does falls on all of
them; CPU time, the fastest of some rounds. With the speed-up: how many headline counters of the whole host lie in the
sample's intervals, and how wide these are.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

from coldfleet.hostsim.counters.columns import HEADLINE, ci_column
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.spec.host_spec import HostResult, HostSpec
from coldfleet.policies import Policy, get_policy
from tests.benchmarks.machine import machine
from tests.hostsim.varied_hosts import varied_hosts

SAMPLES = (16, 64)


def timed(spec: HostSpec, policy: Policy, host: int) -> tuple[float, HostResult]:
    """CPU seconds of a host, and its result."""
    start = time.process_time()
    result = simulate_host(spec, policy, seed=1, replicate=0, host=host)
    return time.process_time() - start, result


def main() -> None:
    """Prints a line for each host and sample, and one for each sample over all hosts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=int, nargs="+", default=[1, 2, 4], help="sizes of guests, one drawn for each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    print(machine())
    speed_ups: dict[int, list[float]] = {sample: [] for sample in SAMPLES}
    widths: dict[int, list[float]] = {sample: [] for sample in SAMPLES}
    held = dict.fromkeys(SAMPLES, 0)
    for host, (spec, name) in enumerate(varied_hosts(options.seed, options.hosts, tuple(options.gib))):
        policy = get_policy(name)
        scales = [replace(spec, sample=sample) for sample in (1, *SAMPLES)]
        rounds = [[timed(scale, policy, host) for scale in scales] for _ in range(options.rounds)]
        seconds = [min(times) for times in zip(*([run for run, _ in each] for each in rounds), strict=True)]
        whole = rounds[0][0][1].totals()
        for number, sample in enumerate(SAMPLES, 1):
            estimate = rounds[0][number][1]
            counted = [counter for counter in HEADLINE if whole[counter] or estimate.totals()[counter]]
            halves = {counter: estimate.ci95[ci_column(counter)] for counter in counted}
            missed = [c for c in counted if abs(estimate.totals()[c] - whole[c]) > halves[c]]
            speed_ups[sample].append(seconds[0] / seconds[number])
            widths[sample] += [halves[counter] / max(whole[counter], 1) for counter in counted]
            held[sample] += len(counted) - len(missed)
            what = f"{spec.kernel} {spec.mode}{' on a clock' if spec.clock else ''} {name}"
            print(
                f"{host} {what}: {seconds[0]:.2f} s, 1/{sample} {speed_ups[sample][-1]:.1f} times as fast,"
                f" {len(counted) - len(missed)} of {len(counted)}{''.join(f', not {counter}' for counter in missed)}",
                flush=True,
            )
    for sample in SAMPLES:
        ratios = sorted(speed_ups[sample])
        print(
            f"1/{sample}: {ratios[0]:.1f} to {ratios[-1]:.1f} times as fast, median {statistics.median(ratios):.1f};"
            f" {held[sample]} of {len(widths[sample])} counters in their intervals"
            f" ({held[sample] / len(widths[sample]):.1%}), half as wide as {statistics.median(widths[sample]):.1%}"
            " of the value in the median"
        )


if __name__ == "__main__":
    main()
