"""Small files in every format, and real ones where there are some."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldfleet.hostsim.trace.formats.block import ORACLE_GENERAL, VSCSI

REAL = Path(__file__).parents[4] / "shared" / "traces"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real traces are not beside this checkout")
PAGES = np.array([7, 8, 7, 9, 1 << 40, 7, 8], np.uint64)
TIMES = np.array([1, 1, 2, 3, 5, 8, 13])
WRITES = [0, 1, 0, 0, 1, 0, 1]


def slow_lru_misses(pages: npt.NDArray[Any], size: int) -> int:
    """Misses of an LRU of so many pages, the plain way."""
    held: dict[int, None] = {}
    misses = 0
    for page in pages.tolist():
        if page not in held:
            misses += 1
            if len(held) == size:
                del held[next(iter(held))]
        held.pop(page, None)
        held[page] = None
    return misses


def oracle_general(pages: npt.NDArray[Any] = PAGES, times: npt.NDArray[Any] = TIMES) -> bytes:
    rows = np.zeros(len(pages), ORACLE_GENERAL)
    rows["time"], rows["id"], rows["size"], rows["next"] = times, pages, 4096, -2
    return rows.tobytes()


def vscsi(version: int) -> bytes:
    rows = np.zeros(len(PAGES), VSCSI[version])
    rows["time"], rows["block"], rows["bytes"], rows["version"] = TIMES * 10**6, PAGES, 512, version << 8
    rows["op"] = np.where(WRITES, 0x2A, 0x28)
    return rows.tobytes()


def csv() -> bytes:
    rows = zip(TIMES.tolist(), PAGES.tolist(), WRITES, strict=True)
    return ("time,obj_id,op\n" + "".join(f"{time}.000,{page},{'rw'[write]}\n" for time, page, write in rows)).encode()


def lackey() -> bytes:
    rows = zip(PAGES.tolist(), WRITES, strict=True)
    lines = [f"{' S' if write else ' L'} {page << 12 | 0xABC:08x},8" for page, write in rows]
    return ("==12== Lackey, an example Valgrind tool\n==12== \n" + "\n".join(lines) + "\n==12== done\n").encode()


def perf_script() -> bytes:
    rows = zip(TIMES.tolist(), PAGES.tolist(), WRITES, strict=True)
    return "".join(
        f"     a b 42/43 [001] {time:6}.000000: cpu/mem-{'stores' if write else 'loads'},ldlat=30/P: {page << 12:16x}\n"
        for time, page, write in rows
    ).encode()


def damon(**changes: Any) -> bytes:
    """A record of two snapshots of two regions, as damo writes it."""
    regions: list[dict[str, Any]] = [
        {"start": "4,096", "end": "12,288", "nr_accesses": {"samples": 5, "percent": None},
         "age": {"usec": None, "aggr_intervals": "3"}},
        {"start": "12,288", "end": "16,384", "nr_accesses": {"samples": 0, "percent": None},
         "age": {"usec": "7", "aggr_intervals": None}},
    ]  # fmt: skip
    regions[0].update(changes)
    snapshots = [{"start_time": str(start), "end_time": str(start + 10**8), "regions": regions} for start in (0, 10**8)]
    intervals = {"sample_us": "5000", "aggr_us": "100000"}
    return json.dumps([{"target_id": 77, "intervals": intervals, "snapshots": snapshots}]).encode()


def damon_script() -> bytes:
    return "".join(
        f"   kdamond.0  44 [000] 828{interval}.5: damon:damon_aggregated: target_id=9 nr_regions=2 {region}\n"
        for interval in (1, 2)
        for region in ("4096-12288: 5", "12288-16384: 0 3")
    ).encode()


def lru_gen() -> bytes:
    snapshot = "memcg     1 /\n node     0\n   4  900   30  5\n   5  600   10  6\n"
    return (snapshot * 2).encode()


def working_set() -> bytes:
    return b"N0\n1000 anon=8192 file=4096\n9223372036854775807 anon=40960 file=0\n"


def page_idle() -> bytes:
    return np.array([0xFFFFFFFFFFFF00FF, 0xFFFFFFFFFFFFFFFF], "<u8").tobytes()


def parquet(folder: Path) -> bytes:
    path = folder / "made.parquet"
    table = {"time": TIMES, "page": PAGES, "rw": ["rw"[write] for write in WRITES], "process": [3] * len(PAGES)}
    pq.write_table(pa.table(table), path)
    content = path.read_bytes()
    path.unlink()
    return content


def every_format(folder: Path) -> dict[str, bytes]:
    """A good file in each format, more than one where a format has variants; the name begins with the format's."""
    return {
        "oracle-general": oracle_general(),
        "vscsi": vscsi(1),
        "vscsi 2": vscsi(2),
        "csv": csv(),
        "txt": b"".join(b"%d\n" % page for page in PAGES),
        "lackey": lackey(),
        "perf-script": perf_script(),
        "damon": damon(),
        "damon zlib": zlib.compress(damon()),
        "damon script": damon_script(),
        "lru-gen": lru_gen(),
        "lru-gen histogram": working_set(),
        "page-idle": page_idle(),
        "parquet": parquet(folder),
    }


def packed(content: bytes) -> dict[str, bytes]:
    """A file packed in each way."""
    return {
        "gzip": gzip.compress(content),
        "zstd": pa.compress(content, "zstd", asbytes=True),
        "xz": lzma.compress(content),
        "bzip2": bz2.compress(content),
        "zlib": zlib.compress(content),
    }
