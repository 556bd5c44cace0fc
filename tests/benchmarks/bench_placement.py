"""How long 40,000 VMs on 20,000 hosts take: ``python -m tests.benchmarks.bench_placement``, some seconds.

CloudSim Plus publishes what as many take it (https://cloudsimplus.org/docs/performance.html, versions 4.3.4 and 4.3.5
on a dual-core Intel i7-4558U). It couldn't be run here, so these are its own figures, from another machine. It also
simulates 50,000 jobs, and no memory; here guests get a place, and nothing of their memory is simulated.
"""

from __future__ import annotations

import random
import time

from coldfleet.cluster.study.placement import HostResources, Hosts, Request, place
from tests.benchmarks.machine import machine, noise

HOSTS, VMS, ROUNDS = 20_000, 40_000, 3
GIB = 262_144  # pages
PUBLISHED_MIN = {"worst-fit": (14.8, 15.7), "best-fit": (15.2, 15.7), "first-fit": (1.3, 2.4)}
"""CloudSim Plus: minutes for one simulation, the least and the most of its two scenarios."""


def main() -> None:
    draws = random.Random(1)
    sizes = [(draws.choice((4, 8, 16, 32)) * GIB, draws.choice((2, 4, 8))) for _ in range(VMS)]
    requests = [Request("vm", number, pages, vcpus) for number, (pages, vcpus) in enumerate(sizes)]
    print(machine())
    for rule, (least, most) in PUBLISHED_MIN.items():
        found = []
        for _ in range(ROUNDS):
            hosts = Hosts([HostResources(64 * GIB, 32)] * HOSTS, rule, lambda *_: b"")
            begun = time.process_time()
            places = place(hosts, requests)
            found.append(time.process_time() - begun)
        said = f"CloudSim Plus, published: {least:g} to {most:g} min"
        print(f"{rule}: {min(found):.1f} CPU s (noise {noise(found)}) on {len(set(places)):,} hosts; {said}")


if __name__ == "__main__":
    main()
