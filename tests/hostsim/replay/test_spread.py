"""Steps inside the range that a kernel covers when it repeats itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coldfleet.hostsim.replay.comparison import RANGED, Comparison
from coldfleet.hostsim.replay.recording import Recording
from coldfleet.hostsim.replay.spread import repeats_in_range, steps_in_range
from tests.hostsim.small_recordings import make_recording

SCANS = RANGED.index("pgscan")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return make_recording(tmp_path_factory.mktemp("spread") / "made.jsonl.gz")


def run(recording: Recording, kernel: list[int | None], ours: list[int | None], pages: int = 700) -> Comparison:
    """A comparison in which only pgscan moves."""
    other = replace(recording, header=replace(recording.header, pages=pages))

    def row(value: int | None) -> list[int | None]:
        return [value if place == SCANS else 0 for place in range(len(RANGED))]

    measured = [(row(theirs), row(mine)) for theirs, mine in zip(kernel, ours, strict=True)]
    return Comparison(other, steps=len(kernel), measured=measured)


def scans(*comparisons: Comparison) -> tuple[int, int]:
    found = steps_in_range(comparisons)
    assert list(found) == list(RANGED)
    return found["pgscan"]


def test_the_range_of_two_repeats_is_widened_by_3_percent(recording: Recording) -> None:
    one = run(recording, [100, 1000, 1000, 1000, 1000], [100, 971, 969, 1133, 1134])
    other = run(recording, [100, 1100, 1100, 1100, 1100], [100, 1000, 1050, 1133, 1140])
    assert scans(one, other) == (3 + 4, 10)


def test_a_single_recording_has_3_percent(recording: Recording) -> None:
    assert scans(run(recording, [0, 1000, 1000, 1000], [0, 1030, 1031, 969])) == (2, 4)


def test_a_single_recording_borrows_the_spread_of_others_at_the_same_step(recording: Recording) -> None:
    repeats = [run(recording, [90, 100], [90, 100]), run(recording, [110, 100], [110, 100])]  # 20 % at the first step
    alone = run(recording, [1000, 1000], [1225, 1225], pages=640)
    assert scans(*repeats, alone) == (4 + 1, 6)
    assert scans(*repeats, run(recording, [1000, 1000], [1235, 1000], pages=640)) == (4 + 1, 6)


def test_a_run_that_ended_early_counts_as_far_as_it_went(recording: Recording) -> None:
    whole = run(recording, [10, 20, 30], [10, 20, 30])
    short = run(recording, [12], [11])
    assert scans(whole, short) == (4, 4)


def test_a_step_without_the_figure_does_not_count(recording: Recording) -> None:
    assert scans(run(recording, [10, None, 30], [10, None, 3])) == (1, 2)


def test_what_a_kernel_never_does_is_no_range_of_its_own(recording: Recording) -> None:
    assert scans(run(recording, [0, 0], [0, 1])) == (1, 2)


def test_a_kernel_is_held_against_its_other_repeats(recording: Recording) -> None:
    def own(*comparisons: Comparison) -> tuple[int, int]:
        return repeats_in_range(comparisons)["pgscan"]

    one, same = run(recording, [100, 1000], [0, 0]), run(recording, [102, 1000], [0, 0])
    other = run(recording, [100, 1100], [0, 0])
    assert own(one) == (0, 0)
    assert own(one, same) == (4, 4)
    assert own(one, other) == (2, 4)
    assert own(one, same, other) == (5, 6)  # only the 1,100 is outside
    assert own(one, run(recording, [100, 1000], [0, 0], pages=640)) == (0, 0)
