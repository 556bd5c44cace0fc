"""What wrote a result: the versions of the packages, and a hash of the simulator's own code."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

_PACKAGES = ("coldfleet", "numpy", "numba", "pyarrow", "ray")
_ENGINE = {"policies": "", "policies.catalogue": "", "hostsim": "", "cluster": "fleet.py work.py"}
"""For each package, the files that decide the numbers; "" for all of them."""


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
    for package, names in _ENGINE.items():
        for source in sorted(files(package).iterdir(), key=lambda item: item.name):
            if source.name in names.split() or (not names and source.name.endswith(".py")):
                digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
