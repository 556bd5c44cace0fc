"""coldfleet capacity: the largest load at which every SLO is met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from coldfleet.cluster.commands.execution import ExecutorName, ExecutorOption, Workers

if TYPE_CHECKING:
    from coldfleet.cluster.answers.capacity import Capacity, Probe
    from coldfleet.cluster.answers.sizing import Binding, FleetSize
    from coldfleet.cluster.answers.slo import Slo
    from coldfleet.cluster.study.plan import Plan

BASELINE = "evict-only"
_GRADES = 60  # of a range, if nothing else is said
_MOST_LOADS = 10_000
_GIB = 1 << 30


class PolicyCapacity(NamedTuple):
    """What was found for a policy, and what stands in the way of more; None: nothing does."""

    capacity: Capacity
    binding: Binding | None


def capacity(
    study: Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY.toml")],
    slo: Annotated[
        list[str], typer.Option(help="What every guest has to get: METRIC<BOUND. May be repeated.", metavar="SLO")
    ],
    vary: Annotated[str, typer.Option(help="The load: a key of the study.", metavar="KEY")] = "overcommit",
    low: Annotated[float | None, typer.Option("--from", help="The lowest load.")] = None,
    high: Annotated[float | None, typer.Option("--to", help="The highest load.")] = None,
    step: Annotated[float | None, typer.Option(help="How finely the load is graded.")] = None,
    hosts: Annotated[
        int | None, typer.Option(min=1, help="Reckon with a fleet that fills so many hosts.  [default: the study's]")
    ] = None,
    at: Annotated[list[str] | None, typer.Option(help="Set a key: KEY=VALUE. May be repeated.")] = None,
    confidence: Annotated[float, typer.Option(min=50, max=99.99, help="Of each answer, in percent.")] = 95.0,
    budget: Annotated[str, typer.Option(help="A time, such as 5m, or a number of runs.")] = "10m",
    executor: ExecutorOption = ExecutorName.RAY,
    workers: Workers = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Find the largest load that meets every SLO, for each policy.

    The worst guest has to meet it; with an ending such as _p95 or _mean that percentile, or the mean, of all guests.
    Prints the load and where its true border lies, the hosts that the fleet then needs, the DRAM that is saved
    against evict-only, and which guest stands in the way of more.

    \b
    Examples:
      coldfleet capacity configs/quickstart.toml --at nested_ratio=0.25 --slo 'promotion_rate<5%/tick'
      coldfleet capacity configs/quickstart.toml --at nested_ratio=1 --slo 'fault_rate<10%' --hosts 1000 --json
      coldfleet capacity configs/quickstart.toml --at nested_ratio=0 --slo 'refaults_p95<60000' --slo 'fault_rate<20%'
    """
    from coldfleet.cluster.answers.capacity import find_capacities
    from coldfleet.cluster.answers.question import (
        Budget,
        check_clock,
        find_path,
        only_policies,
        set_keys,
        settings_of,
        tick_seconds,
    )
    from coldfleet.cluster.answers.question import vary as give
    from coldfleet.cluster.answers.sizing import FleetSize, binding
    from coldfleet.cluster.answers.slo import parse_slo
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.commands.execution import make_executor
    from coldfleet.cluster.execution.progress import make_reporter
    from coldfleet.cluster.execution.trials import Trial, Trials
    from coldfleet.cluster.stats.metrics import SUMMARY
    from coldfleet.cluster.study.reader import read_study

    limits = Budget.parse(budget)
    plan = set_keys(read_study(study), at or [])
    slos = [parse_slo(text, tick_seconds(plan)) for text in slo]
    check_clock(plan, (each.metric for each in slos))
    path = find_path(vary, plan)
    only_policies(plan, [path])
    fleet = FleetSize.of(plan, hosts)
    loads = _loads(plan, path, low, high, step)
    policies = list(dict.fromkeys([*map(str, plan.values("policy")), BASELINE]))
    plan = give(give(plan, "policy", policies), path, loads)
    cells = {(policy, values[0][1]): n for values, some in settings_of(plan).items() for policy, n in some.items()}
    columns: dict[str, set[str]] = {each.table: {"host"} for each in slos}
    for each in slos:
        columns[each.table].update(each.metric.needs, *(metric.needs for metric in SUMMARY))
        columns[each.table].update(("guest", "nested") if each.table == "guests" else ())
    with Trials(plan, make_executor(executor, workers, None), make_reporter(), columns) as trials:

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
        answers = {}
        for policy in policies:
            mine = found[policy]
            level = mine.broken if mine.broken is not None else mine.best
            runs = [] if level is None else [rows(policy, level, r) for r in range(5)]
            answers[policy] = PolicyCapacity(mine, binding(slos, runs) if runs else None)
        spent = trials.runs
    shown = _Shown(path, loads, fleet, slos, answers)
    if json:
        output.print_json({"study": plan.name, "confidence": confidence, "runs": spent, **shown.as_json()})
    else:
        output.print_text(plan.title or plan.name)
        shown.print(confidence)
    return 0


