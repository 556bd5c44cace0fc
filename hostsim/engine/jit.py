"""How the hot loops are compiled, and the few instructions that they need.

numba compiles a function once for Python and once for compiled callers, each when somebody first needs it. What Python
calls needs machine code, and a wrapper that takes Python's objects; what compiled code calls becomes a part of the
caller and needs neither (hostsim.engine.code_cache).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.core import registry as numba_registry
from numba.extending import intrinsic as numba_intrinsic

from coldfleet.hostsim.engine import machine_type  # noqa: F401 - tells numba what a Machine is
from coldfleet.hostsim.engine.code_cache import PartCompiler, kept, kept_part
from coldfleet.hostsim.engine.state import Machine, Record

_F = TypeVar("_F", bound=Callable[..., Any])
_njit: Any = numba.njit
_registry: Any = numba_registry
_intrinsic: Any = numba_intrinsic
_types: Any = types

# The callers in Python own the arrays, so compiled code counts no references (_nrt; it can't allocate either):
# counting them costs more than the work of the small functions.
_OPTIONS = {"nopython": True, "boundscheck": None, "error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}


class _PartDispatcher(_registry.CPUDispatcher):  # type: ignore[misc]
    """Compiles a function for compiled callers."""

    def add_overload(self, result: Any) -> None:
        """There is nothing that Python could call."""
        self.overloads[tuple(result.signature.args)] = result


class _Part:
    """A function as compiled callers take it in. numba knows it from the first of them on: most are never compiled."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.py_func, self._options = function, options

    @cached_property
    def dispatcher(self) -> Any:
        """What numba compiles."""
        options = {**_OPTIONS, "no_cpython_wrapper": True, **self._options}
        return kept_part(_PartDispatcher(self.py_func, targetoptions=options, pipeline_class=PartCompiler))

    @property
    def _numba_type_(self) -> Any:
        return _types.Dispatcher(self.dispatcher)


class _Compiled(_registry.CPUDispatcher):  # type: ignore[misc]
    """A function as Python calls it; compiled callers get its part instead."""

    @cached_property
    def _part(self) -> Any:
        return _Part(self.py_func).dispatcher

    @property
    def is_compiling(self) -> Any:
        """Whether its part is: compiled code that calls it asks."""
        return self._part.is_compiling

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """How compiled code calls it with such arguments."""
        return self._part.get_call_template(args, kws)

    def get_overload(self, args: Any) -> Any:
        """What it calls."""
        return self._part.get_overload(args)


def compiled(function: _F) -> _F:
    """Compiles a function once for all policies, kernels and sizes, and keeps the result on disk."""
    return cast(_F, kept(_Compiled(function, targetoptions=_OPTIONS)))


def inlined(function: _F) -> _F:
    """For the small functions of the hot paths: compiled callers take them in whole. Not to be called from Python."""
    return cast(_F, _Part(function, forceinline=True))


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


@_intrinsic  # type: ignore[untyped-decorator]
def not_negative(_typing: Any, index: Any) -> Any:
    """Tells the compiler that an index isn't: it leaves out what numba does with one that is, wherever it is used."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.assume(builder.icmp_signed(">=", args[0], args[0].type(0)))
        return context.get_dummy_value()

    return types.void(index), codegen


@inlined
def page_row(m: Machine, page: int) -> Record:
    """The PAGE row of a page, or that of a list's head, by an index that is known not to be negative.

    numba need not ask for its sign then: a fifth off the time of everything that works on pages.
    """
    return m.pages[np.uint64(page)]
