"""One hypervisor host, and the policies that it may run: what needs no study."""

from __future__ import annotations

from coldfleet.hostsim.host import simulate_host as simulate
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostResult, HostSpec
from coldfleet.policies import POLICIES, Policy, get_policy
from coldfleet.policies.installed import installed


def simulate_host(
    spec: HostSpec, policy: Policy | str, *, seed: int = 1, replicate: int = 0, host: int = 0
) -> HostResult:
    """Simulates one host for ``spec.ticks`` ticks, in this process; the same arguments give the same result.

    ``spec``: the host and its guests, memory in pages of 4 KiB. ``policy``: an aging policy or its name. ``seed``,
    ``replicate`` and ``host`` choose the random numbers, and nothing else: guests make the same accesses under every
    policy. The result has, for each guest, ``counters`` (int, by the names of docs/columns.md) and ``gauges`` (float);
    ``totals()`` adds the counters up over the guests.

    Raises UserError for an unknown kernel and for what doesn't go together, PolicyError for an unknown policy. The
    first call compiles the simulator, which takes about a minute, once on a machine.

        spec = coldfleet.HostSpec(
            kernel="6.12",
            guests=(coldfleet.GuestSpec("web", memory_pages=2048, limit_pages=1024),),
            ticks=10,
        )
        print(coldfleet.simulate_host(spec, "lockless-6.15").totals()["pgmajfault"])
    """
    if not isinstance(spec, HostSpec):
        raise UserError(f"{spec!r:.80} is not a HostSpec")
    chosen = policy if isinstance(policy, Policy) else get_policy(policy)
    for name, number, most in (("seed", seed, 2**63), ("replicate", replicate, 2**31), ("host", host, 2**31)):
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < most:
            raise UserError(f"{name} = {number!r:.80}: it should be a whole number from 0, less than {most}")
    return simulate(spec, chosen, seed=seed, replicate=replicate, host=host)


def list_policies() -> list[Policy]:
    """Every aging policy that a study can name: those of the catalogue by date, then those of installed packages.

    Raises PolicyError if an installed one can't be made.

        for policy in coldfleet.list_policies():
            print(policy.name, policy.status, policy.summary)
    """
    return [get_policy(name) for name in (*POLICIES, *installed())]
