"""How much load a study's fleet bears under each policy, what that is worth, and what stands in the way of more."""

from __future__ import annotations

import math
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

from coldfleet.cluster.answers.capacity import LOOKS, Capacity, Probe, coarse, find_capacities
from coldfleet.cluster.answers.host_check import HostCheck
from coldfleet.cluster.answers.question import (
    Budget,
    check_clock,
    check_confidence,
    find_path,
    is_whole,
    only_policies,
    range_of,
    set_keys,
    tick_seconds,
)
from coldfleet.cluster.answers.question import vary as with_values
from coldfleet.cluster.answers.sizing import DENSITY, DRAM, Binding, DramAccount, FleetSize, HostCount, binding
from coldfleet.cluster.answers.sizing_over_time import FleetOverTime, PeakHosts
from coldfleet.cluster.answers.slo import NO_KILLS, parse_slo
from coldfleet.cluster.execution.executor import Executor
from coldfleet.cluster.execution.progress import Reporter, make_reporter
from coldfleet.cluster.execution.trials import Place, Trial, Trials, executor_for
from coldfleet.cluster.stats.metrics import SUMMARY
from coldfleet.cluster.stats.statistics import Interval
from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.lives import check_fleets
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import StudySource, read_study
from coldfleet.cluster.study.terminal import telling
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.checks import check_argument, check_texts
from coldfleet.hostsim.spec.errors import UserError

BASELINE = "evict-only"
_GRADES = 60  # of a range, if nothing else is said
_MOST_LOADS = 10_000
_SHOWN = 5  # replicates from which is told what binds
_ONE_GUEST = 1 + 1e-9
_SIZES = ("fleet.", "guest.", "host.")  # loads under which there may be other guests, or other hosts


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
    guests could be cut in pieces, spare ones included, with ``hosts_uncut_interval``; ``guests_per_host``;
    ``hosts_of_one_guest``: hosts that one guest a host more or less is, about. ``checked``: whether a host of that
    size stayed within its memory in a run, None: it wasn't run; ``check_host_memory_pages``: what it had,
    ``check_free_pages``: the least that were free. Where guests come and go, ``hosts`` are enough at all times in
    every replicate, ``hosts_least`` in the easiest; ``peak_hour``: of most memory, since the start of the run;
    ``binding_moment``: when and why one host fewer isn't enough; and all hosts are run as a check, from the start
    to the end, or as many as the budget is enough for: ``checked_hosts``. There ``hosts_binding`` may be "failures"
    or "outages", too, without which one host fewer would do; it is "vCPUs" if no policy can save a host.
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


