"""Compiled code for other machines: what one has compiled is packed, and unpacked where it fits.

numba's files are pickles, so they are as much a program as the sources are. They are taken from whoever gives out the
work only, and only if they were made of the same sources, by the same versions, for the same CPU, and not a byte of
them has changed since.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import llvmlite
import numba
from numba.core import registry as numba_registry

from coldfleet.hostsim.engine.code_cache import OWN_CACHE, PART

_registry: Any = numba_registry
_FILE = re.compile(r"\w+/[\w.-]+\.nb[ci]")


class CompiledCode(NamedTuple):
    """What a machine has compiled. ``made_for``: what it depends on; ``sha256``: of ``packed``, which is a ZIP file."""

    made_for: tuple[str, ...]
    sha256: str
    packed: bytes


def made_for() -> tuple[str, ...]:
    """What compiled code depends on: the simulator's sources and numba's settings, Python, numba and LLVM, and the CPU.

    All of the CPU: LLVM's name of it, such as znver3, and each feature that LLVM knows and finds.
    """
    sources = OWN_CACHE.name if OWN_CACHE else ""
    cpu = _registry.cpu_target.target_context.codegen().magic_tuple()
    return sources, str(sys.implementation.cache_tag), numba.__version__, llvmlite.__version__, *map(str, cpu)


def cache_id() -> str:
    """Which folder compiled code is kept in on this machine: nodes of a cluster may share one, or a machine's name.

    Where nothing can be kept, each process compiles for itself.
    """
    if OWN_CACHE is None:
        return f"process {os.getpid()}"
    found = OWN_CACHE.stat()
    return f"{found.st_dev}:{found.st_ino}"


def pack() -> CompiledCode | None:
    """All machine code that is here; None if none can be kept."""
    if OWN_CACHE is None:
        return None
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        files = (file for file in OWN_CACHE.glob("*/*.nb[ci]") if PART not in file.suffixes)
        for file in sorted(files):  # .nbc before the .nbi that names it
            archive.writestr(str(file.relative_to(OWN_CACHE)), file.read_bytes())
    content = packed.getvalue()
    return CompiledCode(made_for(), hashlib.sha256(content).hexdigest(), content)


def unpack(code: CompiledCode) -> bool:
    """Puts code where it is looked for, beside what is there.

    False: it doesn't fit, isn't what was packed, or can't be kept here.
    """
    if OWN_CACHE is None or code.made_for != made_for() or hashlib.sha256(code.packed).hexdigest() != code.sha256:
        return False
    with zipfile.ZipFile(io.BytesIO(code.packed)) as archive:
        if not all(_FILE.fullmatch(name) for name in archive.namelist()):
            return False
        try:
            for name in archive.namelist():
                _put(OWN_CACHE / name, archive.read(name))
        except OSError:
            return False
    return True


def _put(place: Path, content: bytes) -> None:
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        new = place.with_name(f"{place.name}.{uuid4().hex}")
        new.write_bytes(content)
        os.replace(new, place)  # readers see all of it or nothing
