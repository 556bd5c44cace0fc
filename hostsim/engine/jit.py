"""How the hot loops are compiled, and the few instructions that they need.

Compiled code is kept on disk in a folder named by a hash of the engine's whole source, because numba itself looks
only at the file of the outermost function and would go on using what an edited callee has made wrong. In it nothing
says where the sources are, so that it is good for every installation of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.core import caching as numba_caching
from numba.extending import intrinsic as numba_intrinsic

from coldfleet.hostsim.engine import machine_type  # noqa: F401 - tells numba what a Machine is
from coldfleet.hostsim.engine.state import Machine, Record

_F = TypeVar("_F", bound=Callable[..., Any])
_njit: Any = numba.njit
_intrinsic: Any = numba_intrinsic
_config: Any = numba.config
_caching: Any = numba_caching
_ROOT = Path(__file__).parents[2]
_SOURCES = ("hostsim", "policies")


def _use_cache_of_this_source() -> Path | None:
    """Points numba's cache to ~/.cache/coldfleet/HASH, unless the user chose a place or there is none to write to."""
    if _config.CACHE_DIR:
        return None
    digest = hashlib.sha256()
    for file in sorted(file for source in _SOURCES for file in (_ROOT / source).rglob("*.py")):
        digest.update(file.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coldfleet" / digest.hexdigest()[:16]
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(cache, os.W_OK):
        return None
    _config.CACHE_DIR = str(cache)
    _caching.CacheImpl._locator_classes.insert(0, Locator)
    return cache


class Locator(_caching.UserProvidedCacheLocator):  # type: ignore[misc]
    """Where numba keeps a function of ours: in a folder named by its package. The hash of the sources is above it."""

    @classmethod
    def from_function(cls, function: Any, file: str) -> Locator | None:
        """None: it is somebody else's."""
        return cls(function, file) if Path(file).is_relative_to(_ROOT) else None

    @classmethod
    def get_suitable_cache_subpath(cls, file: str) -> str:
        """The name of the folder."""
        return "_".join(Path(file).relative_to(_ROOT).parent.parts)

    def ensure_cache_path(self) -> None:
        """Makes the folder."""
        os.makedirs(self.get_cache_path(), exist_ok=True)

    def get_source_stamp(self) -> str:
        """Nothing more."""
        return ""


OWN_CACHE = _use_cache_of_this_source()
"""Where compiled code is kept under that hash; None: somewhere else, or nowhere."""


class _Cache(_caching.FunctionCache):  # type: ignore[misc]
    """numba's own, which would load all that it knows of NumPy and SciPy before it looks: a fifth of a warm start."""

    def load_overload(self, signature: Any, context: Any) -> Any:
        """What was compiled for a signature, or None: then numba loads that, to compile."""
        return self._load_overload(signature, context)


def kept(dispatcher: Any) -> Any:
    """Has what is compiled of a function kept on disk."""
    dispatcher._cache = _Cache(dispatcher.py_func)
    return dispatcher


# The callers in Python own the arrays, so compiled code counts no references (_nrt; it can't allocate either):
# counting them costs more than the work of the small functions.


def compiled(function: _F) -> _F:
    """Compiles a function once for all policies, kernels and sizes, and keeps the result on disk."""
    return cast(_F, kept(_njit(error_model="numpy", _nrt=False, no_cfunc_wrapper=True)(function)))


def inlined(function: _F) -> _F:
    """For the small functions of the hot paths: compiled callers take them in whole. Not to be called from Python."""
    options = {"forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(_F, kept(_njit(error_model="numpy", _nrt=False, **options)(function)))


def spliced(function: _F) -> _F:
    """As inlined, for functions with one caller: that is compiled as if their lines stood in it, in a third of the
    time that numba needs for a chain of functions."""
    return cast(_F, _njit(error_model="numpy", _nrt=False, inline="always")(function))


@_intrinsic  # type: ignore[untyped-decorator]
def _ctpop(_typing: Any, word: Any) -> Any:
    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@_intrinsic  # type: ignore[untyped-decorator]
def _cttz(_typing: Any, word: Any) -> Any:
    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        from llvmlite import ir

        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), codegen


@inlined
def popcount(word: np.uint64) -> int:
    """Number of set bits of a 64-bit word."""
    return np.int64(_ctpop(word))  # type: ignore[return-value]


@inlined
def lowest_bit(word: np.uint64) -> int:
    """Index of the lowest set bit of a word that is not 0."""
    return np.int64(_cttz(word))  # type: ignore[return-value]


@_intrinsic  # type: ignore[untyped-decorator]
def prefetch(_typing: Any, array: Any, index: Any) -> Any:
    """Asks the CPU to bring an element of a one-dimensional array into its cache; never fails."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        import numba.core.cgutils
        import numba.np.arrayobj
        from llvmlite import ir

        cgutils: Any = numba.core.cgutils
        arrayobj: Any = numba.np.arrayobj
        view = arrayobj.make_array(signature.args[0])(context, builder, args[0])
        pointer = cgutils.get_item_pointer(context, builder, signature.args[0], view, [args[1]], wraparound=False)
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [builder.bitcast(pointer, byte), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, index), codegen


@inlined
def page_row(m: Machine, page: int) -> Record:
    """The PAGE row of a page, or that of a list's head, by an index that is known not to be negative.

    numba need not ask for its sign then: a fifth off the time of everything that works on pages.
    """
    return m.pages[np.uint64(page)]
