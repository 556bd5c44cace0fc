"""What compiled code takes a Machine for: the address of a table with the place and shape of each of its arrays.

Given to numba as a tuple of arrays, a Machine would be two hundred arguments of every call, most of what there is to
compile. Here an array is loaded from the table where it is used. The table doesn't change while compiled code runs, so
the loads are invariant: LLVM makes each once where it pays, and leaves out those that nobody needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba import extending as numba_extending
from numba import types
from numba.core import cgutils as numba_cgutils
from numba.core import imputils as numba_imputils
from numba.core.typing import templates as numba_templates
from numba.np import arrayobj as numba_arrayobj

from coldfleet.hostsim.counters.counters import EVENTS
from coldfleet.hostsim.engine.kernels import FEATURES
from coldfleet.hostsim.engine.state import (
    ASK,
    BIT_COLUMNS,
    CLASSIC,
    CPU,
    EXTRA_COLUMNS,
    LRUVEC,
    MM,
    NODE,
    PAGE,
    PARENT,
    RECLAIM,
    SITE_COLUMNS,
    VM,
    Machine,
)
from coldfleet.policies.policy import CALL, CONTROL, MAX_CALLS, STEP, Site

extending: Any = numba_extending
cgutils: Any = numba_cgutils
imputils: Any = numba_imputils
templates: Any = numba_templates
arrayobj: Any = numba_arrayobj

_types: Any = types
_T = TypeVar("_T")
_ANY = -1  # a dimension that isn't the same in all Machines
_ROWS = (_ANY,)
_ARRAYS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "bits": (np.uint64, (_ANY, BIT_COLUMNS)),
    "pages": (PAGE, _ROWS),
    "filters": (np.uint8, (_ANY, 2)),
    "pmds": (np.uint8, _ROWS),
    "shadow_tables": (np.uint8, _ROWS),
    "huge": (np.uint8, _ROWS),
    "huge_touched": (np.uint64, _ROWS),
    "lruvecs": (LRUVEC, _ROWS),
    "mms": (MM, _ROWS),
    "cpus": (CPU, _ROWS),
    "parent": (PARENT, (1,)),
    "classic": (CLASSIC, _ROWS),
    "node": (NODE, (1,)),
    "events": (EVENTS, _ROWS),
    "sites": (np.int64, (_ANY, len(Site) + 1, SITE_COLUMNS)),
    "step_pages": (np.int64, (_ANY, _ANY)),
    "steps": (STEP, _ROWS),
    "calls": (CALL, (len(Site), MAX_CALLS)),
    "policy": (CONTROL, (1,)),
    "features": (FEATURES, (1,)),
    "reclaim": (RECLAIM, (2,)),
    "vms": (VM, _ROWS),
    "extra_bits": (np.uint64, (_ANY, EXTRA_COLUMNS)),
    "last_touch": (np.int32, _ROWS),
    "victims": (np.int32, _ROWS),
    "neighbours": (np.int32, _ROWS),
    "in_flight": (np.int32, _ROWS),
    "slots": (np.int32, _ROWS),
    "slot_of": (np.int32, _ROWS),
    "size_classes": (np.uint8, _ROWS),
    "class_units": (np.int64, _ROWS),
    "followed": (np.uint64, _ROWS),
    "asks": (ASK, _ROWS),
}
"""Of each array of a Machine, in their order, the dtype and shape."""


class MachineType(types.Type):
    """The type of every Machine. ``arrays``: their numba types; ``first``: where their numbers begin in the table."""

    def __init__(self) -> None:
        super().__init__(name="Machine")
        self.arrays = {
            name: types.Array(numba.from_dtype(np.dtype(kind)), len(shape), "C")
            for name, (kind, shape) in _ARRAYS.items()
        }
        self.first: dict[str, int] = {}
        numbers = 0
        for name, (_, shape) in _ARRAYS.items():
            self.first[name] = numbers
            numbers += 1 + len(shape)

    def __reduce__(self) -> tuple[Callable[[], MachineType], tuple[()]]:
        return _machine_type, ()


MACHINE = MachineType()


def _machine_type() -> MachineType:
    return MACHINE


extending.register_model(MachineType)(extending.models.OpaqueModel)  # a pointer


@extending.typeof_impl.register(Machine)  # type: ignore[untyped-decorator]
def _typeof(_machine: Machine, _context: Any) -> MachineType:
    return MACHINE


class _OneType(_types.NamedTuple):  # type: ignore[misc]
    """Hashed by its name: numba hashes the types of arguments on every call, and all members' would be most of it."""

    def __hash__(self) -> int:
        return hash(self.name)


extending.register_model(_OneType)(extending.models.TupleModel)


def of_one_type(kind: type[_T]) -> type[_T]:
    """For a NamedTuple that has Machines among its fields: numba takes each for what the first one was.

    It recognises tuples by a fingerprint, but not if a Machine is in them, and would ask every array on every call.
    """
    known: list[Any] = []

    @extending.typeof_impl.register(kind)  # type: ignore[untyped-decorator]
    def _typeof_tuple(value: Any, context: Any) -> Any:
        if not known:
            known.append(_OneType([extending.typeof_impl(each, context) for each in value], kind))
        return known[0]

    return kind


@extending.unbox(MachineType)  # type: ignore[untyped-decorator]
def _unbox(_kind: MachineType, machine: Any, c: Any) -> Any:
    address = c.pyapi.object_getattr_string(machine, "address")
    value = c.pyapi.long_as_voidptr(address)
    c.pyapi.decref(address)
    return extending.NativeValue(value, is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


@extending.infer_getattr
class _Attributes(templates.AttributeTemplate):  # type: ignore[misc]
    key = MachineType

    def generic_resolve(self, kind: MachineType, name: str) -> types.Array | None:
        return kind.arrays.get(name)


@extending.lower_getattr_generic(MachineType)  # type: ignore[untyped-decorator]
def _load(context: Any, builder: Any, kind: MachineType, machine: Any, name: str) -> Any:
    array_type, shape, first = kind.arrays[name], _ARRAYS[name][1], kind.first[name]
    array = arrayobj.make_array(array_type)(context, builder)

    def number(index: int, what: Any) -> Any:
        numbers = builder.bitcast(machine, what.as_pointer())
        loaded = builder.load(builder.gep(numbers, [ir.Constant(ir.IntType(64), index)]))
        loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
        return loaded

    data = number(first, context.get_data_type(array_type.dtype).as_pointer())
    whole = ir.IntType(64)
    lengths = [
        number(first + 1 + axis, whole) if length == _ANY else whole(length) for axis, length in enumerate(shape)
    ]
    itemsize = context.get_abi_sizeof(context.get_data_type(array_type.dtype))
    strides = [whole(itemsize)]
    for length in reversed(lengths[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    arrayobj.populate_array(array, data=data, shape=lengths, strides=strides, itemsize=whole(itemsize), meminfo=None)
    return imputils.impl_ret_borrowed(context, builder, array_type, array._getvalue())


def check(machine: Machine) -> None:
    """Raises TypeError unless the arrays are what compiled code takes them for."""
    for name, (kind, shape) in _ARRAYS.items():
        array = getattr(machine, name)
        alike = len(shape) == array.ndim and all(
            want in (_ANY, has) for want, has in zip(shape, array.shape, strict=True)
        )
        if array.dtype != kind or not alike or not array.flags.carray:
            raise TypeError(f"Machine.{name} is an array of {array.dtype} {array.shape}")
