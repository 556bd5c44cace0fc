"""Swap devices: latencies, and waiting for a busy one."""

from __future__ import annotations

import numpy as np
import pytest

from hostsim.errors import UserError
from hostsim.model import SWAP_DEVICES
from hostsim.swap_devices import DEVICES, MANY, SwapQueue, get_device

SECOND_NS = 1_000_000_000


def queue(name: str) -> SwapQueue:
    return SwapQueue(get_device(name), np.random.Generator(np.random.Philox(1)))


def test_every_device_of_a_study_has_a_record() -> None:
    assert tuple(DEVICES) == SWAP_DEVICES
    with pytest.raises(UserError, match="known are zram"):
        get_device("tape")


@pytest.mark.parametrize("name", SWAP_DEVICES)
def test_many_reads_take_as_long_as_so_many_single_ones(name: str) -> None:
    one = queue(name)
    single = sum(one.read(1) for _ in range(4000)) / 4000
    many = queue(name).read(4000) / 4000
    assert many == pytest.approx(single, rel=0.05)
    assert queue(name).read(MANY - 1) < queue(name).read(10 * MANY)


def test_a_busy_device_lets_its_callers_wait() -> None:
    nvme = queue("nvme")
    waits = []
    for share in (0.0, 0.5, 0.9, 0.97, 5.0):
        nvme.end_tick(nvme.device.pages_per_s * share, SECOND_NS)
        waits.append(nvme.wait_ns)
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[1] < 0.01 * nvme.device.read_ns < waits[3]


def test_zram_has_no_queue() -> None:
    zram = queue("zram")
    zram.end_tick(10_000_000, SECOND_NS)
    assert zram.wait_ns == 0
