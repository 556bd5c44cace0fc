"""How far the model of mmu_lock is from its events: ``python -m tests.benchmarks.bench_rwlock``, three minutes.

Draws random locks, and prints for each kind the share whose mean waits are within 15 % of the events', the worst, and
what a solution takes. Waits of under 2 % of the other kind's hold are too rare for the events to measure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from coldfleet.hostsim.costs.qrwlock import Threads, Waits, simulate
from coldfleet.hostsim.costs.rwlock import solve

LOCKS = 150
REQUESTS = 5_000


@dataclass(frozen=True)
class Lock:
    """Who shares it; ``ager``: a count of 0 or 1."""

    readers: Threads
    writers: Threads
    ager: Threads


def draw(random: np.random.Generator, count: int, think: tuple[float, float], hold: tuple[float, float]) -> Threads:
    """Threads with times between these powers of ten, ns."""
    return Threads(count, 10 ** random.uniform(*think), 10 ** random.uniform(*hold))


def random_locks(fewest: int, most: int, agers: int = 0) -> Iterator[Lock]:
    """Up to 128 readers beside so many writers, and an ager that comes back at once; always the same ones."""
    random = np.random.default_rng(1)
    while True:
        readers = draw(random, int(random.integers(1, 129)), (3, 5), (2, 3.3))
        writers = draw(random, int(random.integers(fewest, most + 1)), (1.5, 4.5), (1.5, 3.3))
        yield Lock(readers, writers, draw(random, agers, (0.3, 2.5), (1, 2.7)))


def wait_errors(lock: Lock, fast: Waits, exact: Waits) -> list[float]:
    """By what share each mean wait is off, but for those that are too short to measure."""
    longest = max(kind.hold_ns for kind in (lock.writers, lock.ager) if kind.count)
    pairs = (
        (fast.reader_wait_ns, exact.reader_wait_ns, longest),
        (fast.writer_wait_ns, exact.writer_wait_ns, lock.readers.hold_ns),
        (fast.ager_wait_ns, exact.ager_wait_ns, lock.readers.hold_ns),
    )
    return [abs(a / b - 1) for a, b, other_hold_ns in pairs if b > other_hold_ns / 50]


def main() -> None:
    """Prints a line for each kind of lock."""
    warm = Threads(1, 1.0, 1.0)
    solve(warm, warm, warm), solve(warm, warm)  # compiled before anything is timed
    for name, *kinds in (("one writer", 1, 1), ("several writers", 2, 64), ("writers and an ager", 1, 64, 1)):
        for constant in (False, True):
            errors, seconds = [], []
            for lock in islice(random_locks(*kinds), LOCKS):
                began = time.thread_time()
                fast = solve(lock.readers, lock.writers, lock.ager)
                seconds.append(time.thread_time() - began)
                exact = simulate(
                    lock.readers, lock.writers, lock.ager, requests=REQUESTS, seed=1, constant_holds=constant
                )
                errors += wait_errors(lock, fast, exact)
            found = np.array(errors)
            print(
                f"{name}, {'constant' if constant else 'exponential'} holds: {(found <= 0.15).mean():.0%} of "
                f"{len(found)} waits within 15 %, median {np.median(found):.1%}, worst {found.max():.0%}; "
                f"{np.median(seconds) * 1e3:.2f} ms a solution, at most {max(seconds) * 1e3:.0f} ms"
            )


if __name__ == "__main__":
    main()
