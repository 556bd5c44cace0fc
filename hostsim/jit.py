"""How the hot loops are compiled, and the two bit instructions that they need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic as numba_intrinsic

_F = TypeVar("_F", bound=Callable[..., Any])
_njit: Any = numba.njit
_intrinsic: Any = numba_intrinsic


def compiled(function: _F) -> _F:
    """Compiles a function once for all policies, kernels and sizes, and keeps the result on disk.

    The callers in Python own the arrays, so compiled code counts no references (it can't allocate either):
    counting them costs more than the work of the small functions.
    """
    return cast(_F, _njit(cache=True, error_model="numpy", _nrt=False)(function))


def inlined(function: _F) -> _F:
    """As compiled, for the small functions of the hot paths: their callers take them in whole."""
    return cast(_F, _njit(cache=True, error_model="numpy", _nrt=False, forceinline=True)(function))


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


@compiled
def popcount(word: np.uint64) -> int:
    """Number of set bits of a 64-bit word."""
    return np.int64(_ctpop(word))  # type: ignore[return-value]


@compiled
def lowest_bit(word: np.uint64) -> int:
    """Index of the lowest set bit of a word that is not 0."""
    return np.int64(_cttz(word))  # type: ignore[return-value]
