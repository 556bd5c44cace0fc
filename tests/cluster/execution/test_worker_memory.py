"""What a worker asks Ray for is more than it takes, and not wildly more."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from coldfleet.cluster.execution.worker_memory import worker_bytes
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.values import Scalar

_CODE = """
import json, sys
from pathlib import Path
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.execution.work import simulate_run, warm_up
plan = Plan("", "", 1, 1, json.loads(sys.argv[1]), {})
warm_up(plan)
simulate_run(plan.run(0))
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024)  # getrusage would count what the parent had before exec
"""


@pytest.mark.parametrize(("guests", "memory"), [(2, "4 MiB"), (4, "512 MiB")])
def test_worker_stays_below_what_it_declares(guests: int, memory: str) -> None:
    base: dict[str, Scalar] = {"policy": "six-steps", "nested_ratio": 0.5, "ticks": 2, "overcommit": 1.5}
    base |= {"fleet.hosts": 1, "fleet.guests_per_host": guests, "guest.memory": memory}
    command = [sys.executable, "-c", _CODE, json.dumps(base)]
    for _ in range(2):  # the first one may compile, for which a node's first worker takes 700 MiB
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    declared = worker_bytes(Plan("", "", 1, 1, base, {}))
    print(f"{guests} x {memory}: {int(done.stdout) >> 20} MiB of {declared >> 20} MiB")
    assert declared / 4 < int(done.stdout) < declared
