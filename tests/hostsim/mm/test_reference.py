"""The engine does what the plain reference model does: pages, bits, lists, statistics, calls and locks, after every
operation of random sequences, for all six policies and all kernels."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from coldfleet.hostsim.engine.kernels import KERNELS
from tests.hostsim.side_by_side import Operation, Shape, SideBySide, check_after_each, with_device
from tests.reference import POLICIES

SHARES = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
SIZES = st.sampled_from([1, 7, 63, 64, 65, 100, 448, 511, 512, 513, 600, 1000, 1024, 1025, 1200, 1500, 1536])


SEEDS = st.integers(0, 99)
ACCESS_FILE = st.tuples(
    st.just("access_file"), SHARES, SHARES, st.integers(1, 700), SHARES, SHARES, st.booleans(), SEEDS
)
TOUCH = st.tuples(st.just("touch"), SHARES, SHARES, st.integers(1, 700), SHARES, SHARES, st.booleans(), SEEDS)
OPERATIONS = st.one_of(
    st.tuples(st.just("populate"), SHARES),
    TOUCH,
    TOUCH,
    ACCESS_FILE,
    ACCESS_FILE,
    st.tuples(st.just("flush")),
    st.tuples(st.just("complete_io")),
    st.tuples(st.just("wait"), st.integers(1, 5000)),
    st.tuples(st.just("age"), st.sampled_from([0, 1, 60, 200]), st.booleans()),
    st.tuples(st.just("evict"), st.integers(2, 3), st.sampled_from([0, 1, 60, 140, 200]), st.integers(1, 900)),
    st.tuples(st.just("age_node"), st.integers(0, 12)),
    st.tuples(st.just("memory_reclaim"), st.integers(1, 900)),
    st.tuples(st.just("stop_nested")),
    st.tuples(st.just("touch_own")),
)


@st.composite
def shapes(draw: st.DrawFn, kernel: str, policy: str) -> Shape:
    kind = draw(st.sampled_from(["process", "vm", "nested", "nested", "shadow"]))
    pages = draw(SIZES)
    own_pages = draw(st.sampled_from([0, 0, 1, 3, 5]))
    file_pages = draw(st.sampled_from([0, 0, 1, 40, 65, 300, 513, 1000]))
    limit = draw(st.sampled_from([0, pages // 2, pages * 3 // 4])) if pages >= 448 else 0
    swappiness = draw(
        st.sampled_from([0, 1, 60, 100, 150, 199, 200, *([201] if KERNELS[kernel].swappiness_anon_only else [])])
    )
    min_ttl = draw(st.sampled_from([0, 0, 1000, 4000]))
    swap_pages = draw(st.sampled_from([None, None, None, 0, 63, 100, pages // 4, pages]))
    shape = Shape(
        *(kernel, policy, kind, pages, own_pages, limit, swappiness, file_pages),
        min_ttl_ms=min_ttl,
        swap_pages=swap_pages,
    )
    return with_device(draw, shape)


def check(shape: Shape, operations: list[Operation]) -> None:
    check_after_each(SideBySide(shape), operations)


def check_many(kernel: str, policy: str, examples: int) -> None:
    @seed(zlib.crc32(f"{kernel} {policy}".encode()))
    @settings(max_examples=examples, deadline=None, database=None)
    @given(shape=shapes(kernel, policy), operations=st.lists(OPERATIONS, min_size=3, max_size=14))
    def engine_equals_reference(shape: Shape, operations: list[Operation]) -> None:
        check(shape, operations)

    engine_equals_reference()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_engine_equals_reference(kernel: str, policy: str) -> None:
    check_many(kernel, policy, examples=15)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_engine_equals_reference_over_thousands_of_sequences(kernel: str, policy: str) -> None:
    check_many(kernel, policy, examples=250)
