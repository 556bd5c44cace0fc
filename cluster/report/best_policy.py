"""Which policy is best, by metric: over the whole study, and at each setting. Smaller is better, for every metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coldfleet.cluster.report.figures import Figures, Values
from coldfleet.cluster.stats.statistics import Mean, mean_interval
from coldfleet.cluster.study.values import Scalar


@dataclass(frozen=True)
class BestPolicy:
    """The policy with the smallest mean; ``ties``: others whose difference from it may be none, with 95 % confidence.

    ``means``: of each policy, the smallest first.
    """

    best: str
    ties: tuple[str, ...]
    means: dict[str, Mean]

    @property
    def known(self) -> bool:
        """Whether every policy has two replicates or more: one tells neither who wins nor who ties."""
        return all(mean.half_width is not None for mean in self.means.values())


def best_policy(of_policy: dict[Scalar, Values]) -> BestPolicy:
    """The answer from the replicates' means of each policy. Differences are taken replicate by replicate."""
    means = {str(name): mean_interval(values.tolist()) for name, values in of_policy.items()}
    ordered = dict(sorted(means.items(), key=lambda item: item[1].mean))
    best = next(iter(ordered))
    least = of_policy[best]
    ties = [
        str(name)
        for name, values in of_policy.items()
        if name != best and (len(values) != len(least) or _may_be_equal(values - least))
    ]
    return BestPolicy(best, tuple(name for name in ordered if name in ties), ordered)


def _may_be_equal(differences: Values) -> bool:
    """Whether the interval of a mean difference contains 0; one replicate decides nothing."""
    if not np.any(differences):
        return True
    mean, half = mean_interval(differences.tolist())
    return half is None or abs(mean) <= half


def best_policies(figures: Figures) -> dict[str, BestPolicy]:
    """For each metric the best policy of the whole study."""
    return {metric.key: best_policy(figures.paired(metric.key, ())[()]) for metric in figures.metrics}


def winners(figures: Figures, metric: str, by: Sequence[str]) -> list[tuple[dict[str, Scalar], BestPolicy]]:
    """The best policy at each combination of values of some axes."""
    return [
        (dict(zip(by, at, strict=True)), best_policy(of_policy)) for at, of_policy in figures.paired(metric, by).items()
    ]
