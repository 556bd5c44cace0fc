"""What wrote a result: the versions of the packages, and a hash of the simulator's own code."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import coldfleet

_PACKAGES = ("coldfleet", "numpy", "numba", "pyarrow", "ray")
_ENGINE = (
    "policies",
    "hostsim",
    "cluster/study/arrivals.py",
    "cluster/study/fleet.py",
    "cluster/study/lives.py",
    "cluster/study/placement.py",
    "cluster/study/timeline.py",
    "cluster/execution/over_time.py",
    "cluster/execution/work.py",
)
"""The files that decide the numbers, and the folders whose files all do."""


def versions() -> dict[str, str]:
    """The version of Python and of every package that takes part; "" for one that isn't installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


@cache
def engine_digest() -> str:
    """A hash of the code that decides the numbers (16 hex digits): equal digests, equal results."""
    digest = hashlib.sha256()
    root = Path(coldfleet.__file__).parent
    for name in _ENGINE:
        where = root / name
        for source in sorted(where.rglob("*.py")) if where.is_dir() else [where]:
            digest.update(source.relative_to(root).as_posix().encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
