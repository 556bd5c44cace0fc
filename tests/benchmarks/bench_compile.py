"""How long the first run compiles: ``python -m tests.benchmarks.bench_compile [STUDY]``, a minute on two cores.

With nothing compiled yet: CPU seconds and wall time until the hosts of a study can be simulated, of this process and of
those that compile beside it, and the size of the cache.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.machine import machine
from tests.cluster.ray_node import ROOT

_CODE = """\
import resource, sys
from coldfleet.cluster.execution.work import warm_up
from coldfleet.cluster.study.reader import read_study
warm_up(read_study(sys.argv[1]))
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime)
"""


def main() -> None:
    study = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "configs/quickstart.toml")
    print(machine())
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        begun = time.monotonic()
        said = subprocess.run(
            [sys.executable, "-c", _CODE, study], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        wall_s = time.monotonic() - begun
        every = resource.getrusage(resource.RUSAGE_CHILDREN)
        own_s, all_s = float(said.stdout), every.ru_utime + every.ru_stime
        size = sum(path.stat().st_size for path in Path(cache).rglob("*") if path.is_file())
    print(f"{wall_s:.1f} s: {own_s:.1f} CPU s here, {all_s - own_s:.1f} in other processes; cache {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
