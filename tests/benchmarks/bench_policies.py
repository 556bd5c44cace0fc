"""CPU time of a cell in a sweep of twenty policies and of one: ``python -m tests.benchmarks.bench_policies``.

Sweeps run in this process, in turns, so that what else the machine does falls on both. For each policy alone and for
all in turn the fastest of some rounds counts; the policies' own work differs, so the mean over policies is compared.
"""

from __future__ import annotations

import time

from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.spec.host_spec import GuestSpec, HostSpec, NestedSpec, WorkloadSpec
from coldfleet.policies import POLICIES, Policy

ROUNDS = 7
SPEC = HostSpec(
    "6.12",
    tuple(
        GuestSpec(f"g{g}", 16384, 10923, 65536, workload=WorkloadSpec(), nested=NestedSpec() if g else None)
        for g in range(2)
    ),
    ticks=4,
    aging_every_ticks=2,
)


def cpu_s(policy: Policy) -> float:
    """CPU time of one cell."""
    start = time.process_time()
    simulate_host(SPEC, policy, seed=1, replicate=0, host=0)
    return time.process_time() - start


def main() -> None:
    """Prints the mean CPU time of a cell: each policy by itself, and all one after the other."""
    policies = list(POLICIES.values())
    for policy in policies:
        cpu_s(policy)  # compiled, and its memory touched
    alone = {policy.name: min(min(cpu_s(policy) for _ in range(2)) for _ in range(ROUNDS)) for policy in policies}
    mixed = dict.fromkeys(alone, float("inf"))
    for _ in range(ROUNDS):
        for policy in policies:
            mixed[policy.name] = min(mixed[policy.name], cpu_s(policy))
    one, all_ = (sum(times.values()) / len(policies) for times in (alone, mixed))
    print(
        f"{len(policies)} policies, {ROUNDS} rounds: {one * 1e3:.1f} ms a cell by itself, {all_ * 1e3:.1f} ms in turn"
    )
    print(f"{(all_ / one - 1) * 100:+.1f} %")


if __name__ == "__main__":
    main()
