"""Packing: as few hosts as a solver finds, and what asks for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from coldfleet.cluster.study.placement import Need, Packing, Room, pack
from coldfleet.hostsim.spec.errors import UserError

HOST = Room((100.0, 16.0, math.inf), 1)


def check(needs: list[Need], rooms: list[Room], packing: Packing) -> None:
    """Every guest has one host, and no host has more than it has room for."""
    placed = np.zeros(len(needs))
    for load in packing.loads:
        placed += load.hosts * np.array(load.guests)
        for kind, room in enumerate(rooms[load.room].amounts):
            assert sum(n * need.amounts[kind] for n, need in zip(load.guests, needs, strict=True)) <= room + 1e-6
    assert placed.tolist() == [need.count for need in needs]


def fewest_hosts(needs: list[Need], room: Room, most: int) -> int:
    """By mixed-integer programming: x[need, host] guests on hosts that are used or not; ``most``: hosts that do."""
    kinds = len(needs)
    variables = kinds * most + most
    rows: list[np.ndarray] = []
    low: list[float] = []
    high: list[float] = []
    for number, need in enumerate(needs):
        row = np.zeros(variables)
        row[number * most : (number + 1) * most] = 1
        rows.append(row)
        low.append(need.count)
        high.append(need.count)
    for host in range(most):
        for resource in range(2):
            row = np.zeros(variables)
            row[host : kinds * most : most] = [need.amounts[resource] for need in needs]
            row[kinds * most + host] = -room.amounts[resource]
            rows.append(row)
            low.append(-np.inf)
            high.append(0)
        if host:  # used hosts come first
            row = np.zeros(variables)
            row[kinds * most + host - 1 : kinds * most + host + 1] = -1, 1
            rows.append(row)
            low.append(-np.inf)
            high.append(0)
    upper = np.append(np.repeat([need.count for need in needs], most), np.ones(most))
    found = milp(
        np.append(np.zeros(kinds * most), np.ones(most)),
        constraints=LinearConstraint(np.array(rows), low, high),
        integrality=np.ones(variables),
        bounds=Bounds(np.zeros(variables), upper),
    )
    assert found.success
    return round(found.fun)


@pytest.mark.parametrize("seed", range(10))
def test_hosts_are_within_one_of_the_fewest_there_can_be(seed: int) -> None:
    random = np.random.default_rng(seed)
    needs = [
        Need((float(random.uniform(4, 60)), float(random.integers(1, 9)), 1.0), int(random.integers(1, 8)))
        for _ in range(4)
    ]
    packing = pack(needs, [HOST])
    check(needs, [HOST], packing)
    fewest = fewest_hosts(needs, HOST, packing.hosts)
    assert fewest <= packing.hosts <= max(1.02 * fewest, fewest + 1)
    assert math.ceil(max(packing.alone) - 1e-9) <= fewest


def test_what_asks_for_the_hosts_is_named() -> None:
    by_memory = pack([Need((50.0, 1.0, 1.0), 10)], [HOST])
    assert (by_memory.hosts, by_memory.scarcest, by_memory.fragmentation) == (5, "memory", 0)
    by_vcpus = pack([Need((5.0, 8.0, 1.0), 10)], [HOST])
    assert (by_vcpus.hosts, by_vcpus.scarcest, by_vcpus.fragmentation) == (5, "vCPUs", 0)
    cut = pack([Need((60.0, 1.0, 1.0), 10)], [HOST])
    assert (cut.hosts, cut.scarcest, cut.fragmentation) == (10, "memory", 4)
    few = pack([Need((1.0, 1.0, 1.0), 10)], [Room((100.0, 16.0, 2.0), 1)])
    assert (few.hosts, few.scarcest) == (5, "guests per host")


def test_small_guests_fill_the_gaps_of_large_ones() -> None:
    needs = [Need((70.0, 2.0, 1.0), 1000), Need((30.0, 14.0, 1.0), 1000)]
    packing = pack(needs, [HOST])
    assert packing.hosts == 1000
    assert packing.loads == ((1000, 0, (1, 1)),)


def test_hosts_of_several_classes_are_taken_in_turn() -> None:
    rooms = [Room((100.0, 16.0, math.inf), 1), Room((50.0, 16.0, math.inf), 2)]
    needs = [Need((50.0, 1.0, 1.0), 8)]
    packing = pack(needs, rooms)
    check(needs, rooms, packing)
    assert packing.hosts == 6  # each turn has room for four
    assert pack([Need((80.0, 1.0, 1.0), 3)], rooms).hosts == 3, "what a class is too small for goes to the other"


def test_a_guest_that_no_host_has_room_for_is_told() -> None:
    with pytest.raises(UserError, match=r"no host has room for a guest that needs .* and 17 vCPUs"):
        pack([Need((5.0, 17.0, 1.0), 1)], [HOST])
