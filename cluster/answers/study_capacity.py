"""How much load a study's fleet bears under each policy, what that is worth, and what stands in the way of more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coldfleet.cluster.answers.capacity import Capacity, Probe, find_capacities
from coldfleet.cluster.answers.question import (
    Budget,
    check_clock,
    check_confidence,
    find_path,
    is_whole,
    only_policies,
    range_of,
    set_keys,
    settings_of,
    tick_seconds,
)
from coldfleet.cluster.answers.question import vary as with_values
from coldfleet.cluster.answers.sizing import Binding, FleetSize, binding
from coldfleet.cluster.answers.slo import parse_slo
from coldfleet.cluster.execution.executor import Executor, make_executor
from coldfleet.cluster.execution.progress import Reporter, make_reporter
from coldfleet.cluster.execution.trials import Trial, Trials
from coldfleet.cluster.stats.metrics import SUMMARY
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import StudySource, read_study
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.errors import UserError

BASELINE = "evict-only"
_GRADES = 60  # of a range, if nothing else is said
_MOST_LOADS = 10_000
_SHOWN = 5  # replicates from which is told what binds


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
    meets every SLO though a lower one fails. ``hosts``: that the fleet then needs; None: the load isn't about that.
    ``dram_pages``: memory that the guests keep, ``dram_saved_pages`` less than under evict-only; in pages of 4 KiB.
    ``binding``: what stands in the way of more. ``judged``: each load that was tried: "meets", "fails" or "open".
    ``sentence``: the answer in words.
    """

    policy: str
    capacity: float | None
    interval: tuple[float | None, float | None]
    unreachable: bool
    always_met: bool
    met_above: float | None
    hosts: int | None
    dram_pages: float
    dram_saved_pages: float
    binding: Bottleneck | None
    judged: Mapping[str, str]
    sentence: str


@dataclass(frozen=True)
class CapacityAnswer:
    """What :func:`capacity` found, as plain data.

    ``study``, ``title``: the study's name and title. ``confidence``: of each answer, in percent. ``runs``: that were
    simulated. ``vary``: the load's key; ``loads``: the lowest and the highest. ``slos``: as they were given.
    ``fleet_hosts``: hosts that the fleet fills without overcommit. ``policies``: those of the study, and evict-only,
    against which the others are held.
    """

    study: str
    title: str
    confidence: float
    runs: int
    vary: str
    loads: tuple[float, float]
    slos: tuple[str, ...]
    fleet_hosts: float
    policies: tuple[PolicyCapacity, ...]


def capacity(
    study: StudySource,
    slo: str | Sequence[str],
    *,
    vary: str = "overcommit",
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    hosts: int | None = None,
    at: Mapping[str, Scalar] | None = None,
    confidence: float = 95.0,
    budget: str | int = "10m",
    executor: Executor | str = "ray",
    workers: int | None = None,
    progress: Reporter | bool = False,
) -> CapacityAnswer:
    """Finds the largest load that meets every SLO, for each policy of the study.

    ``study``: a file, a mapping or a plan. ``slo``: what every guest has to get, ``"promotion_rate<0.2%/min"``, one or
    several. The worst guest has to meet it; with an ending such as ``_p95`` or ``_mean`` that percentile, or the mean,
    of all guests. ``vary``: the load, a key with numbers, from ``low`` to ``high`` in steps of ``step``; None: as is
    usual for it. ``hosts``: size the answer for a fleet that fills so many hosts; None: the study's. ``at``: keys to
    set to one value. ``confidence``: of each answer, in percent. ``budget``: a time, ``"10m"``, or a number of runs.
    ``executor``, ``workers``, ``progress``: as in :func:`sweep`.

    Raises UserError for whatever doesn't fit the study, and for a run that fails; KeyboardInterrupt.

        answer = coldfleet.capacity("configs/quickstart.toml", slo="fault_rate<15%", at={"nested_ratio": 1})
        for policy in answer.policies:
            print(policy.policy, policy.capacity, policy.sentence)
    """
    limits = Budget.parse(budget)
    check_confidence(confidence)
    chosen = make_executor(executor, workers)
    plan = set_keys(read_study(study), at or {})
    slos = [parse_slo(text, tick_seconds(plan)) for text in ([slo] if isinstance(slo, str) else slo)]
    if not slos:
        raise UserError("slo: give at least one, such as 'fault_rate<2%'")
    check_clock(plan, (each.metric for each in slos))
    path = find_path(vary, plan)
    only_policies(plan, [path])
    fleet = FleetSize.of(plan, hosts)
    loads = _loads(plan, path, low, high, step)
    policies = list(dict.fromkeys([*map(str, plan.values("policy")), BASELINE]))
    plan = with_values(with_values(plan, "policy", policies), path, loads)
    cells = {(policy, values[0][1]): n for values, some in settings_of(plan).items() for policy, n in some.items()}
    columns: dict[str, set[str]] = {each.table: {"host"} for each in slos}
    for each in slos:
        columns[each.table].update(each.metric.needs, *(metric.needs for metric in SUMMARY))
        columns[each.table].update(("guest", "nested") if each.table == "guests" else ())
    with Trials(plan, chosen, make_reporter(progress), columns) as trials:

        def rows(policy: str, level: int, replicate: int) -> dict[str, list[dict[str, Any]]]:
            trial = Trial(cells[policy, loads[level]], replicate)
            return {table: trials.rows(table, trial) for table in columns}

        def evaluate(wanted: Mapping[Probe, range]) -> dict[Probe, list[Sequence[float]]]:
            trials.run(Trial(cells[str(p.who), loads[p.level]], r) for p, some in wanted.items() for r in some)
            found: dict[Probe, list[Sequence[float]]] = {}
            for probe, some in wanted.items():
                runs = [rows(str(probe.who), probe.level, r) for r in some]
                found[probe] = [[each.excess(run[each.table]) for each in slos] for run in runs]
            return found

        def left() -> int | None:
            return limits.runs_left(trials.runs, trials.seconds) if trials.runs or limits.runs is not None else None

        found = find_capacities(policies, len(loads), evaluate, confidence=confidence, runs_left=left)
        bound: dict[str, Binding | None] = dict.fromkeys(policies)
        for policy in policies:
            mine = found[policy]
            level = mine.broken if mine.broken is not None else mine.best
            if level is not None:
                bound[policy] = binding(slos, [rows(policy, level, r) for r in range(_SHOWN)])
        spent = trials.runs
    sized = _Sized(path, loads, fleet)
    base = sized.dram(found[BASELINE])
    return CapacityAnswer(
        study=plan.name,
        title=plan.title,
        confidence=confidence,
        runs=spent,
        vary=path,
        loads=(loads[0], loads[-1]),
        slos=tuple(each.text for each in slos),
        fleet_hosts=fleet.hosts,
        policies=tuple(sized.answer(policy, found[policy], bound[policy], base) for policy in policies),
    )


