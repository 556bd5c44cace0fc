"""Compiled functions that their callers reach by address, instead of taking them in.

numba optimises whatever a compiled function calls once more together with it, at every level of a chain of calls: the
first access of a page leads to the reclaim of others, so that every kind of access would have all of reclaim compiled
into it (6 minutes instead of 1). A function declared here is compiled once. What is called so should have more work
than the few ns that the call costs.

The address is made known to the linker under the function's name. Machine code from the disk that calls it can only be
loaded afterwards: whoever makes a Machine calls :func:`link` first. An error that is raised in a function called so,
such as an index out of bounds where numba checks them, reaches the caller as any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from llvmlite import binding
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from coldfleet.hostsim.engine.machine_type import MACHINE, check
from coldfleet.hostsim.engine.state import RECLAIM, Machine

_F = TypeVar("_F", bound=Callable[..., Any])
RECLAIM_RECORD = numba.from_dtype(RECLAIM)
_to_link: list[Callable[[], Any]] = []  # callees before their callers


def apart(*arguments: Any) -> Callable[[_F], _F]:
    """Declares a function of a Machine and of ``arguments`` (numba types), to be called from compiled code."""

    def declare(function: _F) -> _F:
        options: Any = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        dispatcher: Any = numba.njit(cache=True, error_model="numpy", **options)(function)
        symbol = f"coldfleet.{function.__module__}.{function.__qualname__}"

        def build() -> Any:
            dispatcher.compile((MACHINE, *arguments))
            result = dispatcher.overloads[MACHINE, *arguments]
            binding.add_symbol(symbol, result.library.get_pointer_to_function(result.fndesc.llvm_func_name))
            return result

        class Template(AbstractTemplate):
            key = function

            def generic(self, _args: Any, _kws: Any) -> Any:
                return signature(build().signature.return_type, MACHINE, *arguments)

        def call(context: Any, builder: Any, called: Any, values: Any) -> Any:
            kind = context.call_conv.get_function_type(called.return_type, called.args)
            callee = cgutils.get_or_insert_function(builder.module, kind, symbol)
            status, result = context.call_conv.call_function(builder, callee, called.return_type, called.args, values)
            with cgutils.if_unlikely(builder, status.is_error):
                context.call_conv.return_status_propagate(builder, status)
            return result

        infer_global(function, types.Function(Template))
        lower_builtin(function, types.VarArg(types.Any))(call)
        _to_link.append(build)
        return function

    return declare


def link(machine: Machine) -> None:
    """Compiles the functions that are called by address in this process, or loads them. Checks the arrays."""
    check(machine)
    while _to_link:
        _to_link.pop(0)()