def _loads(plan: Plan, path: str, low: float | None, high: float | None, step: float | None) -> list[float]:
    """The loads to choose from, in ascending order; raises UserError if they can't be graded."""
    from coldfleet.cluster.answers.question import is_whole, range_of
    from coldfleet.hostsim.spec.errors import UserError

    first, last = range_of(path, low, high, plan)
    whole = is_whole(path)
    grade = step or (1.0 if whole else (last - first) / _GRADES)
    count = int(round((last - first) / grade, 6)) + 1 if grade > 0 else 0
    if not 2 <= count <= _MOST_LOADS or (whole and not (first.is_integer() and grade.is_integer())):
        raise UserError(f"--step {grade:g}: it has to grade {path} from {first:g} to {last:g}")
    return [int(first + n * grade) if whole else round(first + n * grade, 9) for n in range(count)]


class _Shown(NamedTuple):
    """The answers, for people and for programs."""

    path: str
    loads: Sequence[float]
    fleet: FleetSize
    slos: Sequence[Slo]
    answers: Mapping[str, PolicyCapacity]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "vary": self.path,
            "loads": [self.loads[0], self.loads[-1]],
            "slos": [slo.text for slo in self.slos],
            "fleet_hosts": self.fleet.hosts,
            "policies": [{"policy": policy, **self._one(policy)} for policy in self.answers],
        }

    def print(self, confidence: float) -> None:
        """A table, and a sentence for each policy."""
        from coldfleet.cluster.commands import output
        from coldfleet.cluster.results.summary import WIDTH
        from coldfleet.hostsim.spec.units import PAGE_BYTES

        output.print_text(f"the largest {self.path} at which {' and '.join(slo.text for slo in self.slos)}")
        output.print_text("")
        numbers = (self.path, "border", "hosts", "DRAM saved")
        table = output.make_table("policy", *numbers, "what binds", numbers=numbers)
        for policy, (_, bound) in self.answers.items():
            one = self._one(policy)
            best, saved, hosts = one["capacity"], one["dram_saved_pages"], one["hosts"]
            border = " to ".join("?" if end is None else f"{end:g}" for end in one["interval"])
            table.add_row(
                policy,
                "-" if best is None else f"{best:g}",
                border,
                "-" if hosts is None else str(hosts),
                f"{saved * PAGE_BYTES / _GIB:,.1f} GiB",
                f"{bound.slo.text}: {bound.guest}" if bound else "",
            )
        output.print_rich(table, WIDTH)
        output.print_text("")
        for policy in self.answers:
            output.print_paragraph(f"{policy}: {self._one(policy)['sentence']}", WIDTH)
        output.print_text(f"borders with {confidence:g} % confidence; DRAM against {BASELINE}")

    def _one(self, policy: str) -> dict[str, Any]:
        found, bound = self.answers[policy]
        best, border = self._load(found.best), self._load(found.broken)
        baseline = self._dram(BASELINE)
        mine = self._dram(policy)
        return {
            "capacity": best,
            "interval": [best, border],
            "unreachable": found.unreachable,
            "always_met": found.always_met,
            "met_above": self._load(found.met_above),
            "hosts": None if best is None else self.fleet.hosts_needed(self.path, best),
            "dram_pages": mine,
            "dram_saved_pages": baseline - mine,
            "binding": self._binding(bound),
            "judged": {f"{self.loads[level]:g}": str(each) for level, each in sorted(found.statuses.items())},
            "sentence": self._sentence(found, bound),
        }

    def _load(self, level: int | None) -> float | None:
        return None if level is None else self.loads[level]

    def _dram(self, policy: str) -> float:
        """What the fleet keeps in memory; without a capacity there is no overcommit."""
        best = self._load(self.answers[policy].capacity.best)
        return self.fleet.dram_pages(self.path, 1.0 if best is None else best)

    def _sentence(self, found: Capacity, bound: Binding | None) -> str:
        lowest, highest = self.loads[0], self.loads[-1]
        best, broken = self._load(found.best), self._load(found.broken)
        if found.always_met:
            return f"every SLO is met up to {self.path} {highest:g}, the highest that was tried: --to tries more"
        if broken is None:
            if best is None:
                return "nothing is sure: more replicates are needed than the budget paid for"
            return f"every SLO is met up to {self.path} {best:g}; where one is broken isn't sure"
        assert bound is not None  # something fails
        why = f"{bound.slo.text} is broken, with {bound.slo.show(bound.value)}, by {bound.guest}"
        if bound.reason:
            why += f", which has {bound.reason}"
        if found.unreachable:
            return f"out of reach: even at {self.path} {lowest:g} {why}"
        if best is None:
            return f"no {self.path} is sure to meet every SLO; at {broken:g} {why}"
        text = f"every SLO is met up to {self.path} {best:g}; at {broken:g} {why}"
        if found.met_above is not None:
            above = self._load(found.met_above)
            text += f". More is not always worse: at {above:g} every SLO is met again, which this answer doesn't use"
        return text

    def _binding(self, bound: Binding | None) -> dict[str, Any] | None:
        if bound is None:
            return None
        return {
            "slo": bound.slo.text,
            "value": bound.value,
            "bound": bound.slo.bound,
            "share_of_replicates": bound.share,
            "nested_share": bound.nested_share,
            "host": bound.row["host"],
            "guest": bound.row.get("guest"),
            "nested": bound.row.get("nested"),
            "replicate": bound.row["replicate"],
            "reasons": {metric.key: times for metric, times in bound.reasons},
        }
