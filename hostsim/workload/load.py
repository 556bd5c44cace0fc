"""How much a guest does in which tick, and how large its working set is: steady, in bursts, by day and night.

Over a whole period a guest makes as many accesses as without any of this; only when it makes them differs. Ticks are
those of the host, whenever the guest came: noon is noon for all.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.philox import random_words
from coldfleet.hostsim.engine.streams import GUESTS, Purpose
from coldfleet.hostsim.spec.host_spec import WorkloadSpec

Floats = npt.NDArray[np.float64]


def load_before(
    load: WorkloadSpec, ticks: npt.NDArray[np.int64], key: np.uint64, counter: tuple[np.uint64, np.uint64]
) -> Floats:
    """Accesses in the ticks 1 to each of these, in units of what a tick has on average.

    Diurnal: 1 - swing * cos(2 pi t / period) at the time t, which begins at ``load_phase`` of a period, the same for
    all guests. Table: so are its numbers over their mean, each for an equal part of the period. Bursts: 1 - swing in
    all ticks, and what that lacks of the mean in one tick of each period, drawn for each guest; its file and its
    devices have theirs with it.
    """
    at, period, swing = ticks.astype(np.float64), load.load_ticks, load.load_swing
    begin = load.load_phase * period
    if load.load == "diurnal":
        turn = 2 * math.pi / period
        return at - swing / turn * (np.sin(turn * (at + begin)) - math.sin(turn * begin))
    if load.load == "table":
        parts = np.array(load.load_table) / np.mean(load.load_table) * period / len(load.load_table)
        edges, made = np.linspace(0, period, len(parts) + 1), np.concatenate([[0.0], np.cumsum(parts)])
        periods, place = np.divmod(at + begin, period)
        return periods * period + np.interp(place, edges, made) - np.interp(begin, edges, made)
    if load.load == "bursts":
        periods, place = np.divmod(ticks, period)
        numbers = np.empty(int(periods.max()) + 1, np.uint64)
        random_words(numbers, key, (counter[0], counter[1] & np.uint64(GUESTS - 1)), int(Purpose.BURST))
        bursts = periods + (place > (numbers >> np.uint64(32)).astype(np.int64)[periods] * period >> 32)
        return (1 - swing) * at + swing * period * bursts
    return at


def set_share(load: WorkloadSpec, ticks: npt.NDArray[np.int64]) -> Floats:
    """The share of the memory that is accessed in each tick: from all down to ``set_least`` and up again, from
    ``set_phase`` of that on."""
    if not load.set_ticks:
        return np.ones(len(ticks))
    place = (ticks - 1 + round(load.set_phase * load.set_ticks)) % load.set_ticks / load.set_ticks
    shares: Floats = load.set_least + (1 - load.set_least) * abs(1 - 2 * place)
    return shares
