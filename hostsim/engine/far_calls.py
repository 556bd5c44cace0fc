"""Compiled functions that are called by address, and so not compiled once more with every caller.

numba optimises whatever a compiled function calls once more together with it, at every level of a chain of calls: the
first access of a page leads to the reclaim of others, so that every kind of access would have all of reclaim compiled
into it (6 minutes instead of 1). A function declared here is compiled once. What is called so should have more work
than the few ns that the call costs.

The address is in a slot, which the linker knows by the function's name. :func:`link` fills it as soon as a Machine may
need the function: whoever makes a Machine calls that. An error that is raised in a function called so, such as an index
out of bounds where numba checks them, reaches the caller as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from coldfleet.hostsim.engine.building import Unit, build_all, build_missing
from coldfleet.hostsim.engine.code_cache import OWN_CACHE, kept
from coldfleet.hostsim.engine.machine_type import MACHINE, check
from coldfleet.hostsim.engine.state import RECLAIM, Machine

_F = TypeVar("_F", bound=Callable[..., Any])
RECLAIM_RECORD = numba.from_dtype(RECLAIM)
_RESULTS = {"None": types.none, "bool": types.boolean, "int": types.int64}
_slots: list[Any] = []  # which must stay where they are

to_link: list[Unit] = []
"""Functions that are declared and not linked yet."""


def always(_machine: Machine) -> bool:
    """Every Machine may need it."""
    return True


def apart(*arguments: Any, needed: Callable[[Machine], bool] = always) -> Callable[[_F], _F]:
    """Declares a function of a Machine and of ``arguments`` (numba types), to be called from compiled code.

    It returns None, bool or int. ``needed``: whether compiled code that works on a Machine may come to a call of it;
    where it comes nevertheless, it raises RuntimeError.
    """

    def declare(function: _F) -> _F:
        options: Any = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        dispatcher: Any = kept(numba.njit(error_model="numpy", **options)(function))
        called = signature(_RESULTS[function.__annotations__["return"]], MACHINE, *arguments)
        symbol = f"coldfleet.{function.__module__}.{function.__qualname__}"
        slot = np.zeros(1, np.uintp)
        _slots.append(slot)
        binding.add_symbol(symbol, slot.ctypes.data)

        def load() -> bool:
            found = dispatcher._cache.load_overload(called.args, dispatcher.targetctx)
            if found is not None:
                dispatcher.add_overload(found)
            return found is not None

        def build() -> None:
            dispatcher.compile(called.args)
            result = dispatcher.overloads[called.args]
            if result.signature.return_type != called.return_type:
                raise TypeError(f"{symbol} returns {result.signature.return_type}")
            slot[0] = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)

        class Template(AbstractTemplate):
            key = function

            def generic(self, _args: Any, _kws: Any) -> Any:
                return called

        def call(context: Any, builder: Any, _called: Any, values: Any) -> Any:
            kind = context.call_conv.get_function_type(called.return_type, called.args)
            place = builder.module.globals.get(symbol) or ir.GlobalVariable(builder.module, kind.as_pointer(), symbol)
            callee = builder.load(place)
            with cgutils.if_unlikely(builder, cgutils.is_null(builder, callee)):
                context.call_conv.return_user_exc(builder, RuntimeError, (f"{symbol} isn't linked",))
            status, result = context.call_conv.call_function(builder, callee, called.return_type, called.args, values)
            with cgutils.if_unlikely(builder, status.is_error):
                context.call_conv.return_status_propagate(builder, status)
            return result

        infer_global(function, types.Function(Template))
        lower_builtin(function, types.VarArg(types.Any))(call)
        to_link.append(Unit(function.__module__, function.__qualname__, needed, load, build))
        return function

    return declare


def link(machine: Machine) -> None:
    """Compiles what a Machine, with its guests, may need of these functions, or loads it, and checks its arrays."""
    check(machine)
    if wanted := [unit for unit in to_link if unit.needed(machine)]:
        build_all(wanted)
        to_link[:] = [unit for unit in to_link if unit not in wanted]


def help_to_build(names: Sequence[str]) -> None:
    """In a process of its own: compiles functions, MODULE:NAME each, for those who wait for them."""
    for name in names:
        import_module(name.partition(":")[0])
    known = {f"{unit.module}:{unit.name}": unit for unit in to_link}
    if OWN_CACHE:
        build_missing([known[name] for name in names], OWN_CACHE)
