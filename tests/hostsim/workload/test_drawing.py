"""What is drawn by arithmetic alone is what the rules say, written down with branches, access by access."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coldfleet.hostsim.engine.philox import philox
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_WRITE
from coldfleet.hostsim.spec.host_spec import DRAWN_KINDS, GuestSpec, NestedSpec, WorkloadSpec
from coldfleet.hostsim.workload.load import set_share
from coldfleet.hostsim.workload.streams import GuestStream

SCALE = 1 << 32
PAGES, PER_TICK, FIRST, TICKS = 97, 1500, 3, 4  # more accesses than random numbers are made at a time


def plain_accesses(source: GuestStream) -> list[int]:
    """The accesses of the ticks."""
    load, nested = source.spec.workload, source.spec.nested
    shares = set_share(load, np.arange(FIRST, FIRST + TICKS))
    levels = source.l1_pages.tolist(), source.l2_pages.tolist()
    cursors = [0, 0]
    accesses = []
    for tick, share in enumerate(shares.tolist(), FIRST):
        for number in range(PER_TICK):
            words = philox(source.key, np.uint64(number), np.uint64(tick), *source.counter)
            who, how, choice, which = (int(word) for word in words)
            by_l2 = bool(nested and levels[1] and (who < int(nested.access_share * SCALE) or not levels[0]))
            pages = levels[by_l2]
            n = max(int(share * len(pages)), 1)
            hot = max(int(load.hot_share * n), 1)
            is_hot = choice < int(load.hot_access_share * SCALE)
            rest = 0 if hot == n else hot
            if load.kind == "uniform":
                rank = which * n // SCALE
            elif load.kind == "zipf":
                column = which * len(pages) // SCALE
                entry = int(source.alias[len(levels[0]) * by_l2 + column])
                rank = (column if choice < entry >> 32 else entry % SCALE) * n // len(pages)
            elif load.kind == "scan" or (load.kind == "hotscan" and not is_hot):
                start = 0 if load.kind == "scan" else rest
                rank = start + cursors[by_l2] % (n - start)
                cursors[by_l2] += 1
            elif load.kind == "phases":
                begin = (tick - 1) // load.phase_ticks * hot
                rank = (begin + which * hot // SCALE) % n if is_hot else which * n // SCALE
            else:
                rank = which * hot // SCALE if is_hot else rest + which * (n - rest) // SCALE
            writes = how < int(load.write_share * SCALE)
            accesses.append(pages[rank] | by_l2 * ACCESS_L2 | writes * ACCESS_WRITE)
    return accesses


@pytest.mark.parametrize("kind", DRAWN_KINDS)
@pytest.mark.parametrize(
    "nested", [None, NestedSpec(access_share=0.4), NestedSpec(access_share=0.1, exposed_share=1.0, l2_only_share=1.0)]
)
@pytest.mark.parametrize(
    "load",
    [
        {"hot_share": 0.4, "phase_ticks": 1},
        {"hot_share": 1.0, "write_share": 1.0},
        {"hot_share": 0.0, "hot_access_share": 1.0, "write_share": 0.0},
        {"hot_share": 0.7, "phase_ticks": 2, "set_ticks": 6, "set_least": 0.1},
    ],
)
def test_accesses_are_what_the_rules_say(kind: str, nested: NestedSpec | None, load: dict[str, Any]) -> None:
    spec = GuestSpec("g", PAGES, accesses_per_tick=PER_TICK, workload=WorkloadSpec(kind=kind, **load), nested=nested)
    source = GuestStream(spec, seed=3, replicate=1, host=2, guest=4)
    assert source.draw_ticks(FIRST, TICKS).accesses.tolist() == plain_accesses(source)
