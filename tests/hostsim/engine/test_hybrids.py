"""Kernels by name: the recorded ones, and one kernel with some features of another."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from coldfleet.hostsim.engine.hybrids import differing_features, get_kernel, hybrid
from coldfleet.hostsim.engine.kernels import KERNELS
from coldfleet.hostsim.spec.errors import UserError

PAIRS = list(permutations(KERNELS, 2))


def test_a_recorded_kernel_is_itself() -> None:
    for name, kernel in KERNELS.items():
        assert get_kernel(name) is kernel


def test_a_hybrid_has_the_named_features_and_no_other() -> None:
    mixed = get_kernel("6.12 with policy,  scan_budget of 6.18")
    assert mixed.scan_budget
    assert mixed.policy == KERNELS["6.18"].policy
    assert replace(mixed, scan_budget=False, policy="locked-6.12", name="6.12") == KERNELS["6.12"]
    assert mixed.name == "6.12 with policy, scan_budget of 6.18"


def test_the_order_of_features_does_not_matter() -> None:
    assert get_kernel("6.12 with two_touch, policy of 6.18") == get_kernel("6.12 with policy, two_touch of 6.18")


@pytest.mark.parametrize(("base", "donor"), PAIRS)
def test_with_all_that_differs_a_kernel_is_the_other(base: str, donor: str) -> None:
    features = differing_features(KERNELS[base], KERNELS[donor])
    mixed = hybrid(KERNELS[base], KERNELS[donor], features)
    assert replace(mixed, name=donor, release=KERNELS[donor].release) == KERNELS[donor]
    assert mixed == get_kernel(mixed.name)
    for feature in features:
        assert differing_features(mixed, hybrid(mixed, KERNELS[base], [feature])) == [feature]


def test_without_features_a_kernel_stays_itself() -> None:
    assert hybrid(KERNELS["6.12"], KERNELS["6.18"], []) is KERNELS["6.12"]
    assert differing_features(KERNELS["6.12"], KERNELS["6.12"]) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("6.13", "unknown kernel '6.13': one of 6.1, 6.12, 6.16, 6.18"),
        ("", "unknown kernel ''"),
        ("6.12 with two_touch", "unknown kernel '6.12 with two_touch'"),
        ("6.12 with two_tuch of 6.18", "unknown kernel feature 'two_tuch': did you mean \"two_touch\"?"),
        ("6.12 with release of 6.18", "unknown kernel feature 'release': "),
        ("6.12 with two_touch of 6.17", "unknown kernel '6.17'"),
        ("6.11 with two_touch of 6.18", "unknown kernel '6.11'"),
    ],
)
def test_what_is_no_kernel_is_refused(name: str, why: str) -> None:
    with pytest.raises(UserError) as refused:
        get_kernel(name)
    assert str(refused.value).startswith(why)