def capacity(
    study: StudySource,
    slo: str | Sequence[str],
    *,
    vary: str = "overcommit",
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    hosts: int | None = None,
    headroom: float = 0.0,
    spare_hosts: int = 0,
    at: Mapping[str, Scalar] | None = None,
    confidence: float = 95.0,
    budget: str | int = "10m",
    executor: Executor | str = "ray",
    workers: int | None = None,
    address: str | None = None,
    out: Place = None,
    progress: Reporter | bool = False,
) -> CapacityAnswer:
    """Finds the largest load that meets every SLO, for each policy of the study.

    ``study``: a file, a mapping or a plan. ``slo``: what every guest has to get, ``"promotion_rate<0.2%/min"``, one or
    several. The worst guest has to meet it; with an ending such as ``_p95`` or ``_mean`` that percentile, or the mean,
    of all guests. ``vary``: the load, a key with numbers, from ``low`` to ``high`` in steps of ``step``; None: as is
    usual for it. ``hosts``: size the answer for a fleet that needs so many hosts without overcommit, spare ones apart;
    None: the study's. ``headroom``: percent of a host's memory to keep free; ``spare_hosts``: hosts without guests
    (N+1); where guests come and go, the fullest hosts, which may fail at the peak hour; all numbers of hosts in the
    answer include them. ``at``: keys to set to one value. ``confidence``: of each
    answer, in percent. ``budget``: a time, ``"10m"``, which the first loads of each policy may exceed, or a number of
    runs. ``executor``, ``workers``, ``address``,
    ``progress``: as in :func:`sweep`. ``out``: where the runs are kept, as in :func:`compare`.

    Raises UserError for whatever doesn't fit the study, and for a run that fails; StoppedError.

        answer = coldfleet.capacity("configs/quickstart.toml", slo="fault_rate<15%", at={"nested_ratio": 1})
        for policy in answer.policies:
            print(policy.policy, policy.capacity, policy.sentence)
    """
    limits = Budget.parse(budget)
    check_confidence(confidence)
    check_argument("headroom", headroom, Real, "a number")
    check_argument("spare_hosts", spare_hosts, Integral, "a whole number")
    chosen = executor_for(out, executor, workers, address)
    reporter = make_reporter(progress)
    with telling(reporter.say):
        plan = set_keys(read_study(study), at or {}, [vary])
    if not 0 <= headroom < 100 or spare_hosts < 0:
        raise UserError(
            f"headroom {headroom:g}, spare_hosts {spare_hosts}: a percentage below 100, and a number of hosts"
        )
    slos = [parse_slo(text, tick_seconds(plan)) for text in check_texts("slo", slo)]
    if not slos:
        raise UserError("slo: give at least one, such as 'fault_rate<2%'")
    check_clock(plan, (each.metric for each in slos))
    given = tuple(each.text for each in slos)
    slos.append(NO_KILLS)
    path = find_path(vary, plan)
    only_policies(plan, [path])
    wanted_loads = _loads(plan, path, low, high, step)
    policies = list(dict.fromkeys([*map(str, plan.values("policy")), BASELINE]))
    pilot = LOOKS[0] * len(coarse(len(wanted_loads))) * len(policies)
    if limits.runs is not None and limits.runs < pilot:  # before guests are placed, which takes long
        raise UserError(f"budget {budget}: the pilot takes {pilot} runs: give more")
    loads, placement = _placeable(plan, path, wanted_loads)
    if plan.cell(0).spec.fleet.over_time:
        if hosts is not None:
            raise UserError("hosts: guests that come and go are sized as they are in the study: leave it out")
        fleet: FleetSize = FleetOverTime.over_time(plan, headroom / 100, spare_hosts)
    else:
        fleet = FleetSize.of(plan, hosts, headroom / 100, spare_hosts)
    fleet_hosts = hosts + spare_hosts if hosts else fleet.hosts  # complains before anything runs
    fleet_load = float(plan.values(path)[0]) if path.startswith(_SIZES) else None
    plan = with_values(with_values(plan, "policy", policies), path, loads)
    specs = [plan.cell(number).spec for number in range(plan.cell_count)]
    cells = {(spec.policy, spec.value(path)): number for number, spec in enumerate(specs)}
    if fleet_load is not None:
        for load in (loads[0], loads[-1]):
            _ = fleet.at(plan.cell(cells[policies[0], load])).hosts  # complains, too
    columns: dict[str, set[str]] = {each.table: {"host"} for each in slos}
    for each in slos:
        columns[each.table].update(each.metric.needs, *(metric.needs for metric in SUMMARY))
    columns["guests"].update(("guest", "nested", "lived_ticks", *DRAM))
    with Trials(plan, chosen, reporter, columns, out) as trials:

        def rows(policy: str, level: int, replicate: int) -> dict[str, list[dict[str, Any]]]:
            trial = Trial(cells[policy, loads[level]], replicate)
            return {table: trials.rows(table, trial) for table in columns}

        judged_by: dict[tuple[str, int], int] = {}  # replicates

        def size(policy: str, level: int, by_use: bool) -> _Sizing:
            number = cells[policy, loads[level]]
            replicates = range(judged_by.get((policy, level), 1))
            trials.run(Trial(number, r) for r in replicates)
            runs = [trials.plan.run(r * trials.plan.cell_count + number) for r in replicates]
            hosts_of = [(build_hosts(run), rows(policy, level, run.replicate)["guests"]) for run in runs]
            mine = DramAccount.of(hosts_of)
            most = loads[level] if path == DENSITY else math.inf
            count = fleet.at(runs[0].cell).hosts_needed(mine, most, by_use)
            return mine, count, lambda: fleet.check(runs[0], count, patience(policy), slos[:-1])

        def all_alike(policy: str, levels: Iterable[int]) -> bool:
            """Whether several loads were judged, and all runs of them have the same figures."""
            judged = [level for level in levels if (policy, level) in judged_by]
            both = range(min((judged_by[policy, level] for level in judged), default=0))

            def figures(level: int, replicate: int) -> list[list[dict[str, Any]]]:
                of_run = rows(policy, level, replicate).values()
                return [[{**row, "cell_id": ""} for row in table] for table in of_run]

            return len(judged) > 1 and all(
                figures(level, replicate) == figures(judged[0], replicate) for replicate in both for level in judged[1:]
            )

        def patience(policy: str) -> float:
            """How long the check of a policy's answer may take: those that come later have as much."""
            spent_s = searched_s + time.monotonic() - searched_at
            return limits.seconds_left(spent_s) / (len(policies) - policies.index(policy))

        def evaluate(wanted: Mapping[Probe, range]) -> dict[Probe, list[Sequence[float]]]:
            trials.run(Trial(cells[str(p.who), loads[p.level]], r) for p, some in wanted.items() for r in some)
            found: dict[Probe, list[Sequence[float]]] = {}
            for probe, some in wanted.items():
                runs = [rows(str(probe.who), probe.level, r) for r in some]
                judged_by[str(probe.who), probe.level] = some.stop
                found[probe] = [[each.excess(run[each.table]) for each in slos] for run in runs]
            return found

        def left() -> int | None:
            return limits.runs_left(trials.runs, trials.seconds, trials.rate, trials.kept)

        found = find_capacities(policies, len(loads), evaluate, confidence=confidence, runs_left=left)
        bound: dict[str, Binding | None] = dict.fromkeys(policies)
        for policy in policies:
            mine = found[policy]
            level = mine.broken if mine.broken is not None else mine.best
            if level is not None:
                bound[policy] = binding(slos, [rows(policy, level, r) for r in range(_SHOWN)])
        spent, searched_s, searched_at = trials.runs, trials.seconds, time.monotonic()
        sized = _Sized(path, loads, confidence, placed_up_to=loads[-1] < wanted_loads[-1])
        answers = tuple(
            sized.answer(each, found[each], bound[each], size, all_alike(each, found[each].statuses))
            for each in policies
        )
        trials.say_thrift()
    return CapacityAnswer(
        study=plan.name,
        title=plan.title,
        confidence=confidence,
        runs=spent,
        vary=path,
        loads=(loads[0], loads[-1]),
        slos=given,
        fleet_hosts=fleet_hosts,
        fleet_load=fleet_load,
        headroom=headroom,
        spare_hosts=spare_hosts,
        placement_binds=placement,
        policies=answers,
        best=tuple(each.policy for each in _within_one_guest(answers)),
        recommendation=_recommendation(answers),
    )


