"""How much load a study's fleet bears under each policy, what that is worth, and what stands in the way of more."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

from coldfleet.cluster.answers.capacity import LOOKS, Probe, coarse, find_capacities
from coldfleet.cluster.answers.capacity_answer import CapacityAnswer, recommend, within_one_guest
from coldfleet.cluster.answers.limiting_guest import Binding, binding
from coldfleet.cluster.answers.policy_answer import SizedLoads, Sizing
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
from coldfleet.cluster.answers.sizing import DENSITY, DRAM, DramAccount, FleetSize
from coldfleet.cluster.answers.sizing_over_time import FleetOverTime
from coldfleet.cluster.answers.slo import NO_KILLS, parse_slo
from coldfleet.cluster.execution.executor import Executor
from coldfleet.cluster.execution.progress import Reporter, make_reporter
from coldfleet.cluster.execution.trials import Place, Trial, Trials, executor_for
from coldfleet.cluster.stats.metrics import SUMMARY
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
_SIZES = ("fleet.", "guest.", "host.", "clock.", "ticks")  # loads under which there may be other guests or hosts


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
    if hosts is not None and plan.cell(0).spec.fleet.over_time:
        raise UserError("hosts: guests that come and go are sized as they are in the study: leave it out")
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
        fleet: FleetSize = FleetOverTime.over_time(plan, headroom / 100, spare_hosts)
    else:
        fleet = FleetSize.of(plan, hosts, headroom / 100, spare_hosts)
    fleet_hosts = fleet.hosts  # complains before anything runs
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

        def size(policy: str, level: int, by_use: bool) -> Sizing:
            number = cells[policy, loads[level]]
            replicates = range(judged_by.get((policy, level), 1))
            trials.run(Trial(number, r) for r in replicates)
            runs = [trials.plan.run(r * trials.plan.cell_count + number) for r in replicates]
            hosts_of = [(build_hosts(run), rows(policy, level, run.replicate)["guests"]) for run in runs]
            mine = DramAccount.of(hosts_of)
            most = loads[level] if path == DENSITY else math.inf
            sized = fleet.at(runs[0].cell)
            count = sized.hosts_needed(mine, most, by_use)
            return mine, count, lambda: sized.check(runs[0], count, patience(policy), slos[:-1])

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
        sizes = SizedLoads(path, loads, confidence, placed_up_to=loads[-1] < wanted_loads[-1])
        answers = tuple(
            sizes.answer(each, found[each], bound[each], size, all_alike(each, found[each].statuses))
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
        best=tuple(each.policy for each in within_one_guest(answers)),
        recommendation=recommend(answers),
    )


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
