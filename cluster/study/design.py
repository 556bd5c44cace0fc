"""Points of a study's parameter space that no grid would have: random, Latin hypercube and Sobol samples.

The points depend on the study's seed only, and the plan keeps them as they came out: nothing is drawn again later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.units import QUANTITIES

METHODS = ("sobol", "latin-hypercube", "random")
TABLE_PAGES = 512  # sampled sizes are whole page tables (2 MiB), as guests' memory is on real hosts


@dataclass(frozen=True)
class Bundle:
    """Keys that vary together: each row has a value of each."""

    paths: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]

    def column(self, path: str) -> tuple[Scalar, ...]:
        """The values of one key, row by row."""
        place = self.paths.index(path)
        return tuple(row[place] for row in self.rows)


@dataclass(frozen=True)
class Range:
    """Where the values of a sampled key come from: ``low`` to ``high`` in pages, ns, whole numbers or numbers.

    ``kind``: "pages", "ns", "int" or "float". ``log``: uniform in the logarithm.
    """

    low: float
    high: float
    kind: str
    log: bool = False

    def value(self, share: float) -> Scalar:
        """The value at a share (0 <= share < 1) of the range."""
        if self.kind == "float":
            return min(max(float(f"{self._between(self.low, self.high, share):.6g}"), self.low), self.high)
        step = TABLE_PAGES if self.kind == "pages" else 1
        low, high = math.ceil(self.low / step), math.floor(self.high / step)
        number = min(max(math.floor(self._between(low, high + 1, share)), low), high) * step
        return QUANTITIES[self.kind].format(number) if self.kind in QUANTITIES else number

    def _between(self, low: float, high: float, share: float) -> float:
        if self.log:
            return float(low * (high / low) ** share)
        return low + share * (high - low)


@dataclass(frozen=True)
class Choice:
    """A sampled key that takes one of some values, all alike."""

    values: tuple[Scalar, ...]

    def value(self, share: float) -> Scalar:
        """The value at a share (0 <= share < 1) of the list."""
        return self.values[int(share * len(self.values))]


def sample(keys: dict[str, Range | Choice], method: str, points: int, seed: int) -> Bundle:
    """So many points, without those that came out twice (of whole numbers or choices there are only so many).

    ``method`` is one of :data:`METHODS`. Source of the latter two: scipy.stats.qmc, scrambled.
    """
    shares = _shares(method, len(keys), points, seed)
    rows = (tuple(key.value(float(share)) for key, share in zip(keys.values(), row, strict=True)) for row in shares)
    return Bundle(tuple(keys), tuple(dict.fromkeys(rows)))


def _shares(method: str, dimensions: int, points: int, seed: int) -> npt.NDArray[np.float64]:
    """Points of the unit cube, float64 of shape (points, dimensions)."""
    from scipy.stats import qmc  # takes a second to import

    rng = np.random.default_rng(seed)
    if method == "random":
        return rng.random((points, dimensions))
    sampler = {"sobol": qmc.Sobol, "latin-hypercube": qmc.LatinHypercube}[method](dimensions, rng=rng)
    drawn = next_power_of_two(points) if method == "sobol" else points  # which scipy warns of, if it is none
    return np.asarray(sampler.random(drawn)[:points], np.float64)


def next_power_of_two(number: int) -> int:
    """The least that isn't below a number: Sobol points are balanced only in such numbers."""
    return 1 << (number - 1).bit_length()