def _within_one_guest(answers: Sequence[PolicyCapacity]) -> list[PolicyCapacity]:
    """Those that need the fewest hosts, and those that have at most one guest a host less."""
    found = [each for each in answers if each.guests_per_host is not None]
    most = max((each.guests_per_host or 0.0 for each in found), default=0.0)
    return [each for each in found if (each.guests_per_host or 0.0) >= most - _ONE_GUEST]


def _recommendation(answers: Sequence[PolicyCapacity]) -> str:
    """Which policy to take, in one sentence; DRAM decides where hosts, which hold whole guests, can't tell."""
    tied = _within_one_guest(answers)
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


def _loads(plan: Plan, path: str, low: float | None, high: float | None, step: float | None) -> list[float]:
    """The loads to choose from, in ascending order; raises UserError if they can't be graded."""
    first, last = range_of(path, low, high, plan, one=True)
    whole = is_whole(path)
    if first == last and (first.is_integer() or not whole):
        return [int(first) if whole else first]
    grade = step or (1.0 if whole else (last - first) / _GRADES)
    count = int(round((last - first) / grade, 6)) + 1 if grade > 0 else 0
    if not 2 <= count <= _MOST_LOADS or (whole and not (first.is_integer() and float(grade).is_integer())):
        raise UserError(f"step {grade:g}: it must divide {path} from {first:g} to {last:g} into steps")
    return [int(first + n * grade) if whole else round(first + n * grade, 9) for n in range(count)]


