"""zram's pool: sizes of pages, zsmalloc's classes, and what swapped-out pages take of the host's memory."""

from __future__ import annotations

import numpy as np
import pytest

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_WRITE, PRESENT
from coldfleet.hostsim.memory.audit import check_memory
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot, Watermarks
from coldfleet.hostsim.mm.swap_slots import POOL_UNIT
from coldfleet.hostsim.spec.host_spec import CompressionSpec
from coldfleet.hostsim.spec.units import PAGE_BYTES
from coldfleet.hostsim.swap.devices import get_device
from coldfleet.hostsim.swap.zram import (
    HUGE,
    SAME_FILLED,
    bytes_of_classes,
    classes_of,
    fill_in_sizes,
    with_compression,
)
from coldfleet.policies import get_policy

KEY = np.uint64(11)


@pytest.mark.parametrize(("chain_pages", "largest"), [(4, 3264), (8, 3632)])
def test_the_largest_class_that_is_not_huge_is_the_kernels(chain_pages: int, largest: int) -> None:
    taken = bytes_of_classes(chain_pages)
    assert max(16 * int(number) for number in np.flatnonzero(taken < PAGE_BYTES)) == largest
    assert taken[HUGE] == PAGE_BYTES
    assert taken[SAME_FILLED] == 0
    assert all(taken[number] >= 16 * number for number in range(1, largest // 16 + 1))
    assert (np.diff(taken[1:]) >= 0).all()


@pytest.mark.parametrize(("ratio", "spread"), [(2.0, 0.0), (3.0, 0.4), (6.0, 0.8)])
def test_sizes_are_spread_around_the_ratio(ratio: float, spread: float) -> None:
    sizes = classes_of(CompressionSpec(ratio, spread)).astype(float) * 16
    assert sizes.mean() == pytest.approx(PAGE_BYTES / ratio + 16, rel=0.04)  # the handle, and half a class
    assert (len(set(sizes)) == 1) == (spread == 0)


def host(compression: CompressionSpec, number: int = 0, **options: object) -> HostMemory:
    """Two guests of 4096 pages, of which 1000 fit each."""
    slots = [Memslot(4096, max_pages=1000), Memslot(4096, max_pages=1000, kvm=False)]
    policy = get_policy("six-steps")
    memory = HostMemory(slots, KERNELS["6.12"], policy, compressed_swap=True, **options)  # type: ignore[arg-type]
    fill_in_sizes(memory, compression, KEY, number, (0, 1))
    for guest in range(2):
        memory.touch(guest, np.arange(4096, dtype=np.uint32) | np.uint32(ACCESS_WRITE))
        memory.drain()
    check_memory(memory)
    return memory


def pool_pages(memory: HostMemory) -> list[float]:
    """What each guest's pages take of the pool."""
    return (memory.machine.mms["pool_units"] / POOL_UNIT).tolist()


@pytest.mark.parametrize(
    ("compression", "pages_each"),
    [
        (CompressionSpec(incompressible_share=1.0), 1.0),
        (CompressionSpec(incompressible_share=0.0, same_filled_share=1.0), 0.0),
        (CompressionSpec(ratio=3.0, spread=0.0, incompressible_share=0.0), 0.34),
        (CompressionSpec(ratio=3.0, incompressible_share=0.25, same_filled_share=0.25), 0.25 + 0.5 * 0.35),
    ],
)
def test_the_pool_is_the_sum_over_what_is_swapped_out_now(compression: CompressionSpec, pages_each: float) -> None:
    memory = host(compression)
    before = pool_pages(memory)
    for guest in range(2):
        swapped = int(memory.events(guest)["pgsteal"] - memory.events(guest)["pswpin"])
        assert swapped > 3000
        assert before[guest] == pytest.approx(swapped * pages_each, rel=0.05)
    memory.machine.mms["max_pages"][0] = 0
    memory.touch(0, np.arange(4096, dtype=np.uint32))
    assert memory.machine.bits[memory.words(0), PRESENT].all()
    assert pool_pages(memory) == [0.0, before[1]]
    check_memory(memory)


def test_a_page_keeps_its_size_and_hosts_differ() -> None:
    assert pool_pages(host(CompressionSpec())) == pool_pages(host(CompressionSpec()))
    assert pool_pages(host(CompressionSpec())) != pool_pages(host(CompressionSpec(), 1))


def test_the_pool_takes_free_memory_of_the_host_as_it_fills() -> None:
    memory = host(CompressionSpec(), free_pages=10_000, watermarks=Watermarks(100, 150, 150))
    node = memory.machine.node[0]
    assert int(node["pool_pages"]) == int(np.ceil(sum(pool_pages(memory)))) > 2000
    assert int(node["free_pages"]) == 10_000 - int(memory.machine.parent[0]["charged"]) - int(node["pool_pages"])


@pytest.mark.parametrize("limit", [1, 37, 500])
def test_a_pool_at_its_limit_takes_no_page_and_the_guests_die(limit: int) -> None:
    memory = host(CompressionSpec(), pool_limit=limit)
    assert [memory.oom_reason(guest) for guest in range(2)] == ["memcg", "memcg"]
    written = int(memory.machine.events["pswpout"].sum())
    assert written > limit  # each takes less than a page
    assert memory.machine.node[0]["pool_pages"] == 0


def test_what_saves_nothing_costs_cpu_time_on_its_way_out_and_little_on_its_way_back() -> None:
    zram = get_device("zram")
    plain, huge, same = (
        with_compression(zram, CompressionSpec(incompressible_share=share, same_filled_share=filled))
        for share, filled in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    )
    assert same.write_cpu_ns < plain.write_cpu_ns < huge.write_cpu_ns
    assert same.read_ns < huge.read_ns < plain.read_ns
    assert with_compression(get_device("nvme"), CompressionSpec()) == get_device("nvme")
