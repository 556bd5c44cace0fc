"""The recordings' schedules: the generator's published numbers, the written rules, the hashes that recorders left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldfleet.hostsim.replay.recording import read_recording
from coldfleet.hostsim.replay.replay import access_lists
from coldfleet.hostsim.workload.mix_schedule import WORKLOADS as MIX_WORKLOADS
from coldfleet.hostsim.workload.mix_schedule import MixSchedule
from coldfleet.hostsim.workload.schedule import (
    FNV_OFFSET,
    LAYOUTS,
    WORKLOADS,
    Schedule,
    fnv1a,
    splitmix64,
    zipf_weights,
)
from tests.reference.schedule import MixSchedule as PlainMixSchedule
from tests.reference.schedule import rounds as plain_rounds

RECORDINGS = sorted((Path(__file__).parents[2] / "recordings").glob("*.jsonl.gz"))


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]),
        (1234567, [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]),
    ],
)
def test_splitmix64_gives_its_published_numbers(seed: int, expected: list[int]) -> None:
    state = np.array([seed], np.uint64)
    assert [int(splitmix64(state)) for _ in expected] == expected


def test_fnv1a_takes_a_whole_number_a_step() -> None:
    assert fnv1a(np.array([], np.uint32)) == FNV_OFFSET
    assert fnv1a(np.frombuffer(b"foobar", np.uint8).astype(np.uint32)) == 0x85944171F73967E8  # published
    digest = int(FNV_OFFSET)
    for page in (16383, 0, 2**32 - 1):
        digest = (digest ^ page) * 0x100000001B3 % 2**64
    assert fnv1a(np.array([16383, 0, 2**32 - 1], np.uint32)) == digest


def test_zipf_weights_are_running_sums_of_whole_numbers() -> None:
    assert zipf_weights(4).tolist() == [2**32, 2**32 + 2**31, 2**32 + 2**31 + 2**32 // 3, 2**33 + 2**32 // 3 - 2**30]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_lists_follow_the_written_rules(workload: str, layout: str) -> None:
    for pages, accesses, count, seed in ((20, 15, 8, 1), (513, 400, 14, 2**64 - 1)):
        lists = Schedule(workload, pages, accesses, count, seed, layout).lists()
        assert lists.tolist() == list(plain_rounds(workload, pages, accesses, count, seed, layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("workload", MIX_WORKLOADS)
def test_mixed_lists_follow_the_written_rules(workload: str, layout: str) -> None:
    ours = MixSchedule(workload, 513, 400, 5, 7, layout)
    plain = PlainMixSchedule(workload, 513, 400, 7, layout)
    assert ours.first_writes().tolist() == plain.populate()
    assert ours.lists().tolist() == list(plain.rounds(5))


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_lists_have_the_hashes_that_the_recorder_left(path: Path) -> None:
    recording = read_recording(path)
    header = recording.header
    lists: list[Any] = [access_lists(header, guest) for guest in header.guests]
    for (guest, round_number), digest in recording.list_hashes.items():
        if round_number:
            assert f"{int(fnv1a(lists[guest][round_number - 1])):016x}" == digest