def _loads(plan: Plan, path: str, low: float | None, high: float | None, step: float | None) -> list[float]:
    """The loads to choose from, in ascending order; raises UserError if they can't be graded."""
    first, last = range_of(path, low, high, plan)
    whole = is_whole(path)
    grade = step or (1.0 if whole else (last - first) / _GRADES)
    count = int(round((last - first) / grade, 6)) + 1 if grade > 0 else 0
    if not 2 <= count <= _MOST_LOADS or (whole and not (first.is_integer() and float(grade).is_integer())):
        raise UserError(f"step {grade:g}: it must divide {path} from {first:g} to {last:g} into steps")
    return [int(first + n * grade) if whole else round(first + n * grade, 9) for n in range(count)]


@dataclass(frozen=True)
class _Sized:
    """What a capacity, which is a level, comes to in loads, hosts and DRAM."""

    path: str
    loads: Sequence[float]
    fleet: FleetSize

    def answer(self, policy: str, found: Capacity, bound: Binding | None, baseline: float) -> PolicyCapacity:
        best, mine = self.load(found.best), self.dram(found)
        return PolicyCapacity(
            policy=policy,
            capacity=best,
            interval=(best, self.load(found.broken)),
            unreachable=found.unreachable,
            always_met=found.always_met,
            met_above=self.load(found.met_above),
            hosts=None if best is None else self.fleet.hosts_needed(self.path, best),
            dram_pages=mine,
            dram_saved_pages=baseline - mine,
            binding=None if bound is None else _bottleneck(bound),
            judged={f"{self.loads[level]:g}": str(each) for level, each in sorted(found.statuses.items())},
            sentence=self.sentence(found, bound),
        )

    def load(self, level: int | None) -> float | None:
        return None if level is None else self.loads[level]

    def dram(self, found: Capacity) -> float:
        """What the fleet keeps in memory, in pages; without a capacity there is no overcommit."""
        best = self.load(found.best)
        return self.fleet.dram_pages(self.path, 1.0 if best is None else best)

    def sentence(self, found: Capacity, bound: Binding | None) -> str:
        lowest, highest = self.loads[0], self.loads[-1]
        best, broken = self.load(found.best), self.load(found.broken)
        if found.always_met:
            return f"every SLO is met up to {self.path} {highest:g}, the highest that was tried"
        if broken is None:
            if best is None:
                return "nothing is certain: the budget is too small for the replicates that this needs"
            return f"every SLO is met up to {self.path} {best:g}; where one is broken is not certain"
        assert bound is not None  # something fails
        why = _bottleneck(bound).text
        if found.unreachable:
            return f"out of reach: even at {self.path} {lowest:g} {why}"
        if best is None:
            return f"no {self.path} certainly meets every SLO; at {broken:g} {why}"
        text = f"every SLO is met up to {self.path} {best:g}; at {broken:g} {why}"
        if found.met_above is not None:
            above = self.load(found.met_above)
            text += f". More is not always worse: at {above:g} every SLO is met again, which this answer doesn't use"
        return text


def _bottleneck(bound: Binding) -> Bottleneck:
    why = f"{bound.slo.text} is broken, with {bound.slo.show(bound.value)}, by {bound.guest}"
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
