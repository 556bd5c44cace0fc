"""Guests' access streams: shares are met, distributions have their exact shape, and only the key decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_PAGE, ACCESS_WRITE
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import DRAWN_KINDS, GuestSpec, NestedSpec, WorkloadSpec
from coldfleet.hostsim.workload.alias import alias_table
from coldfleet.hostsim.workload.schedule import fnv1a
from coldfleet.hostsim.workload.streams import NEVER, GuestStream
from coldfleet.hostsim.workload.thinning import Ranking

PAGES = 600
PER_TICK = 20_000
Array = npt.NDArray[Any]


def stream(nested: NestedSpec | None = None, pages: int = PAGES, guest: int = 0, **load: Any) -> GuestStream:
    spec = GuestSpec("g", pages, accesses_per_tick=PER_TICK, workload=WorkloadSpec(**load), nested=nested)
    return GuestStream(spec, seed=11, replicate=2, host=5, guest=guest)


def drawn(source: GuestStream, ticks: int) -> Array:
    """The accesses of ticks 1 to ``ticks``, (ticks, accesses)."""
    return np.array([source.draw(tick) for tick in range(1, ticks + 1)])


def ranks_of(source: GuestStream, accesses: Array) -> Array:
    """The ranks, from 0, of L1's accesses."""
    rank_of_page = np.empty(PAGES, np.int64)
    rank_of_page[source.l1_pages] = np.arange(len(source.l1_pages))
    return rank_of_page[accesses & ACCESS_PAGE]


def assert_share(hits: Array, share: float) -> None:
    """A binomial share, within five standard deviations."""
    assert abs(hits.mean() - share) < 5 * np.sqrt(share * (1 - share) / hits.size) + 1e-9


def assert_distribution(ranks: Array, weights: Array) -> None:
    """Chi-square, within five standard deviations of its expectation."""
    expected = weights / weights.sum() * ranks.size
    observed = np.bincount(ranks.ravel(), minlength=len(weights))
    chi_square = ((observed - expected) ** 2 / expected).sum()
    freedom = len(weights) - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("skew", [0.0, 0.5, 0.9, 1.0, 1.3])
def test_alias_table_has_exactly_the_zipf_weights(skew: float) -> None:
    table = alias_table(Ranking(PAGES, PAGES, 0.0, False), skew)
    own = (table >> np.uint64(32)).astype(np.float64) / 2**32
    alias = (table & np.uint64(0xFFFFFFFF)).astype(np.int64)
    weights = own.copy()
    np.add.at(weights, alias, 1 - own)
    exact = np.arange(1, PAGES + 1, dtype=np.float64) ** -skew
    assert weights.sum() == pytest.approx(PAGES, abs=1e-6)
    np.testing.assert_allclose(weights / PAGES, exact / exact.sum(), atol=1e-9)


@pytest.mark.parametrize("skew", [0.6, 0.9, 1.2])
def test_zipf_frequencies_follow_the_exact_distribution(skew: float) -> None:
    source = stream(kind="zipf", skew=skew)
    ranks = ranks_of(source, drawn(source, 10))
    assert_distribution(ranks, np.arange(1, PAGES + 1, dtype=np.float64) ** -skew)


def test_uniform_touches_every_page_alike() -> None:
    source = stream(kind="uniform")
    assert_distribution(ranks_of(source, drawn(source, 10)), np.ones(PAGES))


def test_hotcold_gives_the_hot_pages_their_share() -> None:
    source = stream(kind="hotcold", hot_share=0.1, hot_access_share=0.7)
    ranks = ranks_of(source, drawn(source, 10))
    assert_share(ranks < 60, 0.7)
    assert_distribution(ranks, np.where(np.arange(PAGES) < 60, 0.7 / 60, 0.3 / 540))


def test_scan_goes_round_and_round_in_order() -> None:
    source = stream(kind="scan", layout="ordered")
    pages = drawn(source, 2).ravel() & ACCESS_PAGE
    assert (pages == np.arange(2 * PER_TICK) % PAGES).all()


def test_phases_move_their_window_by_its_own_size() -> None:
    source = stream(kind="phases", hot_share=0.25, hot_access_share=0.9, phase_ticks=2)
    ranks = ranks_of(source, drawn(source, 10))
    in_window = 0.9 + 0.1 * 0.25  # the rest goes anywhere, into the window too
    for tick in range(1, 11):
        first = (tick - 1) // 2 * 150 % PAGES
        assert_share((ranks[tick - 1] - first) % PAGES < 150, in_window)


