"""A run that checks an answer: a host of the size that it states, with the guests that it puts there, under kswapd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from coldfleet.cluster.study.terminal import counted
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec, HostSpec
from coldfleet.policies import Policy


@dataclass(frozen=True)
class HostCheck:
    """What came of it.

    ``passed``: the host stayed within its memory and nobody was killed; None: such a host can't be simulated, and
    ``why`` says why. ``memory_pages``: what it had. ``free_pages``: the least that were free at the end of a tick.
    ``guests``, ``killed``: on it.
    """

    passed: bool | None
    memory_pages: int
    free_pages: int = 0
    guests: int = 0
    killed: int = 0
    why: str = ""

    @property
    def text(self) -> str:
        """It in words."""
        if self.passed is None:
            return f"Not checked by a run: {self.why}"
        if self.passed:
            return f"Checked by a run: a host of {counted(self.guests, 'guest')} keeps {self.free_pages} pages free"
        return f"a host of {counted(self.guests, 'guest')} ran out of memory: {self.killed} of them killed"


def check_host(like: HostSpec, guests: Mapping[GuestSpec, int], pages: int, policy: Policy, seed: int) -> HostCheck:
    """Runs a host with so many guests of each kind in so much memory, which it shares out by itself.

    ``like``: a host of the study, from which it has everything else.
    """
    from coldfleet.hostsim.host import simulate_host  # compiled code, and slow to import

    kinds = [kind for kind, count in guests.items() for _ in range(count)]
    spec = replace(
        like,
        guests=tuple(replace(kind, name=f"guest-{n}") for n, kind in enumerate(kinds)),
        mode="host",
        memory_pages=max(pages, 1),
        parent_pages=0,
        epochs=1,
    )
    try:
        result = simulate_host(spec, policy, seed=seed, replicate=0, host=0)
    except UserError as error:
        return HostCheck(None, pages, guests=len(kinds), why=str(error))
    killed = sum(bool(guest.oom_reason) for guest in result.guests)
    free = min(epoch.free_pages for epoch in result.epochs)
    return HostCheck(not killed and free >= 0, pages, free, len(kinds), killed)
