"""Starts Ray on this machine, or joins a cluster: quietly, in bounded time, and without touching anyone else's."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import coldfleet
from coldfleet.cluster.execution.host_actor import ONE_THREAD
from coldfleet.hostsim.spec.errors import UserError

ANSWER_WITHIN_S = 15.0
_STORE_BYTES = 100 << 20  # results never go through the object store
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
}
_PROBE = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='CRITICAL')"


def start(workers: int | None) -> Any:
    """Starts a Ray of our own with that many CPUs (default: this machine's) and returns the module.

    A slow machine can make the first start fail (ray#65983), so it is tried twice.
    """
    os.environ.update(_QUIET)
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # inherited by the workers
    ray = importlib.import_module("ray")
    for attempt in (1, 2):
        try:
            with _packages_first():
                ray.init(
                    address="local",
                    num_cpus=workers,
                    include_dashboard=False,
                    object_store_memory=_STORE_BYTES,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
            return ray
        except (Exception, SystemExit) as error:
            ray.shutdown()
            if attempt == 2:
                raise UserError(
                    f"Ray doesn't start on this machine ({_one_line(error)}): --executor serial does without"
                ) from None
    raise AssertionError


def join(address: str) -> Any:
    """Joins the cluster at HOST:PORT (or "auto") and returns the module; raises :class:`UserError`."""
    os.environ.update(_QUIET)
    if address.startswith("ray://"):
        raise UserError(f"{address}: Ray Client is not supported: give the head's HOST:PORT, usually port 6379")
    _probe(address)
    ray = importlib.import_module("ray")
    try:
        with _packages_first():
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (Exception, SystemExit) as error:
        raise UserError(f"can't join the Ray cluster at {address}: {_one_line(error)}") from None
    return ray


def _probe(address: str) -> None:
    """Joins in another process first: Ray itself would wait for minutes, and can't be interrupted."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            capture_output=True,
            timeout=ANSWER_WITHIN_S,
            check=False,
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"no Ray cluster answers at {address} within {ANSWER_WITHIN_S:.0f} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise UserError(
            f"can't join the Ray cluster at {address}: {said[-1].strip() if said else 'Ray gives no reason'}"
        )


def _packages_first() -> contextlib.AbstractContextManager[None]:
    """Ray puts the driver's current directory first in its workers' path.

    In a checkout that would be other files than the installed ones, compiled anew in every worker. So Ray gets to see
    the directory that our packages were imported from.
    """
    return contextlib.chdir(Path(coldfleet.__file__).resolve().parents[1])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
