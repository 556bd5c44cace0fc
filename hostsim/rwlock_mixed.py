"""Several writers beside readers on one fair rwlock: an estimate by mean-value analysis (see hostsim.rwlock).

A writer is served by waiting until the readers before it have left (it drains them), and holding the lock. Writers
are a closed queue with that service. How long a drain lasts depends on how many readers have come in since the last
writer: between two writers that stand in line, those that arrived between them; before a writer that finds no other
one, those that have not left yet. Readers wait for the writers that they find.

Of 80 random waits 69 % were within 15 % of the events', the median off by 10 %, the worst by 68 % (bench_rwlock in
tests/benchmarks): best with many writers, too low with two to four of them on a lock that is always taken.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hostsim.rwlock import Threads, Waits

_ROUNDS = 2_000
_TOLERANCE = 1e-8
_STEP = 0.3  # of the way to the new estimate, in one round


def solve_mixed(readers: Threads, writers: Threads) -> Waits:
    """The steady state; needs at least one of each kind."""
    drains = _Drains(readers)
    reader_rate = readers.count / (readers.think_ns + readers.hold_ns)
    stay, present, reader_wait, drain = writers.hold_ns, 0.0, 0.0, 0.0
    for _ in range(_ROUNDS):
        thinking = max(writers.count - present, 0.0) / writers.count
        others_arrive = (writers.count - 1) * thinking / writers.think_ns
        between, between_square = drains(reader_rate / (others_arrive + 1 / stay))
        arrive = writers.count * thinking / writers.think_ns
        before, before_square = drains(reader_rate / (1 / readers.hold_ns + arrive))
        meets = min(1.0, (writers.count - 1) / (writers.think_ns + stay) * (drain + writers.hold_ns))
        drain = meets * between + (1 - meets) * before
        square = meets * between_square + (1 - meets) * before_square
        service = writers.hold_ns + drain
        rest = (2 * writers.hold_ns * service + square) / (2 * service)  # of the service that somebody finds
        new_stay, new_present, served = _closed_queue(writers, service, rest)
        wait = (new_present - served) * service + served * rest
        new_rate = readers.count / (readers.think_ns + readers.hold_ns + reader_wait)
        change = abs(new_rate / reader_rate - 1) + abs(wait - reader_wait) / (wait + 1) + abs(new_stay / stay - 1)
        reader_rate += _STEP * (new_rate - reader_rate)
        stay += _STEP * (new_stay - stay)
        present += _STEP * (new_present - present)
        reader_wait += _STEP * (wait - reader_wait)
        if change < _TOLERANCE:
            break
    # where the rounds end in a swing, the rates follow from the waits: no thread is lost
    reader_rate = readers.count / (readers.think_ns + readers.hold_ns + reader_wait)
    writer_rate = writers.count / (writers.think_ns + stay)
    writing, holding = min(1.0, writer_rate * writers.hold_ns), reader_rate * readers.hold_ns
    return Waits(
        reader_wait_ns=reader_wait,
        writer_wait_ns=stay - writers.hold_ns,
        reader_rate=reader_rate,
        writer_rate=writer_rate,
        reading=(1 - writing) * -math.expm1(-holding / max(1 - writing, 1e-9)),
        writing=writing,
        holders=holding + writing,
        waiters=reader_rate * reader_wait + writer_rate * (stay - writers.hold_ns),
    )


def _closed_queue(writers: Threads, service: float, rest: float) -> tuple[float, float, float]:
    """How long a writer stays, how many are present, how many of them (0..1) are served: recursion over their count."""
    stay = present = served = 0.0
    for count in range(1, writers.count + 1):
        stay = service + max(present - served, 0.0) * service + served * rest
        rate = count / (writers.think_ns + stay)
        present, served = rate * stay, min(rate * service, 1.0)
    return stay, present, min(served, present)


class _Drains:
    """The first two moments (ns, ns^2) of the time in which some of the readers leave, given their mean number.

    The number is binomial; the last of k that hold the lock for an exponential time h leaves after h (1 + ... + 1/k),
    with the variance h^2 (1 + ... + 1/k^2).
    """

    def __init__(self, readers: Threads) -> None:
        self.count, self.hold_ns = readers.count, readers.hold_ns
        inverse = 1 / np.arange(1, self.count + 1)
        self.last = np.concatenate([[0.0], np.cumsum(inverse)])
        self.square = self.last**2 + np.concatenate([[0.0], np.cumsum(inverse**2)])
        self.log_choices = np.array([_log_choices(self.count, k) for k in range(self.count + 1)])

    def __call__(self, mean: float) -> tuple[float, float]:
        share = min(max(mean / self.count, 1e-12), 1 - 1e-9)
        k: npt.NDArray[np.int64] = np.arange(self.count + 1)
        chance = np.exp(self.log_choices + k * math.log(share) + (self.count - k) * math.log1p(-share))
        return self.hold_ns * float(chance @ self.last), self.hold_ns**2 * float(chance @ self.square)


def _log_choices(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
