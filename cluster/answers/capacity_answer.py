"""What `capacity` answers, as plain data, and which policy it says to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_ONE_GUEST = 1 + 1e-9


@dataclass(frozen=True)
class Bottleneck:
    """The SLO that gives way first, and the guest (or host) to blame for it.

    ``slo``: as it was given. ``value``: its figure, and ``bound`` its limit, in the metric's own unit.
    ``share_of_replicates``: in which it is this SLO, 0..1. ``nested_share``: of these, those in which that guest runs a
    nested VM, 0..1. ``host``, ``guest``, ``nested``, ``replicate``: who it is in the first of them; an SLO on hosts has
    no guest. ``reasons``: by metric, how many times as much it has as the median guest. ``who`` and ``text``: it in
    words.
    """

    slo: str
    value: float
    bound: float
    share_of_replicates: float
    nested_share: float
    host: int
    guest: int | None
    nested: bool | None
    replicate: int
    reasons: Mapping[str, float]
    who: str
    text: str


@dataclass(frozen=True)
class PolicyCapacity:
    """The capacity of one policy.

    ``policy``: its name. ``capacity``: the largest load that surely meets every SLO; None: there is none. ``interval``:
    that load, and the lowest one that surely fails; the border lies between them, None is an end that wasn't found.
    ``unreachable``: even the lowest load fails; ``always_met``: even the highest doesn't. ``met_above``: a load that
    meets every SLO though a lower one fails.

    At the capacity, in pages of 4 KiB and of the whole fleet, means over the replicates: ``dram_pages``: memory
    that the guests are promised, files and kernel memory included; ``dram_used_pages``: that they really take, with
    zram's pool; ``dram_saved_pages``: the difference, with ``dram_saved_interval``; ``dram_saved_share``: as a
    share of what is promised, 0..1, with ``dram_saved_share_interval``. ``hosts``: that the fleet then needs, spare
    ones included, None without a capacity; ``hosts_without_overcommit``; ``hosts_binding``: why not fewer:
    "memory", "vCPUs", "guests per host", "fragmentation", "one host". ``hosts_uncut``: hosts that would do if
    guests could be cut in pieces, spare ones included, with ``hosts_uncut_interval``; ``hosts_of_classes``: where there
    are several classes of hosts, how many of each, spare ones that have no guests left out; ``guests_per_host``;
    ``hosts_of_one_guest``: hosts that one guest a host more or less is, about. ``checked``: whether a host of that
    size stayed within its memory in a run, None: it wasn't run; ``check_host_memory_pages``: what it had,
    ``check_free_pages``: the least that were free. Where guests come and go, ``hosts`` are enough at all times in
    every replicate, ``hosts_least`` in the easiest; ``peak_hour``: of most memory, since the start of the run;
    ``binding_moment``: when and why one host fewer isn't enough; and all hosts are run as a check, from the start
    to the end, or as many as the budget is enough for: ``checked_hosts``. There ``hosts_binding`` may be "failures"
    or "outages", too, without which one host fewer would do, or "failures and outages", without both of which it
    would; it is "vCPUs" if no policy can save a host.
    ``hosts_uncut`` includes hosts that are out of service.

    ``binding``: what stands in the way of more. ``alike``: all loads that were tried gave the same results, so that
    nothing does. ``judged``: each load that was tried: "meets", "fails" or "open". ``sentence``: the answer in words.
    """

    policy: str
    capacity: float | None
    interval: tuple[float | None, float | None]
    unreachable: bool
    always_met: bool
    met_above: float | None
    hosts: int | None
    hosts_without_overcommit: int | None
    hosts_binding: str
    dram_pages: float
    dram_used_pages: float
    dram_saved_pages: float
    dram_saved_interval: tuple[float, float]
    dram_saved_share: float
    dram_saved_share_interval: tuple[float, float]
    hosts_uncut: float | None
    hosts_uncut_interval: tuple[float, float] | None
    guests_per_host: float | None
    hosts_of_one_guest: float | None
    checked: bool | None
    check_host_memory_pages: int | None
    check_free_pages: int | None
    binding: Bottleneck | None
    judged: Mapping[str, str]
    sentence: str
    checked_hosts: int = 0
    hosts_least: int | None = None
    peak_hour: float | None = None
    binding_moment: str = ""
    alike: bool = False
    hosts_of_classes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CapacityAnswer:
    """What :func:`capacity` found, as plain data.

    ``study``, ``title``: the study's name and title. ``confidence``: of each answer, in percent. ``runs``: that it
    rests on. ``vary``: the load's key; ``loads``: the lowest and the highest that can be placed. ``slos``: as they
    were given. ``fleet_hosts``: hosts that the study's fleet needs without overcommit, spare ones included;
    ``fleet_load``: its own load, None where the load changes neither guests nor hosts. ``headroom``: percent of a
    host's memory that is kept free; ``spare_hosts``.
    ``placement_binds``: why no higher load, or no lower one, can be placed on the study's hosts; "": nothing does.
    ``policies``: those of the study, and evict-only to compare with. ``best``: those that need the fewest hosts, and
    those that have at most one guest a host less; ``recommendation``: which one to take, in words.
    """

    study: str
    title: str
    confidence: float
    runs: int
    vary: str
    loads: tuple[float, float]
    slos: tuple[str, ...]
    fleet_hosts: float
    fleet_load: float | None
    headroom: float
    spare_hosts: int
    placement_binds: str
    policies: tuple[PolicyCapacity, ...]
    best: tuple[str, ...]
    recommendation: str


def within_one_guest(answers: Sequence[PolicyCapacity]) -> list[PolicyCapacity]:
    """Those that need the fewest hosts, and those that have at most one guest a host less."""
    found = [each for each in answers if each.guests_per_host is not None]
    most = max((each.guests_per_host or 0.0 for each in found), default=0.0)
    return [each for each in found if (each.guests_per_host or 0.0) >= most - _ONE_GUEST]


def recommend(answers: Sequence[PolicyCapacity]) -> str:
    """Which policy to take, in one sentence; DRAM decides where hosts, which hold whole guests, can't tell."""
    tied = within_one_guest(answers)
    if not tied:
        return "No policy is sure to meet what was asked at any load that was tried"
    least, most = (choose(each.hosts or 0 for each in tied) for choose in (min, max))
    needs = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    hosts = "host" if most == 1 else "hosts"
    others = [each for each in answers if each.hosts is not None and each not in tied]
    if len(tied) == 1:
        second = min(others, key=lambda each: each.hosts or 0, default=None)
        then = f", where {second.policy}, the next, needs {second.hosts:,}" if second else ""
        return f"Take {tied[0].policy}: it needs {needs} {hosts}{then}"
    top = max(tied, key=lambda each: each.dram_saved_share)
    ahead = all(
        each.dram_saved_share_interval[1] < top.dram_saved_share_interval[0] for each in tied if each is not top
    )
    by_dram = f"{top.policy} saves the most DRAM of them" if ahead else "nor is one sure to save the most DRAM"
    names = f"{', '.join(each.policy for each in tied[:-1])} and {tied[-1].policy}"
    if least == most:
        return f"{names} need the same number of hosts, {needs}; {by_dram}"
    return f"Hosts are a tie within one guest a host between {names}, which need {needs} {hosts}; {by_dram}"
