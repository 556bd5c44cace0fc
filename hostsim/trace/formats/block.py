"""Binary traces of requests to caches and disks: libCacheSim's oracleGeneral, and vscsi.

Sources: libCacheSim, doc/quickstart_traces and its readers oracleGeneralBin.h and vscsi.h. A request is one access to
the object or block that it names, whatever its size, as libCacheSim takes it with ignore_obj_size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace.source import Source
from coldfleet.hostsim.trace.table import Accesses

ORACLE_GENERAL = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
VSCSI = {
    1: np.dtype(
        [("number", "<u4"), ("bytes", "<u4"), ("parts", "<u4"), ("op", "<u2"), ("version", "<u2"), ("block", "<u8"),
         ("time", "<u8")]
    ),
    2: np.dtype(
        [("op", "<u2"), ("version", "<u2"), ("number", "<u4"), ("bytes", "<u4"), ("parts", "<u4"), ("block", "<u8"),
         ("time", "<u8"), ("response", "<u8")]
    ),
}  # fmt: skip
"""Records by version, which is in the upper byte of ``version``."""

_NO_NEXT = (-1, -2, 2**63 - 1)  # never again, unknown, and never again in older files
_MOST_REQUESTS = 1 << 48
_SCSI_READS, _SCSI_WRITES = (0x08, 0x28, 0x88, 0xA8), (0x0A, 0x2A, 0x8A, 0xAA)
_S, _US = 10**9, 10**3


def is_oracle_general(head: bytes) -> bool:
    """Whether the first records are in order of time, and each is accessed next after itself."""
    rows = np.frombuffer(head[: len(head) // 24 * 24], ORACLE_GENERAL)
    return bool(len(rows)) and _sound(rows, 0) and bool((np.diff(rows["time"].astype(np.int64)) >= 0).all())


def read_oracle_general(source: Source) -> Iterator[Accesses]:
    """Records of 24 bytes: time (s), id, size, number of the request that has the id next."""
    count = 0
    for block in source.records(ORACLE_GENERAL.itemsize):
        rows = np.frombuffer(block, ORACLE_GENERAL)
        if not _sound(rows, count):
            swapped = rows.byteswap()
            why = (
                "big-endian: the format is little-endian"
                if _sound(swapped, count)
                else "text, damaged or another format"
            )
            raise UserError(
                f"{source.path}: not oracleGeneral: near request {count} the next accesses lie behind: {why}"
            )
        count += len(rows)
        yield Accesses(rows["id"].astype(np.uint64), rows["time"].astype(np.int64) * _S)


def _sound(rows: npt.NDArray[Any], first: int) -> bool:
    """Whether each request's next access comes after it."""
    following = rows["next"]
    later = (following > np.arange(first, first + len(rows))) & (following < _MOST_REQUESTS)
    return bool((later | np.isin(following, _NO_NEXT)).all())


def vscsi_version(head: bytes) -> int:
    """1 or 2, 0 if it is no vscsi; all of the first records must agree."""
    for version, dtype in VSCSI.items():
        rows = np.frombuffer(head[: len(head) // dtype.itemsize * dtype.itemsize], dtype)
        if len(rows) and (rows["version"] >> 8 == version).all():
            return version
    return 0


def read_vscsi(source: Source) -> Iterator[Accesses]:
    """Records of 32 or 40 bytes: bytes, SCSI opcode, block, time (us)."""
    version = vscsi_version(source.head())
    if not version:
        raise UserError(
            f"{source.path}: not vscsi: no version 1 or 2 in its records (big-endian, cut or another format)"
        )
    for block in source.records(VSCSI[version].itemsize):
        rows = np.frombuffer(block, VSCSI[version])
        if (rows["version"] >> 8 != version).any():
            raise UserError(f"{source.path}: damaged: a record isn't of version {version} as the first ones")
        if (rows["time"] > 2**63 // _US).any():
            raise UserError(f"{source.path}: damaged: a time is later than 2^63 ns")
        writes = np.isin(rows["op"], _SCSI_WRITES).astype(np.int8)
        known = (writes > 0) | np.isin(rows["op"], _SCSI_READS)
        yield Accesses(
            rows["block"].astype(np.uint64), rows["time"].astype(np.int64) * _US, np.where(known, writes, np.int8(-1))
        )
