"""Readahead by the kernel's rules: which pages of a file are read, and in how many requests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.engine.state import ACCESS_MMAP, ACCESS_WRITE, IN_PAGE_CACHE
from coldfleet.hostsim.memory.host_memory import HostMemory, Memslot
from coldfleet.hostsim.mm.readahead import MMAP_LOTSAMISS
from coldfleet.policies import get_policy

PAGES = 4096


def process(readahead_pages: int = 32, max_pages: int = 0) -> HostMemory:
    slot = Memslot(64, kvm=False, file_pages=PAGES, readahead_pages=readahead_pages, max_pages=max_pages)
    return HostMemory([slot], KERNELS["6.12"], get_policy("six-steps"))


def access(memory: HostMemory, pages: list[int], how: int = 0) -> None:
    memory.switch_to(0)
    memory.access_file(0, np.array(pages, np.uint32) | np.uint32(how))


def counts(memory: HostMemory) -> tuple[int, ...]:
    """Pages read, requests; requests and pages of readahead before anybody needed them."""
    names = ("file_reads", "file_read_requests", "file_readahead_requests", "file_readahead_pages")
    return tuple(int(memory.events(0)[name]) for name in names)


def cached(memory: HostMemory) -> list[int]:
    first = int(memory.machine.mms[0]["file_first"])
    flags = memory.machine.pages["flags"][first : first + PAGES]
    return [int(page) for page in (flags & IN_PAGE_CACHE).nonzero()[0]]


def test_without_readahead_each_page_is_a_request() -> None:
    memory = process(0)
    access(memory, list(range(100)))
    access(memory, list(range(200, 300)), ACCESS_MMAP)
    assert counts(memory) == (200, 200, 0, 0)


def test_windows_of_a_reader_in_order_double_up_to_the_most() -> None:
    memory = process()
    ends = []
    for page in range(92):
        access(memory, [page])
        ends.append(len(cached(memory)))
    assert sorted(set(ends)) == [4, 12, 28, 60, 92, 124]  # windows of 4, 8, 16, 32, 32, 32
    assert counts(memory) == (124, 6, 5, 120)
    assert cached(memory) == list(range(124))


def test_a_reader_that_goes_on_where_it_stopped_is_in_order() -> None:
    memory = process()
    access(memory, [1000])
    assert cached(memory) == [1000]
    access(memory, [1001])
    assert cached(memory) == [1000, 1001, 1002, 1003, 1004]


def test_random_reads_are_of_one_page() -> None:
    memory = process()
    access(memory, [500, 77, 3000, 1500])
    assert counts(memory) == (4, 4, 0, 0)


def test_pages_before_it_that_are_cached_make_a_window() -> None:
    memory = process()
    access(memory, [500, 501])  # the latter reads 501 to 504
    access(memory, [100, 505])
    assert cached(memory) == [100, *range(500, 511)]  # five are there before 505: it and five more


def test_a_fault_on_a_mapping_reads_around_its_page() -> None:
    memory = process()
    access(memory, [1000], ACCESS_MMAP)
    assert cached(memory) == list(range(984, 1016))
    assert counts(memory) == (32, 1, 0, 0)
    access(memory, [1001, 1002], ACCESS_MMAP)
    assert counts(memory) == (32, 1, 0, 0)
    access(memory, [1008], ACCESS_MMAP)  # a quarter before the end
    assert counts(memory) == (64, 2, 1, 32)


def test_a_mapping_with_many_misses_is_no_longer_read_around() -> None:
    memory = process(16)
    pages = list(range(20, PAGES - 20, 37))
    access(memory, pages[:MMAP_LOTSAMISS], ACCESS_MMAP)
    assert counts(memory)[:2] == (16 * MMAP_LOTSAMISS, MMAP_LOTSAMISS)
    access(memory, pages[MMAP_LOTSAMISS:], ACCESS_MMAP)
    assert counts(memory)[:2] == (15 * MMAP_LOTSAMISS + len(pages), len(pages))


@settings(max_examples=30, deadline=None)
@given(
    accesses=st.lists(
        st.tuples(st.integers(0, PAGES - 1), st.integers(1, 80), st.sampled_from([0, ACCESS_WRITE, ACCESS_MMAP])),
        max_size=40,
    ),
    readahead=st.sampled_from([0, 1, 2, 3, 8, 32, 200]),
    limit=st.sampled_from([0, 300]),
)
def test_what_is_read_adds_up(accesses: list[tuple[int, int, int]], readahead: int, limit: int) -> None:
    memory = process(readahead, limit)
    for start, pages, how in accesses:
        access(memory, list(range(start, min(start + pages, PAGES))), how)
    read, requests, ahead_requests, ahead_pages = counts(memory)
    assert ahead_requests <= requests <= read
    assert ahead_requests <= ahead_pages <= read
    assert memory.events(0)["thrashing_waits"] <= requests
    assert len(cached(memory)) == memory.events(0)["cached_pages"]
    if not readahead:
        assert (requests, ahead_pages) == (read, 0)


@pytest.mark.parametrize("how", [0, ACCESS_MMAP])
def test_the_page_that_is_asked_for_is_there_whatever_is_read_beside_it(how: int) -> None:
    memory = process(200, 260)
    for page in range(0, PAGES, 3):
        access(memory, [page], how)
        assert page in cached(memory)
