"""Which features of a kernel carry a difference: a study is run on hybrids of two kernels, feature by feature.

Every feature in which the kernels differ is switched over alone, from the old kernel and, backwards, from the new one.
Then a group is sought that carries the whole difference, both ways: switched over in the old kernel it makes the new
one's figure, switched back in the new kernel the old one's. All pairs are tried, since some features only work
together, and the best groups are extended by one feature at a time. The features of the group are *named*, and what
they carry is shared out among them by Shapley's rule: what a feature adds, averaged over every order of switching.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

Switched = frozenset[str]
"""The features that the old kernel has from the new one."""

RunHybrids = Callable[[Collection[Switched]], dict[Switched, float]]
"""Runs the study on hybrids: the metric of each."""

CLOSE = 0.05  # of the shift: a group that leaves no more than this at either end carries it
HELPS = 0.01  # of the shift: what one feature more has to bring; less is nothing
BEAM = 6  # groups that are extended
MOST_NAMED = 6  # features; Shapley's rule asks for 2^n hybrids at each end


@dataclass(frozen=True)
class FeatureEffect:
    """What one feature does. ``on``: the change if it alone is switched over in the old kernel; ``off``: what the new
    kernel loses if it alone is switched back; ``share``: its part of what the named features carry, 0 if not named."""

    name: str
    on: float
    off: float
    named: bool = False
    share: float = 0.0


@dataclass(frozen=True)
class Ablation:
    """The answer. ``old``, ``new``: the metric of the two kernels. ``carried``: the change by the named features
    switched over together in the old kernel; ``taken_back``: what the new one loses if they are switched back."""

    old: float
    new: float
    effects: tuple[FeatureEffect, ...]
    carried: float
    taken_back: float

    @property
    def shift(self) -> float:
        """The difference to be explained."""
        return self.new - self.old

    @property
    def named(self) -> list[FeatureEffect]:
        """The features that carry it, the largest share first."""
        return sorted((effect for effect in self.effects if effect.named), key=lambda effect: -abs(effect.share))

    @property
    def carried_alone(self) -> float:
        """The sum of what each named feature does alone in the old kernel; the rest of ``carried`` is interaction."""
        return sum(effect.on for effect in self.named)

    @property
    def taken_back_alone(self) -> float:
        """The same in the new kernel, of ``taken_back``."""
        return sum(effect.off for effect in self.named)

    def part(self, change: float) -> float:
        """A change as a share of the shift."""
        return change / self.shift if self.shift else 0.0


def ablate(features: Sequence[str], evaluate: RunHybrids, differ: Callable[[], bool] = lambda: True) -> Ablation:
    """Explains the difference between two kernels that differ in these features.

    ``differ``: whether the ends, which are evaluated first, can be told apart; if not, nothing is explained, and there
    are no effects.
    """
    ends = _Ends(features, evaluate)
    ends.ask(Switched())
    if ends.new == ends.old or not differ():
        return Ablation(ends.old, ends.new, (), 0.0, 0.0)
    alone = {feature: Switched([feature]) for feature in features}
    ends.ask(*alone.values())
    named = _carriers(features, ends)
    ends.ask(named)
    shares = _shapley(sorted(named), ends)
    effects = tuple(
        FeatureEffect(name, ends.on(group), ends.off(group), name in named, shares.get(name, 0.0))
        for name, group in alone.items()
    )
    return Ablation(ends.old, ends.new, effects, ends.on(named), ends.off(named))


class _Ends:
    """The metric of hybrids that have a group of features switched over, or all but that group; each is run once."""

    def __init__(self, features: Iterable[str], evaluate: RunHybrids) -> None:
        self._all = Switched(features)
        self._evaluate = evaluate
        self._known: dict[Switched, float] = {}

    def ask(self, *groups: Switched) -> None:
        """Runs what is not known yet of these groups, all at once."""
        wanted = dict.fromkeys(hybrid for group in groups for hybrid in (group, self._all - group))
        if new := [hybrid for hybrid in wanted if hybrid not in self._known]:
            self._known.update(self._evaluate(new))

    @property
    def old(self) -> float:
        """The old kernel's metric."""
        return self._known[Switched()]

    @property
    def new(self) -> float:
        """The new kernel's."""
        return self._known[self._all]

    def on(self, group: Switched) -> float:
        """The change in the old kernel if the group is switched over."""
        return self._known[group] - self.old

    def off(self, group: Switched) -> float:
        """What the new kernel loses if the group is switched back."""
        return self.new - self._known[self._all - group]

    def left(self, group: Switched) -> float:
        """What the group fails to carry, at the worse end, as a share of the shift."""
        shift = self.new - self.old
        return max(abs(shift - self.on(group)), abs(shift - self.off(group))) / abs(shift)

    def silent(self, group: Switched) -> bool:
        """Whether the group changes nothing at either end."""
        return max(abs(self.on(group)), abs(self.off(group))) < HELPS * abs(self.new - self.old)


def _carriers(features: Sequence[str], ends: _Ends) -> Switched:
    """The smallest group found that carries the shift both ways, or the best one if none does."""
    heard = [feature for feature in features if not ends.silent(Switched([feature]))]
    quiet = Switched(features) - Switched(heard)
    ends.ask(quiet)
    candidates = heard if ends.silent(quiet) else list(features)  # some may only work together
    best, beam = Switched(), [Switched()]
    for size in range(1, min(MOST_NAMED, len(candidates)) + 1):
        if size == 2:
            groups = {Switched(pair) for pair in combinations(candidates, 2)}
        else:
            groups = {group | {feature} for group in beam for feature in candidates if feature not in group}
        ends.ask(*sorted(groups, key=sorted))
        beam = sorted(groups, key=lambda group: (ends.left(group), sorted(group)))[:BEAM]
        if ends.left(beam[0]) < ends.left(best) - HELPS:
            best = beam[0]
        if ends.left(best) <= CLOSE:
            break
    return best


def _shapley(named: Sequence[str], ends: _Ends) -> dict[str, float]:
    """Each feature's part of what they do together, the mean of both ends."""
    ends.ask(*(Switched(group) for size in range(len(named) + 1) for group in combinations(named, size)))
    shares = dict.fromkeys(named, 0.0)
    for feature in named:
        others = [other for other in named if other != feature]
        for size in range(len(named)):
            weight = factorial(size) * factorial(len(others) - size) / factorial(len(named))
            for group in map(Switched, combinations(others, size)):
                added = ends.on(group | {feature}) - ends.on(group)
                taken = ends.off(group | {feature}) - ends.off(group)
                shares[feature] += weight * (added + taken) / 2
    return shares