def test_hotscan_scans_the_rest_in_order() -> None:
    source = stream(kind="hotscan", hot_share=0.2, hot_access_share=0.5)
    ranks = ranks_of(source, drawn(source, 3)).ravel()
    assert_share(ranks < 120, 0.5)
    scanned = ranks[ranks >= 120] - 120
    assert (scanned == np.arange(len(scanned)) % 480).all()


@pytest.mark.parametrize("layout", ["shuffled", "ordered"])
def test_layout_scatters_the_ranks_or_keeps_them_in_address_order(layout: str) -> None:
    order = stream(layout=layout).l1_pages
    assert sorted(order) == list(range(PAGES))
    neighbours = (np.abs(np.diff(order.astype(np.int64))) == 1).mean()
    assert neighbours == 1 if layout == "ordered" else neighbours < 0.02


@pytest.mark.parametrize("write_share", [0.0, 0.3, 1.0])
def test_writes_have_their_share(write_share: float) -> None:
    accesses = drawn(stream(write_share=write_share), 4)
    assert_share(accesses & ACCESS_WRITE != 0, write_share)


@pytest.mark.parametrize("load", ["bursts", "diurnal"])
@pytest.mark.parametrize(("period", "swing"), [(1, 1.0), (5, 0.0), (6, 1.0), (7, 0.6)])
def test_any_load_makes_as_many_accesses_in_a_whole_period(load: str, period: int, swing: float) -> None:
    source = stream(load=load, load_ticks=period, load_swing=swing)
    counts = np.diff(source.draw_ticks(1, 10 * period).ends, prepend=0).reshape(10, period)
    assert abs(counts.sum(axis=1) - period * PER_TICK).max() <= 1
    assert counts.min() >= (1 - swing) * PER_TICK - 1


