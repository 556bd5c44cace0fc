"""Guests that follow a trace make its accesses: all of them, in order, at its pace, by whom it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_PAGE, ACCESS_WRITE
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.replay.observe import COUNTERS
from coldfleet.hostsim.replay.recording import read_recording
from coldfleet.hostsim.replay.replay import access_lists, slots_of
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import ClockSpec, GuestSpec, HostSpec, NestedSpec, WorkloadSpec
from coldfleet.hostsim.workload.scenario import KINDS
from coldfleet.hostsim.workload.trace_data import load_trace
from coldfleet.hostsim.workload.trace_stream import TraceStream
from coldfleet.policies import POLICIES
from tests.fuzzing import BOUNDED
from tests.hostsim.workload.test_scenario import KINDS_OF, SCENES, study_of
from tests.hostsim.workload.traces import write_heat, write_trace

PAGES = np.array([900, 7, 7, 1 << 40, 8, 900, 7])
DENSE = np.array([2, 0, 0, 3, 1, 2, 0])


def stream(path: Path, guest: int = 0, memory: int = 8, each: int = 3, paced: bool = False, **load: Any) -> TraceStream:
    """The stream of a guest that follows PAGES, or the file of ``load``."""
    file = load.pop("file", None) or write_trace(path / f"{guest}.parquet", PAGES)
    nested = load.pop("nested", None)
    workload = WorkloadSpec("trace", file=file, **{"start": "same", **load})
    spec = GuestSpec("g", memory, accesses_per_tick=each, workload=workload, nested=nested)
    return TraceStream(spec, seed=1, replicate=0, host=0, guest=guest, paced=paced)


def test_accesses_are_the_traces_in_order_and_over_and_over(tmp_path: Path) -> None:
    made = stream(tmp_path)
    assert sorted(made.populate(0) & np.uint32(ACCESS_PAGE)) == list(range(8))
    accesses, ends, _ = made.draw_ticks(1, 7)
    assert ends.tolist() == [3, 6, 9, 12, 15, 18, 21]
    assert accesses.tolist() == [*DENSE, *DENSE, *DENSE]


def test_a_tick_is_the_same_however_many_are_drawn(tmp_path: Path) -> None:
    whole, parts = (stream(tmp_path, guest, paced=True) for guest in range(2))
    one = whole.draw_ticks(1, 9)
    pieces = [parts.draw_ticks(first, count) for first, count in ((1, 2), (3, 1), (4, 6))]
    assert one.accesses.tolist() == np.concatenate([piece.accesses for piece in pieces]).tolist()
    assert one.digests[-1] == pieces[-1].digests[-1]


def test_guests_begin_where_the_seed_says(tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", np.arange(1000))
    begins = [
        stream(tmp_path, guest, memory=1000, file=file, start="drawn").draw_ticks(1, 1).accesses[0]
        for guest in (0, 0, *range(1, 20))
    ]
    assert begins[0] == begins[1]
    assert len(set(begins)) > 15
    assert max(begins) > 700 and min(begins) < 300  # noqa: PT018


def test_on_a_clock_bursts_stay_bursts(tmp_path: Path) -> None:
    times = np.concatenate([np.arange(900), 100_000 + np.arange(100) * 1_000])
    file = write_trace(tmp_path / "t.parquet", np.arange(1000) % 8, time=times)
    ends = stream(tmp_path, file=file, each=100, paced=True).draw_ticks(1, 10).ends
    counts = np.diff(ends, prepend=0)
    assert ends[-1] == 1000  # as many as without a clock, on average
    assert counts[0] == 900
    assert counts[-1] > 10


@pytest.mark.parametrize("paced", [False, True])
def test_a_trace_can_be_followed_in_bursts(paced: bool, tmp_path: Path) -> None:
    made = stream(tmp_path, each=7, paced=paced, load="bursts", load_ticks=4, load_swing=1.0).draw_ticks(1, 8)
    assert sorted(np.diff(made.ends, prepend=0).tolist()) == [0] * 6 + [28] * 2
    assert made.accesses.tolist() == [*DENSE] * 8


def test_a_clocks_time_is_the_same_number_of_rounds(tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", np.arange(100) % 8, time=np.arange(100) ** 2)
    made = stream(tmp_path, file=file, each=33, paced=True).draw_ticks(1, 300)
    assert made.ends[-1] == 33 * 300
    assert np.array_equal(made.accesses, np.tile(np.arange(100) % 8, 99))


def test_l2_makes_the_accesses_of_its_process(tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", [5, 5, 6, 7], process=[10, 20, 10, 20])
    made = stream(tmp_path, file=file, each=4, nested=NestedSpec(start_tick=2), l2_process=20)
    assert len(made.populate(0)) == 8
    accesses = made.draw_ticks(1, 1).accesses
    assert accesses.tolist() == [0, 2, 1, 3]  # pages of two processes are different; L2 doesn't run yet
    assert made.populate(2).tolist() == [page | ACCESS_WRITE | ACCESS_L2 for page in (2, 3)]
    assert (made.draw_ticks(2, 1).accesses >> 31).tolist() == [0, 1, 0, 1]
    with pytest.raises(UserError, match="no process 30"):
        stream(tmp_path, file=file, nested=NestedSpec(), l2_process=30)


@pytest.mark.parametrize(("asked", "found"), [(0.5, 0.5), (0.0, 0.1), (1.0, 0.6)])
def test_l2_makes_its_share_of_the_accesses_where_the_exposed_pages_allow(
    tmp_path: Path, asked: float, found: float
) -> None:
    """Half of the pages are exposed, which have 60 % of the accesses; 10 % go to those that L2 alone touches."""
    nested = NestedSpec(access_share=asked, exposed_share=0.6, l2_only_share=0.1)
    file = write_trace(tmp_path / "t.parquet", np.random.default_rng(1).permutation(np.arange(50_000) % 1000))
    made = stream(tmp_path, file=file, memory=1000, each=50_000, nested=nested)
    accesses = made.draw_ticks(1, 1).accesses
    assert (accesses >> 31).mean() == pytest.approx(found, abs=0.01)
    by_l1 = accesses[accesses < ACCESS_L2] & np.uint32(ACCESS_PAGE)
    assert not set(by_l1.tolist()) & set(made.l2_only_pages.tolist())


def test_writes_are_the_traces_and_where_it_is_silent_drawn(tmp_path: Path) -> None:
    writes = np.tile([1, 0, -1, -1], 5000)
    file = write_trace(tmp_path / "t.parquet", np.tile(np.arange(4), 5000), write=writes)
    made = stream(tmp_path, file=file, each=20_000, write_share=0.3).draw_ticks(1, 1).accesses
    wrote = (made & np.uint32(ACCESS_WRITE) != 0).reshape(-1, 4)
    assert wrote[:, 0].all()
    assert not wrote[:, 1].any()
    assert wrote[:, 2:].mean() == pytest.approx(0.3, abs=0.02)
    assert set((made & np.uint32(ACCESS_PAGE)).tolist()) == set(range(4))


def test_what_can_not_be_followed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"4 distinct pages, the guest 3: give it 1 MiB or more, or use kind = .clone."):
        stream(tmp_path, memory=3)
    heat = write_heat(tmp_path / "h.parquet", [{"pages": 4, "heat": 1.0}])
    with pytest.raises(UserError, match="has heat and no accesses"):
        stream(tmp_path, file=heat)
    with pytest.raises(UserError, match="no accesses"):
        stream(tmp_path, file=write_trace(tmp_path / "e.parquet", []))
    file = write_trace(tmp_path / "c.parquet", PAGES + 1)
    Path(file.path).write_bytes(Path(file.path).read_bytes() + b"x")
    with pytest.raises(UserError, match="changed: its sha256 is"):
        stream(tmp_path, file=file)
    with pytest.raises(UserError, match="sampled scale knows no workload of kind 'trace'"):
        run(stream(tmp_path, guest=1).spec, sample=2)


def run(guest: GuestSpec, **host: Any) -> dict[str, int]:
    """The counters of a host with this guest."""
    spec = HostSpec("6.12", (guest,), **{"ticks": 4, **host})
    return simulate_host(spec, POLICIES["lockless-6.15"], seed=1, replicate=0, host=0).totals()


@pytest.mark.parametrize(
    "path",
    [path for path in SCENES if "nested" not in path.name and "_mix" not in path.name],
    ids=lambda path: path.name.removesuffix(".jsonl.gz"),
)
def test_a_trace_of_a_recordings_schedule_gives_its_counters(path: Path, tmp_path: Path) -> None:
    recording = read_recording(path)
    header = recording.header
    usual = [KINDS[KINDS_OF.get(guest.kind, guest.kind)].own_pages for guest in header.guests]
    if [slot.own_pages for slot in slots_of(recording)] != usual or any(guest.mixed for guest in header.guests):
        pytest.skip("no guests of which a trace says all")
    made = study_of(recording, tmp_path / "study.toml").run(0)
    (host,) = build_hosts(made)
    guests = []
    for number, (guest, spec) in enumerate(zip(header.guests, host.guests, strict=True)):
        rest = np.arange(header.pages)  # is never reached, and makes page numbers stay what they are
        pages = np.concatenate([*access_lists(header, guest), rest])
        write = np.full(len(pages), int(header.writes), np.int8)
        file = write_trace(tmp_path / f"{number}.parquet", pages, write=write)
        guests.append(replace(spec, recorded=None, workload=WorkloadSpec("trace", file=file, start="same")))
    result = simulate_host(replace(host, guests=tuple(guests)), made.cell.policy, seed=1, replicate=0, host=0)
    for number, counted in enumerate(result.guests):
        own = [step for step in recording.steps if step["ev"] != "parent" and recording.guest_of(step) == number]
        assert counted.counters["resident_pages"] == own[-1]["res"]
        for name in COUNTERS:
            assert counted.counters[name] == own[-1]["st"].get(name, 0) - own[0]["st"].get(name, 0), name


def test_all_accesses_are_made_on_a_clock_as_without(tmp_path: Path) -> None:
    file = write_trace(tmp_path / "t.parquet", np.arange(20_000) * 7 % 1009)
    guest = GuestSpec("g", 1024, 600, 2000, workload=WorkloadSpec("trace", file=file), nested=NestedSpec())
    assert run(guest, clock=ClockSpec())["accesses"] == run(guest)["accesses"]


@BOUNDED
@given(
    pages=st.lists(st.integers(0, 2**52 - 1) | st.integers(0, 40), max_size=60),
    processes=st.lists(st.integers(-1, 3), min_size=60, max_size=60),
    memory=st.integers(1, 80),
    each=st.integers(1, 200),
    l2=st.integers(-1, 4),
    nested=st.booleans(),
    paced=st.booleans(),
)
def test_fuzzed_traces_are_followed_or_refused_in_one_line(
    pages: list[int],
    processes: list[int],
    memory: int,
    each: int,
    l2: int,
    nested: bool,
    paced: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    times = np.cumsum(np.arange(len(pages)) % 3)
    file = write_trace(folder / "t.parquet", pages, time=times, process=processes[: len(pages)])
    load: dict[str, Any] = {"nested": NestedSpec() if nested else None, "l2_process": l2, "start": "drawn"}
    try:
        made = stream(folder, file=file, memory=memory, each=each, paced=paced, **load)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    drawn = made.draw_ticks(1, 5)
    assert (drawn.accesses & np.uint32(ACCESS_PAGE)).max(initial=0) < load_trace(file).pages <= memory
    assert len(drawn.accesses) == drawn.ends[-1]
    if not paced:
        assert drawn.ends[-1] == 5 * each
