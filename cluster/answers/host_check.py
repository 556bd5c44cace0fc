"""A run that checks an answer: hosts of the size that it states, with the guests that it puts there, under kswapd."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coldfleet.cluster.answers.slo import Slo
from coldfleet.cluster.execution.work import guest_rows, host_row
from coldfleet.cluster.results.parts import Rows
from coldfleet.cluster.study.terminal import counted
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import HostSpec
from coldfleet.policies import Policy


class CheckedHost(NamedTuple):
    """A host to run, by which number its random numbers are drawn, and how its kernel asks KVM."""

    number: int
    spec: HostSpec
    policy: Policy


@dataclass(frozen=True)
class HostCheck:
    """What came of it.

    ``passed``: every host stayed within its memory and nobody was killed; None: such a host can't be simulated, and
    ``why`` says why. ``memory_pages``: what the host had that came nearest to its end. ``free_pages``: the least that
    were free there at the end of a tick. ``guests``, ``killed``: on all that were run, which are ``hosts`` of ``of``.
    ``slos``: if all were run, what became of each SLO that was asked for, in words; ``broken``: whether one was.
    ``reclaimed``: pages, on all that were run.
    """

    passed: bool | None
    memory_pages: int
    free_pages: int = 0
    guests: int = 0
    killed: int = 0
    why: str = ""
    hosts: int = 1
    of: int = 1
    slos: tuple[str, ...] = ()
    broken: bool = False
    reclaimed: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against these hosts."""
        return self.passed is not False and not self.broken

    @property
    def text(self) -> str:
        """It in words."""
        if self.passed is None:
            return f"Not checked by a run: {self.why}"
        guests = counted(self.guests, "guest")
        if not self.passed:
            return f"a host of {guests} ran out of memory: {self.killed} of them killed"
        slos = f"; with that memory {'; '.join(self.slos)}" if self.slos else ""
        if slos and not self.reclaimed:
            slos += ": no page was reclaimed there, as the hosts have room for all that their guests touch"
        if self.of == 1:
            return f"Checked by a run: a host of {guests} keeps {self.free_pages} pages free{slos}"
        rest = ", the fullest at the peak, as the budget left no time for more" if self.hosts < self.of else ""
        which = f"{self.hosts:,} of its {self.of:,}" if rest else f"all its {self.of:,}"
        return (
            f"Checked by a run of {which} hosts that have guests{rest}, with all of their memory: of {guests} none is "
            f"killed, and the host with the fewest free pages keeps {self.free_pages:,} of its "
            f"{self.memory_pages:,} pages free{slos}"
        )


def check_hosts(
    hosts: Iterable[CheckedHost], of: int, seed: int, replicate: int, seconds: float, slos: Sequence[Slo] = ()
) -> HostCheck:
    """Runs hosts one after the other until one fails, all have passed, or so many seconds are over; at least one.

    ``of``: how many there are. ``slos``: are judged by all of them.
    """
    from coldfleet.hostsim.host import simulate_host  # compiled code, and slow to import

    end = time.monotonic() + seconds
    least, memory, guests, done = 0, 0, 0, 0
    rows: Rows = {"guests": [], "hosts": []}
    for number, spec, policy in hosts:
        if done and time.monotonic() >= end:
            break
        try:
            result = simulate_host(spec, policy, seed=seed, replicate=replicate, host=number)
        except UserError as error:
            return HostCheck(None, spec.memory_pages, guests=len(spec.guests), why=str(error), hosts=done, of=of)
        killed = sum(bool(guest.oom_reason) for guest in result.guests)
        free = min(epoch.free_pages for epoch in result.epochs)
        if killed or free < 0:
            return HostCheck(False, spec.memory_pages, free, len(spec.guests), killed, hosts=done + 1, of=of)
        if not done or free < least:
            least, memory = free, spec.memory_pages
        guests, done = guests + len(spec.guests), done + 1
        rows["guests"] += guest_rows(number, spec, result)
        rows["hosts"].append(host_row(result))
    judged = slos if done == of else ()
    return HostCheck(
        True,
        memory,
        least,
        guests,
        hosts=done,
        of=of,
        slos=tuple(each.judged(rows[each.table]) for each in judged),
        broken=any(each.excess(rows[each.table]) > 0 for each in judged),
        reclaimed=sum(row["pgsteal"] + row["damos_applied"] for row in rows["guests"]),
    )
