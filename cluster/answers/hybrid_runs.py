"""Runs one cell of a study on hybrids of two kernels, with whatever executor there is, and reads off one figure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from coldfleet.cluster.answers.ablation import Switched
from coldfleet.cluster.execution.executor import Executor
from coldfleet.cluster.execution.progress import Reporter
from coldfleet.cluster.execution.trials import Place, Trial, Trials
from coldfleet.cluster.stats.metrics import Metric, parse_metric
from coldfleet.cluster.stats.statistics import Mean, mean_interval
from coldfleet.cluster.study.argument import COUNTER_UNITS
from coldfleet.cluster.study.plan import Plan, as_written
from coldfleet.cluster.study.values import KERNELS_OWN
from coldfleet.hostsim.engine.hybrids import differing_features, hybrid
from coldfleet.hostsim.engine.kernels import Kernel

_TICKS = "ticks"


@dataclass(frozen=True)
class GuestMetric:
    """A figure of a run: a metric of guest ``guest`` of each host together, or of all guests (None)."""

    metric: Metric
    guest: int | None = None

    @classmethod
    def parse(cls, text: str, guest: int | None) -> GuestMetric:
        """A metric of counters, and of the ticks of a run; raises UserError."""
        return cls(parse_metric(text, {**COUNTER_UNITS, _TICKS: _TICKS}), guest)

    @property
    def columns(self) -> list[str]:
        """The columns of the table guests that it is made of."""
        return [name for name in self.metric.needs if name != _TICKS]

    def value(self, rows: list[dict[str, Any]], ticks: int) -> float:
        """The figure of a run, from its rows of the table guests."""
        chosen = [row for row in rows if self.guest is None or row["guest"] == self.guest]
        return self.metric.value({_TICKS: ticks, **{name: sum(row[name] for row in chosen) for name in self.columns}})


class HybridRuns:
    """Evaluates hybrids for :func:`cluster.answers.ablation.ablate`; ``values`` keeps each one's figure for every
    replicate. ``runs``: that were asked for, ``reused``: those that were there before."""

    def __init__(
        self,
        study: tuple[Plan, int],
        kernels: tuple[Kernel, Kernel],
        metric: GuestMetric,
        executor: Callable[[], Executor],
        reporter: Reporter,
        out: Place = None,
    ) -> None:
        plan, number = study
        self._spec = plan.cell(number).spec
        written = as_written(self._spec, self._spec.class_parameters())
        base = {path: value for path, value in written.items() if path != "kernel"}
        self._plan = replace(plan, base=base, axes={}, bundles=(), where=())
        self._old, self._new = kernels
        self._metric = metric
        self._executor = executor
        self._reporter: Reporter = reporter
        self._out = out
        self.runs = self.reused = 0
        self.values: dict[Switched, list[float]] = {}

    @property
    def features(self) -> list[str]:
        """What differs between the kernels; how they ask KVM only if the study leaves that to them."""
        differ = differing_features(self._old, self._new)
        return [name for name in differ if name != "policy" or self._spec.policy == KERNELS_OWN]

    @property
    def ends(self) -> tuple[Switched, Switched]:
        """The old and the new kernel."""
        return Switched(), Switched(self.features)

    def __call__(self, hybrids: Collection[Switched]) -> dict[Switched, float]:
        """The means of these hybrids; raises UserError if a run fails, StoppedError if they were interrupted."""
        names = {self._name(switched): switched for switched in hybrids}
        plan = replace(self._plan, axes={"kernel": tuple(names)})
        columns = {"guests": ["guest", *self._metric.columns]}
        with Trials(plan, self._executor(), self._reporter, columns, self._out) as trials:
            trials.run(Trial(*reversed(plan.place(index))) for index in range(len(plan)))
            for number, switched in enumerate(names.values()):
                runs = [trials.rows("guests", Trial(number, replicate)) for replicate in range(plan.replicates)]
                self.values[switched] = [self._metric.value(run, self._spec.ticks) for run in runs]
        self.runs += trials.runs
        self.reused += trials.reused
        self._reporter = _OnlyProgress(self._reporter)
        return {switched: self.mean(switched).mean for switched in hybrids}

    def mean(self, switched: Switched) -> Mean:
        """A hybrid's mean over the replicates, with its interval."""
        return mean_interval(self.values[switched])

    def shift(self, old: Switched, new: Switched) -> Mean:
        """The difference of two hybrids on the same accesses, with its interval."""
        return mean_interval([b - a for a, b in zip(self.values[old], self.values[new], strict=True)])

    def differ(self) -> bool:
        """Whether the ends can be told apart: the interval of their difference doesn't contain 0."""
        mean, half = self.shift(*self.ends)
        return abs(mean) > (half or 0.0)

    def _name(self, switched: Switched) -> str:
        if switched == self.ends[1]:
            return self._new.name
        return hybrid(self._old, self._new, switched).name


class _OnlyProgress:
    """Shows how far a sweep is, but doesn't introduce it: an ablation has several, and the first did."""

    def __init__(self, reporter: Reporter) -> None:
        self.begin, self.advance, self.end = reporter.begin, reporter.advance, reporter.end

    def say(self, text: str) -> None: ...
