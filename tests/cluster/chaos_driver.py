"""The command line with a weak spot: at SIGUSR1 its sweep kills one of its own actors. For test_chaos.py."""

from __future__ import annotations

import random
import signal
import sys

from coldfleet.cluster.commands.cli import run_command
from coldfleet.cluster.execution import ray_executor
from coldfleet.cluster.study.plan import Plan


class Target(ray_executor.RayExecutor):
    """Shoots itself in the foot when asked to."""

    def start(self, plan: Plan) -> None:
        super().start(plan)
        signal.signal(signal.SIGUSR1, lambda *_: self._ray.kill(random.choice(self._pool).actor))


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    ray_executor.RayExecutor = Target  # type: ignore[misc]
    sys.exit(run_command(sys.argv[1:]))
