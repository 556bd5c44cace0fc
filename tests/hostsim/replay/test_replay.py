"""Real kernels' recordings through the engine: the shipped ones are exact at every step, and so are our own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coldfleet.hostsim.replay.comparison import Comparison, Difference, compare_recording, compare_step
from coldfleet.hostsim.replay.observe import COUNTERS
from coldfleet.hostsim.replay.recording import read_recording
from coldfleet.hostsim.replay.recording_writer import write_recording
from tests.hostsim.small_recordings import make_recording, read_lines

SHIPPED = sorted((Path(__file__).parents[2] / "recordings").glob("*.jsonl.gz"))
GROUND_TRUTH = Path(__file__).parents[4] / "shared" / "groundtruth"
MAX_STRAY_PAGES = 8  # a VMM has a few pages of its own that it touches now and then
MAX_LATE = 64  # memory.stat may lag behind by fewer updates than the kernel flushes at a time


def name_of(path: Path) -> str:
    return path.name.removesuffix(".jsonl.gz")


def recordings_of(labels: str) -> list[Path]:
    """The ground truth's recordings of the modelled kernels with these labels, in the modes without direct reclaim."""
    if not GROUND_TRUTH.is_dir():
        pytest.skip(f"no recordings at {GROUND_TRUTH}: the ground truth is beside the checkout, not in it")
    wanted = re.compile(rf"k6\.(1|12|16|18)_({labels})_[a-z]+_(debugfs|reclaim)_r\d+\.jsonl\.gz")
    found = [path for path in sorted(GROUND_TRUTH.iterdir()) if wanted.fullmatch(path.name)]
    assert found
    return found


def differences(comparison: Comparison) -> list[Difference]:
    recording = comparison.recording
    base = {step.get("c"): step["st"] for step in recording.steps if step["ev"] == "start"}
    both = zip(recording.steps, comparison.simulated, strict=True)
    return [
        difference
        for number, (kernel, ours) in enumerate(both)
        for difference in compare_step(recording, base.get(kernel.get("c"), {}), kernel, ours, number)
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_shipped_recordings_are_exact_at_every_step(path: Path) -> None:
    comparison = compare_recording(read_recording(path))
    assert comparison.first is None
    assert comparison.exact == comparison.steps == len(comparison.recording.steps)
    assert comparison.worst_pages == 0


def test_every_modelled_kernel_has_a_shipped_recording_of_a_process_and_of_a_guest() -> None:
    assert {re.sub(r"_(hostident|write)_", "_host_", path.name).split("_")[0] for path in SHIPPED} == {
        "k6.1", "k6.12", "k6.16", "k6.18",
    }  # fmt: skip
    kinds = {tuple(path.name.split("_")[:2]) for path in SHIPPED}
    assert {(kernel, kind) for kernel, _ in kinds for kind in ("host", "vm")} <= kinds


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_what_we_write_of_a_recording_reads_back_as_exact(path: Path, tmp_path: Path) -> None:
    recording = read_recording(path)
    ours = compare_recording(recording)
    written = tmp_path / path.name
    write_recording(written, recording, ours.simulated, "coldfleet test")
    again = compare_recording(read_recording(written))
    assert (again.exact, again.steps, again.first) == (ours.steps, ours.steps, None)
    assert read_lines(written)[0]["simulator"] == "coldfleet test"
    with pytest.raises(FileExistsError):
        write_recording(written, recording, ours.simulated, "coldfleet test")


@pytest.mark.parametrize("mode", ["debugfs", "reclaim", "limit", "ageonly"])
@pytest.mark.parametrize("kind", ["host", "vm", "shadow", "nested", "rmap"])
@pytest.mark.parametrize("release", ["6.1.0-50-amd64", "6.12.107+deb13-amd64", "6.16.12+deb13-amd64", "6.18.15"])
def test_every_kind_and_mode_replays_and_repeats_itself(tmp_path: Path, release: str, kind: str, mode: str) -> None:
    recording = make_recording(tmp_path / "made.jsonl.gz", rel=release, kind=kind, mode=mode, wl="hotcold", op=2)
    comparison = compare_recording(recording)
    assert comparison.exact == comparison.steps > 3
    last = comparison.simulated[-1]
    assert last["res"] <= recording.header.pages
    assert mode == "ageonly" or last["st"]["pgscan"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["host", "hostident", "write"])
def test_every_process_of_the_ground_truth_is_exact_at_every_step(labels: str) -> None:
    late = set()
    paths = recordings_of(labels)
    for path in paths:
        comparison = compare_recording(read_recording(path))
        for difference in differences(comparison):
            assert difference.field in COUNTERS, f"{path.name}: {difference}"
            assert 0 < difference.ours - difference.kernel < MAX_LATE, f"{path.name}: {difference}"
            late.add(path.name)
    assert len(late) <= 1 + len(paths) // 50, f"not late statistics but wrong ones: {late}"


@pytest.mark.slow
def test_huge_pages_of_the_ground_truth_are_exact_but_for_counters_that_come_late() -> None:
    for path in recordings_of("thost|thostident|thostkh|tvm|tvmident"):
        for difference in differences(compare_recording(read_recording(path))):
            assert difference.field in COUNTERS, f"{path.name}: {difference}"
            assert 0 < difference.ours - difference.kernel < MAX_LATE, f"{path.name}: {difference}"


@pytest.mark.slow
def test_guests_of_the_ground_truth_stay_within_their_stray_pages() -> None:
    off = {}
    paths = recordings_of("vm")
    for path in paths:
        comparison = compare_recording(read_recording(path))
        if comparison.worst_pages > MAX_STRAY_PAGES:  # its VMM ran in the middle of a reclaim, or used its own memory
            off[path.name] = str(comparison.first)
    assert len(off) <= 0.05 * len(paths), off
