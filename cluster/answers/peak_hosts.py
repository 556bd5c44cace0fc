"""Hosts for guests that come and go, in words: how many, why not fewer, and what goes wrong with one fewer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from coldfleet.cluster.answers.fewest_hosts import ROUNDING, Fewest, Moment
from coldfleet.cluster.answers.sizing import HostCount
from coldfleet.cluster.stats.amounts import moment_text
from coldfleet.cluster.stats.statistics import short
from coldfleet.cluster.study.arrivals import HOUR_NS
from coldfleet.cluster.study.lives import PlacedHost
from coldfleet.cluster.study.model import CellSpec
from coldfleet.cluster.study.placement import REFUSALS, Request
from coldfleet.cluster.study.plan import Run
from coldfleet.cluster.study.terminal import counted
from coldfleet.hostsim.spec.units import MEMORY

_LOST = 0.05  # of the hosts: fragmentation that takes more is what binds


@dataclass(frozen=True)
class PeakHosts(HostCount):
    """Hosts that a fleet needs over time.

    ``hosts``: enough in each of REPLICATES, of which the easiest needs ``least`` and the hardest all of them.
    ``peak_ns``: since the start of the run, in the hardest. ``moment``: what goes wrong there with one host fewer.
    ``failures``: that the hosts survive: at the peak hour the fullest ones fail for good. ``guests`` are those of the
    fullest host then, ``all_guests`` those of the fleet. ``tightest``: when most hosts would be needed if guests could
    be cut in pieces; those that are out of service or have failed then are ``spare``. ``busiest``: the same for vCPUs
    alone, of which the largest host has ``vcpus``. ``study_hosts``: that the study has. ``placed``: who lives where in
    the hardest replicate, which is ``run``, the fullest host of the peak first. ``last``: the class of the host
    that one host fewer lacks.
    """

    last: str = ""
    least: int = 0
    peak_ns: int = 0
    moment: str = ""
    failures: int = 0
    tightest: Moment = field(default_factory=Moment)
    busiest: Moment = field(default_factory=Moment)
    vcpus: float = math.inf
    study_hosts: int = 0
    run: Run | None = None
    placed: tuple[PlacedHost, ...] = field(default=(), repr=False)

    @property
    def peak_hour(self) -> float:
        """In hours."""
        return self.peak_ns / HOUR_NS

    @property
    def text(self) -> str:
        """It in words."""
        survive = f", of which {counted(self.failures, 'host')} may fail at the peak," if self.failures else ""
        enough = f"{self.in_classes}{survive} {'is' if self.hosts == 1 else 'are'} enough"
        beside = [f"{self.tightest.out:,} out of service"] if self.tightest.out else []
        beside += [f"{self.tightest.failed:,} that failed"] if self.tightest.failed else []
        included = f", {' and '.join(beside)} included" if beside else ""
        uncut = f"{short(self.uncut())} if guests could be cut in pieces{included}"
        return (
            f"{enough}, {self._than_without}: {self._than_study} ({uncut}; {self.least:,} in the easiest replicate)."
            f"{self._vcpus_decide} The peak of memory is on {moment_text(self.peak_ns)}; with one host fewer"
            f"{self._which} {self.moment}"
        )

    @property
    def _which(self) -> str:
        return f", one of {self.last}," if self.classes else ""

    @property
    def _than_without(self) -> str:
        if self.saved < 0:
            return self.more
        return f"{self.saved:,} fewer than without overcommit" if self.saved else "as many as without overcommit"

    @property
    def _than_study(self) -> str:
        left = self.study_hosts - self.hosts
        if left > 0:
            return f"{left:,} of the study's {self.study_hosts:,} can go"
        return f"{-left:,} more than the study's {self.study_hosts:,}" if left else "as many as the study has"

    @property
    def _vcpus_decide(self) -> str:
        if self.binding != "vCPUs":
            return ""
        save = "save more" if self.saved > 0 else "save a host"
        most = "at most " if self.classes else ""
        asked = f"{self.busiest.vcpus:,} on {moment_text(self.busiest.time_ns)}, {most}{self.vcpus:g} a host"
        return f" vCPUs decide: {asked}: no policy can {save}; raise fleet.vcpus_per_cpu."


def binding(found: Fewest) -> str:
    """What keeps the number of hosts from falling: a resource, fragmentation, failures to survive, or outages."""
    if found.hosts == 1:
        return "one host"
    if found.because:
        return found.because
    if found.hosts - math.ceil(found.uncut - ROUNDING) > _LOST * found.hosts:
        return "fragmentation"
    memory, vcpus, _ = found.alone
    return "fragmentation" if vcpus > memory else "memory"  # or else vCPUs would be why


def what_fails(found: Fewest, requests: Sequence[Request], spec: CellSpec) -> str:
    """What goes wrong with one host fewer, and when."""
    refused = found.less.refused
    if refused is None:
        as_out = found.closed == found.hosts > 1
        return "there would be a moment with none in service" if as_out else "there would be none left"
    request, now = requests[refused.request], max(refused.start_ns or 0, 0)
    guest = f"{request.name}-{request.number} ({MEMORY.format(request.memory_pages)}, {counted(request.vcpus, 'vCPU')})"
    after = ", after the failure" if found.less.failing else ""
    out = [name for name, each in spec.fleet.outage.items() if each.at <= now and not 0 < each.back <= now]
    during = f", during fleet.outage.{' and fleet.outage.'.join(out)}" if out else ""
    why = REFUSALS[refused.refused]
    if found.because == "vCPUs":
        why = "no host had enough vCPUs left, however little memory guests take"
    return f"{guest} gets no place on {moment_text(now)}{after}{during}: {why}"
