"""Which host a guest is put on: the textbook rules of bin packing, with memory and vCPUs as the two sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.units import MEMORY


@dataclass(frozen=True)
class HostResources:
    """What a host may be given, in pages and vCPUs, overcommit included."""

    memory_pages: float
    vcpus: float


@dataclass(frozen=True)
class Request:
    """A guest that wants a place."""

    name: str
    number: int
    memory_pages: int
    vcpus: int


def place(
    hosts: list[HostResources], requests: list[Request], rule: str, rank: Callable[..., bytes]
) -> list[list[tuple[str, int]]]:
    """Puts the guests on hosts one by one; returns for each host the (name, number) of its guests, in their order.

    ``rule``: "first-fit" takes the first host with room, "best-fit" the one with the least memory left, "worst-fit" the
    one with the most, "random" any of them, by ``rank``. Among equals the first. Raises :class:`UserError` with the
    reasons if a guest fits nowhere.
    """
    guests: list[list[tuple[str, int]]] = [[] for _ in hosts]
    pages = np.array([host.memory_pages for host in hosts], np.float64)
    vcpus = np.array([host.vcpus for host in hosts], np.float64)
    for placed, request in enumerate(requests):
        room = np.flatnonzero((request.memory_pages <= pages) & (request.vcpus <= vcpus))
        if not len(room):
            raise UserError(_why_not(request, pages, vcpus, placed, len(requests)))
        if rule == "random":
            chosen = int.from_bytes(rank(request.name, request.number)) % len(room)
        elif rule == "first-fit":
            chosen = 0
        else:
            chosen = int((np.argmin if rule == "best-fit" else np.argmax)(pages[room]))
        host = room[chosen]
        pages[host] -= request.memory_pages
        vcpus[host] -= request.vcpus
        guests[host].append((request.name, request.number))
    return guests


def hosts_needed(needs: list[tuple[int, int, int]], memory_pages: float, vcpus: float) -> int:
    """How many hosts with so much room take guests of these (pages, vCPUs, count), in whatever order they arrive.

    Guests that arrive in an unlucky order leave gaps, each too small for the largest of them. So a host is taken to be
    full when the largest guest no longer fits. Raises :class:`UserError` if a guest is larger than a host.
    """
    most_pages, most_vcpus = max(need[0] for need in needs), max(need[1] for need in needs)
    if most_pages > memory_pages or most_vcpus > vcpus:
        raise UserError(
            f"a host with room for {MEMORY.format(int(memory_pages))} and {vcpus:g} vCPUs can't take a guest of "
            f"{MEMORY.format(most_pages)} and {most_vcpus} vCPUs: make hosts larger"
        )
    pages = sum(size * count for size, _, count in needs) / max(memory_pages - most_pages, most_pages)
    cpus = sum(size * count for _, size, count in needs) / max(vcpus - most_vcpus, most_vcpus)
    return math.ceil(max(pages, cpus)) + 1


def _why_not(
    request: Request, pages: npt.NDArray[np.float64], vcpus: npt.NDArray[np.float64], placed: int, total: int
) -> str:
    """Why there is no room, from what hosts have left."""
    guest = f"{request.name}-{request.number} ({MEMORY.format(request.memory_pages)}, {request.vcpus} vCPUs)"
    return (
        f"after {placed} of {total} guests none of the {len(pages)} hosts has room for {guest}: "
        f"{np.count_nonzero(request.memory_pages > pages)} lack memory (at most {MEMORY.format(int(pages.max()))} is "
        f"left), {np.count_nonzero(request.vcpus > vcpus)} lack vCPUs: "
        "add hosts, or raise overcommit or fleet.vcpus_per_cpu"
    )