def _placeable(plan: Plan, path: str, loads: list[float]) -> tuple[list[float], str]:
    """The loads under which the study's hosts have room for its guests, and why there are no others; "": there are.

    Raises UserError if there are none. Room is taken to fall, or to grow, with the load.
    """

    def why_not(load: float) -> str:
        at = with_values(with_values(plan, "policy", plan.values("policy")[:1]), path, [load])
        at.cell(0)  # complains if that can't be
        try:
            check_fleets(replace(at, replicates=LOOKS[-1]), f" to see whether there is room at {path} {load:g}")
        except UserError as error:
            return str(error)
        return ""

    if path != "overcommit" and not path.startswith("fleet."):
        return loads, ""
    too_low, too_high = why_not(loads[0]), why_not(loads[-1])
    if too_low and too_high:
        raise UserError(too_low)
    if too_low:
        first = bisect_left(loads, True, key=lambda load: not why_not(load))
        return loads[first:], f"there is no room for less than {path} {loads[first]:g}: {why_not(loads[first - 1])}"
    if too_high:
        end = bisect_left(loads, True, key=lambda load: bool(why_not(load)))
        return loads[:end], f"there is no room for more than {path} {loads[end - 1]:g}: {why_not(loads[end])}"
    return loads, ""


_Sizing = tuple[DramAccount, HostCount, Callable[[], HostCheck]]
_Size = Callable[[str, int, bool], _Sizing]


