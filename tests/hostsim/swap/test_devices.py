"""Swap devices: latencies, and waiting for a busy one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_WRITE, MIN_NR_GENS, PG_WRITEBACK
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import FILE_DEVICES, SWAP_DEVICES
from coldfleet.hostsim.swap.devices import DEVICES, NO_SWAP, get_device
from coldfleet.hostsim.swap.queue import (
    MANY,
    end_tick,
    end_writes,
    mean_read_ns,
    new_queue,
    read_pages,
    wait_for_writes,
)
from coldfleet.policies import get_policy

SECOND_NS = 1_000_000_000


def queue(name: str, host: int = 0) -> Any:
    return new_queue(get_device(name), key=np.uint64(1), host=host)[0]


def test_every_device_of_a_study_has_a_record() -> None:
    assert tuple(DEVICES) == SWAP_DEVICES
    with pytest.raises(UserError, match="known are zram"):
        get_device("tape")


@pytest.mark.parametrize("name", [name for name in SWAP_DEVICES if name != NO_SWAP])
def test_many_reads_take_as_long_as_so_many_single_ones(name: str) -> None:
    one = queue(name)
    single = sum(read_pages(one, 1) for _ in range(4000)) / 4000
    many = read_pages(queue(name), 4000) / 4000
    assert many == pytest.approx(single, rel=0.05)
    assert read_pages(queue(name), MANY - 1) < read_pages(queue(name), 10 * MANY)


def test_latencies_are_log_normal() -> None:
    device, one = get_device("nvme"), queue("nvme")
    logs = np.log([read_pages(one, 1) / device.read_ns for _ in range(4000)])
    assert logs.mean() == pytest.approx(0, abs=0.03)
    assert logs.std() == pytest.approx(device.spread, rel=0.05)


def test_hosts_have_latencies_of_their_own() -> None:
    assert read_pages(queue("nvme", 1), 1) != read_pages(queue("nvme", 2), 1)
    assert read_pages(queue("nvme", 1), 1) == read_pages(queue("nvme", 1), 1)


def test_nothing_read_takes_no_time() -> None:
    assert read_pages(queue("nvme"), 0) == 0


def test_a_busy_device_lets_its_callers_wait() -> None:
    nvme, device = queue("nvme"), get_device("nvme")
    waits = []
    for share in (0.0, 0.5, 0.9, 0.97, 5.0):
        end_tick(nvme, device.pages_per_s * share, SECOND_NS)
        waits.append(float(nvme["wait_ns"]))
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[1] < 0.01 * device.read_ns < waits[3]


def test_writes_get_what_reads_leave_and_a_tenth_at_least() -> None:
    nvme, can_move = queue("nvme"), get_device("nvme").pages_per_s
    assert end_writes(nvme, 0, SECOND_NS) == can_move
    assert end_writes(nvme, 0.25 * can_move, SECOND_NS // 2) == pytest.approx(0.25 * can_move)
    assert end_writes(nvme, 3 * can_move, SECOND_NS) == pytest.approx(0.1 * can_move)
    assert wait_for_writes(nvme, 0.5 * can_move) == SECOND_NS // 2
    assert end_writes(nvme, 0, SECOND_NS) == pytest.approx(0.5 * can_move)  # what a reclaim waited for is written
    assert end_writes(nvme, 0, SECOND_NS) == can_move
    assert wait_for_writes(queue("zram"), 1000) == 0


def test_writes_end_in_their_order_as_far_as_the_device_has_come() -> None:
    slots = [Memslot(2048, max_pages=1024), Memslot(1024, max_pages=512)]
    memory = HostMemory(slots, KERNELS["6.12"], get_policy("six-steps"), async_swap=True)
    for guest, pages in enumerate((1060, 530)):
        memory.touch(guest, np.arange(pages, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
        memory.evict(guest, int(memory.lruvec(guest)["max_seq"]) - MIN_NR_GENS, 200, 100)
    under_way = memory.machine.mms["under_writeback"]
    first = [int(count) for count in under_way]
    assert min(first) > 0
    queued = [memory.machine.in_flight[int(mm["first"]) :][: int(mm["under_writeback"])] for mm in memory.machine.mms]
    queued = [pages.copy() for pages in queued]
    memory.complete_io(sum(first) // 2)
    assert int(under_way.sum()) == sum(first) - sum(first) // 2
    for guest in range(2):
        assert under_way[guest] == pytest.approx(first[guest] / 2, abs=1)
        done, left = np.split(queued[guest], [first[guest] - int(under_way[guest])])
        flags = memory.machine.pages["flags"]
        assert not (flags[done] & PG_WRITEBACK).any()
        assert (flags[left] & PG_WRITEBACK).all()
    memory.complete_io(0)
    assert int(under_way.sum()) == sum(first) - sum(first) // 2
    memory.complete_io()
    assert int(under_way.sum()) == 0


def test_a_reclaim_that_can_not_go_on_waits_for_writes() -> None:
    slot = Memslot(2048, max_pages=512)
    memory = HostMemory([slot], KERNELS["6.12"], get_policy("six-steps"), async_swap=True)
    memory.touch(0, np.arange(2048, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
    events = memory.events(0)
    assert 0 < events["reclaim_write_waits"] <= events["pswpout"]


@pytest.mark.parametrize("name", FILE_DEVICES)
def test_pages_of_one_request_take_their_transfer_only(name: str) -> None:
    device = get_device(name)
    one, many = (np.mean([read_pages(queue(name, host), 1, more) for host in range(400)]) for more in (0, 31))
    assert many - one == pytest.approx(31 * device.transfer_ns, abs=1)
    assert mean_read_ns(queue(name), 1, 31) == pytest.approx(many, rel=0.1)
    busy = queue(name)
    end_tick(busy, device.pages_per_s / 2, SECOND_NS)
    alone = float(busy["wait_ns"])
    end_tick(busy, device.pages_per_s / 2, SECOND_NS, 0.2 * device.bytes_per_s / 4096)
    assert (alone, busy["wait_ns"]) == (0, 0) if name == "zram" else alone < busy["wait_ns"]


def test_a_disk_reads_in_a_row_or_seeks() -> None:
    disk = get_device("disk")
    assert disk.pages_per_s * 4096 < 0.01 * disk.bytes_per_s
    assert disk.read_ns == pytest.approx(1e9 / disk.pages_per_s)


def test_zram_has_no_queue() -> None:
    zram = queue("zram")
    end_tick(zram, 10_000_000, SECOND_NS)
    assert zram["wait_ns"] == 0
