"""The host's limits: what each of them adds to a fault, and what the law that they make says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfleet.hostsim.costs.scalability import CHARGE_BATCH, fault_ns, remote_share, serial_ns
from coldfleet.hostsim.spec.calibration import DEFAULT
from coldfleet.hostsim.spec.units import PAGE_BYTES

FREE = replace(DEFAULT, zone_lock_ns=0.0, coherency_ns=0.0, charge_ns=0.0, zero_bytes_per_s=1e30)


def test_a_lone_fault_meets_nobody() -> None:
    assert fault_ns(1, DEFAULT) == DEFAULT.fault_ns


def test_without_limits_any_number_of_vcpus_fault_as_one_does() -> None:
    assert fault_ns(100, FREE) == pytest.approx(DEFAULT.fault_ns)


@pytest.mark.parametrize(
    ("limit", "longer_ns"),
    [
        ({"zero_bytes_per_s": PAGE_BYTES * 1e9}, 3),  # a page a ns: beside three others, three pages come first
        ({"zone_lock_ns": 20.0}, 60),
        ({"charge_ns": 10.0 * CHARGE_BATCH}, 30),
    ],
)
def test_each_limit_makes_a_fault_longer_by_itself(limit: dict[str, float], longer_ns: float) -> None:
    assert fault_ns(4, replace(FREE, **limit)) - DEFAULT.fault_ns == pytest.approx(longer_ns)


def test_no_socket_zeroes_more_than_its_bandwidth() -> None:
    slow = replace(FREE, zero_bytes_per_s=2e9)
    bytes_per_s = [n * PAGE_BYTES / fault_ns(n, slow) * 1e9 for n in (1, 8, 64, 1024)]
    assert bytes_per_s == sorted(bytes_per_s)
    assert 1.98e9 < bytes_per_s[-1] < 2e9


def test_coherency_begins_at_the_second_socket() -> None:
    apart = replace(FREE, coherency_ns=10.0)
    assert fault_ns(24, apart) == pytest.approx(DEFAULT.fault_ns)
    assert fault_ns(48, apart) - DEFAULT.fault_ns == pytest.approx(47 * 5)


@settings(deadline=None)  # the first call compiles it
@given(st.floats(1, 1024))
def test_the_parts_are_gunthers_law(vcpus: float) -> None:
    apart = replace(DEFAULT, coherency_ns=60.0)
    sigma = sum(serial_ns(DEFAULT).values()) / DEFAULT.fault_ns  # as shares of a lone fault
    kappa = apart.coherency_ns / DEFAULT.fault_ns
    law = DEFAULT.fault_ns * (1 + (sigma + kappa * remote_share(vcpus)) * (vcpus - 1))
    assert fault_ns(vcpus, apart) == pytest.approx(law)
    assert sigma == pytest.approx(sum(serial_ns(DEFAULT).values()) / DEFAULT.fault_ns)


def test_cpus_fill_one_socket_before_the_next() -> None:
    assert remote_share(1) == remote_share(24) == 0
    assert remote_share(48) == 0.5
