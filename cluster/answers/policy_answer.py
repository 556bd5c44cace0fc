"""What the capacity of one policy, which is a level of the load, comes to in loads, hosts and DRAM, and in words."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coldfleet.cluster.answers.capacity import Capacity
from coldfleet.cluster.answers.capacity_answer import Bottleneck, PolicyCapacity
from coldfleet.cluster.answers.host_check import HostCheck
from coldfleet.cluster.answers.limiting_guest import Binding
from coldfleet.cluster.answers.peak_hosts import PeakHosts
from coldfleet.cluster.answers.sizing import DramAccount, HostCount
from coldfleet.cluster.stats.statistics import Interval

Sizing = tuple[DramAccount, HostCount, Callable[[], HostCheck]]
_Size = Callable[[str, int, bool], Sizing]


@dataclass(frozen=True)
class SizedLoads:
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
            hosts_of_classes={} if best is None else count.classes,
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