@dataclass(frozen=True)
class _Sized:
    """What a capacity, which is a level, comes to in loads, hosts and DRAM."""

    path: str
    loads: Sequence[float]
    confidence: float
    placed_up_to: bool = False  # the highest load: no higher one can be placed

    def answer(
        self, policy: str, found: Capacity, bound: Binding | None, size: _Size, alike: bool = False
    ) -> PolicyCapacity:
        """The answer, a level lower whenever the run that checks it fails; ``alike``: all loads gave the same."""
        best, text = found.best, self.sentence(found, bound, alike)
        account, count, check = self._checked(policy, best, size)
        while best is not None and check and check.passed is False:
            text += f". But at {self.loads[best]:g} {check.text}"
            best = found.next_lower(best)
            if best is not None:
                text += f", so the answer is {self.loads[best]:g}"
                account, count, check = self._checked(policy, best, size)
        promised, used = statistics.fmean(account.promised), statistics.fmean(account.used)
        saved = account.saved_interval(self.confidence)
        if best is not None and check:
            text += f". {count.text}. {check.text}"
        peak = count if best is not None and isinstance(count, PeakHosts) else None
        scale, shares = count.fleets, account.saved_share_interval(self.confidence)
        uncut = Interval(*map(count.uncut, account.used_interval(self.confidence)))
        return PolicyCapacity(
            policy=policy,
            capacity=self.load(best),
            interval=(self.load(best), self.load(found.broken)),
            unreachable=found.unreachable,
            always_met=found.always_met,
            met_above=self.load(found.met_above),
            hosts=None if best is None else count.hosts,
            hosts_without_overcommit=None if best is None else count.without,
            hosts_binding="" if best is None else count.binding,
            dram_pages=promised * scale,
            dram_used_pages=(promised if best is None else used) * scale,
            dram_saved_pages=0.0 if best is None else account.saved * scale,
            dram_saved_interval=(0.0, 0.0) if best is None else (saved.low * scale, saved.high * scale),
            dram_saved_share=0.0 if best is None else account.saved_share,
            dram_saved_share_interval=(0.0, 0.0) if best is None else (shares.low, shares.high),
            hosts_uncut=None if best is None else count.uncut(),
            hosts_uncut_interval=None if best is None else (uncut.low, uncut.high),
            guests_per_host=None if best is None else count.guests_per_host,
            hosts_of_one_guest=None if best is None else count.of_one_guest,
            checked=check.passed if check else None,
            check_host_memory_pages=check.memory_pages if check else None,
            check_free_pages=check.free_pages if check else None,
            checked_hosts=check.hosts if check else 0,
            hosts_least=peak.least if peak else None,
            peak_hour=peak.peak_hour if peak else None,
            binding_moment=peak.moment if peak else "",
            binding=None if bound is None or alike else _bottleneck(bound),
            alike=alike,
            judged={f"{self.loads[level]:g}": str(each) for level, each in sorted(found.statuses.items())},
            sentence=text,
        )

    @staticmethod
    def _checked(policy: str, best: int | None, size: _Size) -> tuple[DramAccount, HostCount, HostCheck | None]:
        """Hosts for what guests are promised, if that is less than they use; if the check speaks against it, more."""
        account, count, run = size(policy, best or 0, False)
        check = None if best is None else run()
        if check and not check.holds and not count.by_use:
            account, count, run = size(policy, best or 0, True)
            check = run()
        return account, count, check

    def load(self, level: int | None) -> float | None:
        return None if level is None else self.loads[level]

    def sentence(self, found: Capacity, bound: Binding | None, alike: bool = False) -> str:
        lowest, highest = self.loads[0], self.loads[-1]
        best, broken = self.load(found.best), self.load(found.broken)
        if alike:
            same = f"all loads gave the same results: {self.path} changes nothing in this study"
            if broken is not None and bound is not None:
                return f"{same}. At all of them {_broken(bound)}"
            return f"{same}. At all of them every SLO is met" if best is not None else same
        if lowest == highest and best is not None:
            return f"every SLO is met at {self.path} {best:g}, the only load that was tried"
        if found.always_met:
            last = "the most that there is room for" if self.placed_up_to else "the highest that was tried"
            return f"every SLO is met up to {self.path} {highest:g}, {last}"
        if broken is None:
            if best is None:
                return "nothing is certain: the budget is too small for the replicates that this needs"
            return f"every SLO is met up to {self.path} {best:g}; where one is broken is not certain"
        assert bound is not None  # something fails
        why = _bottleneck(bound).text
        above = self.load(found.met_above)
        if best is None and above is not None:
            if found.met_from_there_on:
                return f"every SLO is met from {self.path} {above:g} on; at {broken:g} {why}"
            return f"every SLO is met at {self.path} {above:g}, but not from there on; at {broken:g} {why}"
        if found.unreachable:
            return f"out of reach: {'even ' if lowest < highest else ''}at {self.path} {lowest:g} {why}"
        if best is None:
            return f"no {self.path} certainly meets every SLO; at {broken:g} {why}"
        text = f"every SLO is met up to {self.path} {best:g}; at {broken:g} {why}"
        if above is not None:
            text += f". More is not always worse: at {above:g} every SLO is met again, which this answer doesn't use"
        return text


def _broken(bound: Binding) -> str:
    return f"{bound.slo.text} is broken, with {bound.slo.show(bound.value)}"


def _bottleneck(bound: Binding) -> Bottleneck:
    why = f"{_broken(bound)}, by {bound.guest}"
    return Bottleneck(
        slo=bound.slo.text,
        value=bound.value,
        bound=bound.slo.bound,
        share_of_replicates=bound.share,
        nested_share=bound.nested_share,
        host=bound.row["host"],
        guest=bound.row.get("guest"),
        nested=bound.row.get("nested"),
        replicate=bound.row["replicate"],
        reasons={metric.key: times for metric, times in bound.reasons},
        who=bound.guest,
        text=f"{why}, which has {bound.reason}" if bound.reason else why,
    )