def test_bursts_have_what_the_other_ticks_lack_at_a_tick_of_each_guests_own() -> None:
    one, other = (
        np.diff(stream(guest=guest, load="bursts", load_ticks=8, load_swing=0.75).draw_ticks(1, 640).ends, prepend=0)
        for guest in (0, 1)
    )
    most = one.reshape(80, 8)
    assert abs(np.sort(most, axis=1)[:, :7] - PER_TICK // 4).max() <= 1
    assert abs(most.max(axis=1) - (0.25 + 0.75 * 8) * PER_TICK).max() <= 1
    assert set(most.argmax(axis=1)) == set(range(8))
    assert (one != other).any()


def test_by_day_there_is_more_than_by_night_for_all_guests_alike() -> None:
    days = [
        np.diff(stream(guest=guest, load="diurnal", load_ticks=24, load_swing=0.5).draw_ticks(1, 48).ends, prepend=0)
        for guest in (0, 1)
    ]
    assert (days[0] == days[1]).all()
    assert abs(days[0][:24] - days[0][24:]).max() <= 1
    assert days[0][[0, 23]].max() < 0.51 * PER_TICK < 1.49 * PER_TICK < days[0][[11, 12]].min()


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_the_working_set_shrinks_to_its_least_and_grows_again(kind: str) -> None:
    source = stream(kind=kind, skew=0.5, hot_access_share=0.5, set_ticks=8, set_least=0.25, layout="ordered")
    pages = [set(tick.tolist()) for tick in drawn(source, 9)]
    wanted = [PAGES * share for share in (1, 0.8125, 0.625, 0.4375, 0.25, 0.4375, 0.625, 0.8125, 1)]
    assert [len(each) for each in pages] == pytest.approx(wanted, abs=3)
    assert [max(each) for each in pages] == pytest.approx(np.array(wanted) - 1, abs=3)


def test_what_has_a_working_set_of_its_own_takes_no_other() -> None:
    with pytest.raises(UserError, match="has a working set of its own: leave out set_ticks"):
        WorkloadSpec("stack", set_ticks=3)


NESTED = [(0.5, 0.5, 0.25), (0.2, 0.3, 0.3), (0.9, 1.0, 0.0), (0.7, 0.1, 0.05)]


@pytest.mark.parametrize("kind", DRAWN_KINDS)
@pytest.mark.parametrize(("access_share", "exposed_share", "l2_only_share"), NESTED)
def test_nested_shares_are_met(kind: str, access_share: float, exposed_share: float, l2_only_share: float) -> None:
    source = stream(NestedSpec(access_share, exposed_share, l2_only_share), kind=kind, skew=0.3, hot_access_share=0.4)
    accesses = drawn(source, 10)
    by_l2 = accesses & ACCESS_L2 != 0
    assert_share(by_l2, access_share)
    pages = accesses & ACCESS_PAGE
    l1, l2 = set(pages[~by_l2].tolist()), set(pages[by_l2].tolist())
    assert l2 == set(source.l2_pages.tolist())  # so many accesses leave out no page
    assert len(l2) == round(exposed_share * PAGES)
    assert l1 == set(source.l1_pages.tolist())
    assert l2 - l1 == set(source.l2_only_pages.tolist())
    assert len(l2 - l1) == round(l2_only_share * PAGES)
    assert len(l1 | l2) == PAGES


def test_l2_runs_only_in_its_ticks() -> None:
    source = stream(NestedSpec(access_share=0.5, start_tick=2, stop_tick=4))
    assert [source.l2_runs(tick) for tick in range(6)] == [False, False, True, True, False, False]
    by_l2 = [bool((source.draw(tick) & ACCESS_L2).any()) for tick in range(1, 6)]
    assert by_l2 == [False, True, True, False, False]


@pytest.mark.parametrize("start_tick", [0, 3])
def test_every_page_is_written_first_in_page_order(start_tick: int) -> None:
    source = stream(NestedSpec(exposed_share=0.5, l2_only_share=0.25, start_tick=start_tick))
    first = [source.populate(tick) for tick in range(6)]
    for accesses in first:
        assert (np.diff((accesses & ACCESS_PAGE).astype(np.int64)) > 0).all()
        assert (accesses & ACCESS_WRITE != 0).all()
    by_l2 = np.concatenate(first) & ACCESS_L2 != 0
    pages = np.concatenate(first) & ACCESS_PAGE
    assert sorted(pages.tolist()) == list(range(PAGES))
    assert sorted(pages[by_l2].tolist()) == source.l2_only_pages.tolist()
    assert [len(accesses) for accesses in first if len(accesses)] == ([PAGES] if not start_tick else [450, 150])


def test_a_tick_s_accesses_depend_on_its_key_and_nothing_else() -> None:
    after_others = stream(kind="zipf")
    drawn(after_others, 6)
    assert (after_others.draw(7) == stream(kind="zipf").draw(7)).all()
    assert (stream(kind="zipf").draw(7) != stream(kind="zipf").draw(8)).any()
    spec = GuestSpec("g", PAGES, accesses_per_tick=50)
    keys = [(11, 2, 5, 0), (12, 2, 5, 0), (11, 3, 5, 0), (11, 2, 6, 0), (11, 2, 5, 1)]
    streams = [GuestStream(spec, seed=a, replicate=b, host=c, guest=d) for a, b, c, d in keys]
    assert len({tuple(source.draw(1).tolist()) for source in streams}) == len(keys)
    assert len({tuple(source.l1_pages.tolist()) for source in streams}) == len(keys)


def test_digest_is_the_hash_of_all_that_was_drawn() -> None:
    source = stream(NestedSpec(), write_share=0.5)
    everything = np.concatenate([source.populate(0), source.draw(1), source.draw(2)])
    assert source.digest == fnv1a(everything)


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_ticks_can_be_drawn_together(kind: str) -> None:
    together, apart = (stream(NestedSpec(), kind=kind, phase_ticks=2) for _ in range(2))
    accesses, ends, digests = together.draw_ticks(2, 4)
    for tick, begin, end, digest in zip(range(2, 6), [0, *ends], ends, digests, strict=False):
        assert (accesses[begin:end] == apart.draw(tick)).all()
        assert digest == apart.digest


def test_l2_changes_where_it_begins_and_ceases_to_run() -> None:
    source = stream(NestedSpec(start_tick=3, stop_tick=7))
    assert [source.next_change(tick) for tick in (0, 2, 3, 6)] == [3, 3, 7, 7]
    assert source.next_change(7) == stream().next_change(0) == NEVER


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_the_smallest_guests_work(kind: str) -> None:
    for pages in (1, 2, 3):
        source = stream(NestedSpec(exposed_share=1.0, l2_only_share=0.0), pages=pages, kind=kind)
        assert set((drawn(source, 1) & ACCESS_PAGE).ravel().tolist()) == set(range(pages))
