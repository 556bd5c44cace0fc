"""How hot the pages of a workload are by their rank: Zipf's law, or a profile, made of parts or measured.

Where a trace has addresses, its profile keeps none of them: the hottest page comes first, and ``layout`` says where it
lies.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import DataFile, Heat, WorkloadSpec
from coldfleet.hostsim.trace.table import MOST_PAGE, Trace
from coldfleet.hostsim.workload.trace_data import load_trace, open_data

Law = float | Heat
"""Zipf's skew, or parts of the memory from the first rank on: (share of the memory, weight of the accesses to it)."""

MAX_PARTS = 4096  # of a measured profile
_Floats = npt.NDArray[np.float64]


def law_of(load: WorkloadSpec) -> Law | None:
    """The law of a workload; None: its ranks have no weights. Raises :class:`UserError` for a file without heat."""
    if load.kind == "zipf":
        return load.skew
    if load.kind == "profile":
        return load.heat or measured_heat(load.file)
    return None


def weights_of(law: Law, at: _Floats, ranks: int) -> _Floats:
    """The weights of some of the ranks from 0 to ``ranks`` - 1.

    Zipf: (k + 1)^-skew. A profile: what the parts have in k / ranks to (k + 1) / ranks of the memory, each part being
    as hot everywhere; what no part covers is never accessed.
    """
    if not isinstance(law, tuple):
        return (at + 1.0) ** -law
    edges = np.cumsum([0.0, *(share for share, _ in law)])
    below = np.cumsum([0.0, *(weight for _, weight in law)])
    weights: _Floats = np.interp((at + 1) / ranks, edges, below) - np.interp(at / ranks, edges, below)
    return weights.clip(0.0)


@lru_cache(maxsize=16)
def measured_heat(file: DataFile | None) -> Heat:
    """The profile of a trace: of accesses how often each page is accessed, else what a monitor has found.

    A range that DAMON or page_idle checked has its mean heat, one that lru_gen knows the age of 1/age: a page that was
    accessed in the last generation is accessed about once in its time. Pages without either are never accessed.
    """
    assert file is not None
    if not file.path:
        return ((0.5, 1.0),)
    trace = open_data(file)
    if trace.kind == "accesses":
        rates = load_trace(file).counts.astype(np.float64)
        return parts_of(rates, np.ones(len(rates)))
    rates, pages = _rates_of(trace)
    if not (rates * pages).sum() > 0:
        raise UserError(f"{trace.path}: no range in it is warm: measure for longer")
    return parts_of(rates, pages)


def parts_of(rates: _Floats, pages: _Floats) -> Heat:
    """A profile, hottest first, of ranges of so many pages with these rates of accesses to each page."""
    order = np.argsort(-rates, kind="stable")
    at = np.append(0.0, np.cumsum(pages[order])) / pages.sum()
    below = np.append(0.0, np.cumsum((rates * pages)[order]))
    edges = np.unique(np.append(at[:: -(-len(at) // MAX_PARTS)], 1.0))
    heat = np.interp(edges, at, below) / below[-1]
    return tuple(
        (b - a, max(after - before, 0.0))
        for (a, b), (before, after) in zip(pairwise(edges.tolist()), pairwise(heat.tolist()), strict=True)
    )


def _rates_of(trace: Trace) -> tuple[_Floats, _Floats]:
    """Of each range of a trace of heat, in all of its snapshots, how often a page is accessed, and its pages."""
    table = pa.Table.from_batches(trace.batches())
    if not table.num_rows:
        raise UserError(f"{trace.path}: no heat")
    pages = table["pages"].to_numpy().astype(np.float64)
    heat = table["heat"].to_numpy(zero_copy_only=False).astype(np.float64)
    if not np.isnan(heat).all():
        if table["page"].null_count:
            return np.nan_to_num(heat), pages
        first = table["page"].to_numpy().astype(np.int64)
        target = table["target"].combine_chunks().dictionary_encode().indices.fill_null(0).to_numpy().astype(np.int64)
        return _sums_of_heat(first + target * MOST_PAGE, pages.astype(np.int64), np.nan_to_num(heat))
    last = table.filter(pc.equal(table["snapshot"], pc.max(table["snapshot"])))
    age = last["age"].to_numpy(zero_copy_only=False).astype(np.float64)
    young = np.nanmin(np.append(age[age > 0], np.inf))
    rates = np.where(np.isnan(age), 0.0, 1 / np.maximum(age, young if np.isfinite(young) else 1.0))
    return rates, last["pages"].to_numpy().astype(np.float64)


def _sums_of_heat(first: npt.NDArray[np.int64], pages: npt.NDArray[np.int64], heat: _Floats) -> tuple[_Floats, _Floats]:
    """The heat of all snapshots added up, by address: of the stretches between the ends of any ranges."""
    edges = np.unique(np.concatenate((first, first + pages)))
    change = np.zeros(len(edges))
    covers = np.zeros(len(edges))
    for at, sign in ((first, 1.0), (first + pages, -1.0)):
        place = np.searchsorted(edges, at)
        change += np.bincount(place, sign * heat, len(edges))
        covers += np.bincount(place, np.full(len(at), sign), len(edges))
    known = np.cumsum(covers)[:-1] > 0.5
    sums = np.cumsum(change)[:-1]
    return sums[known].clip(0.0), np.diff(edges)[known].astype(np.float64)
