"""What a benchmark ran on, and how much the same work differed from one time to the next."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path


def machine() -> str:
    """CPU, how many, kernel, Python, and how busy they are at the moment."""
    info = Path("/proc/cpuinfo").read_text()
    names = [line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")]
    cpu = names[0] if names else platform.machine()
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
    return f"{cpu}, Linux {platform.release()}, Python {platform.python_version()}; {load}"


def noise(found: Sequence[float]) -> str:
    """The range of what was measured, over its lowest."""
    return f"{(max(found) / min(found) - 1):.0%}"
