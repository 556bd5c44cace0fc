"""The recordings' access lists, bit for bit (ground truth README, section "Schedule")."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

MASK64 = (1 << 64) - 1
FNV_START = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3
L2_BIT = 1 << 31


class SplitMix64:
    """The recorder's random numbers."""

    def __init__(self, seed: int) -> None:
        self.state = seed & MASK64

    def __call__(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK64
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
        return z ^ (z >> 31)


def fnv1a(values: Iterable[int]) -> int:
    """FNV-1a over whole numbers, as the recorder hashes page lists and page states."""
    h = FNV_START
    for value in values:
        h = ((h ^ value) * FNV_PRIME) & MASK64
    return h


def fisher_yates(items: list[int], rnd: SplitMix64) -> None:
    for i in range(len(items) - 1, 0, -1):
        j = rnd() % (i + 1)
        items[i], items[j] = items[j], items[i]


def zipf_table(n: int) -> list[int]:
    """cum[k] = sum of floor(2^32 / (i+1)) for i <= k."""
    table, total = [], 0
    for i in range(n):
        total += (1 << 32) // (i + 1)
        table.append(total)
    return table


def rounds(workload: str, n: int, acc: int, nr_rounds: int, seed: int, layout: str = "perm") -> Iterator[list[int]]:
    """Yield the page list of round 1, 2, ... of a one-level workload."""
    rnd = SplitMix64(seed)
    perm = list(range(n))
    if layout == "perm":
        fisher_yates(perm, rnd)
    hot = n // 5
    cum = zipf_table(n) if workload == "zipf" else []
    cursor = 0
    for r in range(1, nr_rounds + 1):
        pages = []
        for i in range(acc):
            if workload == "hotcold":
                rank = rnd() % hot if rnd() % 10 < 8 else hot + rnd() % (n - hot)
            elif workload == "zipf":
                rank = bisect_right(cum, rnd() % cum[-1])
            elif workload == "uniform":
                rank = rnd() % n
            elif workload == "scan":
                rank = cursor % n
                cursor += 1
            elif workload == "phase":
                width = n // 4
                base = (r - 1) // 6 * width % n
                rank = (base + rnd() % width) % n if rnd() % 10 < 9 else rnd() % n
            elif workload == "hotscan":
                if rnd() % 2:
                    rank = rnd() % hot
                else:
                    rank = hot + cursor % (n - hot)
                    cursor += 1
            elif workload == "hotonly":
                rank = rnd() % (n // 4)
            elif workload == "fixed":
                rank = i * n // 4 // acc
            else:
                raise ValueError(f"unknown workload {workload!r}")
            pages.append(perm[rank])
        yield pages


class MixSchedule:
    """L1 and L2 of one VM touch different, overlapping parts of its memory (README-2, "mix").

    List entries carry bit 31 when L2 does the access.
    """

    def __init__(self, workload: str, n: int, acc: int, seed: int, layout: str = "perm") -> None:
        self.workload, self.n, self.acc = workload, n, acc
        self.rnd = SplitMix64(seed)
        perm = list(range(n))
        if layout == "perm":
            fisher_yates(perm, self.rnd)
        a, b = n * 60 // 100, n * 80 // 100
        self.l2_only = set(perm[a:b])
        self.sets = [perm[:a] + perm[b:], perm[a:]]
        for members in self.sets:
            fisher_yates(members, self.rnd)
        self.cum = zipf_table(n)

    def populate(self) -> list[int]:
        return [page | (L2_BIT if page in self.l2_only else 0) for page in range(self.n)]

    def rounds(self, nr_rounds: int) -> Iterator[list[int]]:
        rnd = self.rnd
        for _ in range(nr_rounds):
            pages = []
            for _ in range(self.acc):
                l2 = rnd() % 100 < 25
                members = self.sets[l2]
                m = len(members)
                h = m // 5
                if self.workload == "hotcold":
                    rank = rnd() % h if rnd() % 10 < 8 else h + rnd() % (m - h)
                else:
                    rank = bisect_right(self.cum, rnd() % self.cum[m - 1])
                pages.append(members[rank] | (L2_BIT if l2 else 0))
            yield pages
