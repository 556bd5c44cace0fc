"""Constraints on cells: ``"overcommit > 1 or nested_ratio == 0"``. Read by a few rules of our own, never executed.

The words are those of Python: and, or, not, in, comparisons, + - * /, numbers, texts in quotes, lists, and the dotted
names of keys. Sizes are compared as sizes, times as times: ``guest.memory >= "32 MiB"``.
"""

from __future__ import annotations

import ast
import difflib
import operator
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from coldfleet.cluster.study.values import parse_share
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.units import QUANTITIES

Values = Mapping[str, Any]
"""Every key of a cell by its dotted name; sizes in pages, times in ns."""

_Term = Callable[[Values], Any]
_MAX_LENGTH = 1000  # characters: more than anyone writes, little enough to be read without harm
_LARGEST = 1 << 64  # as a whole number: study files have 64 bits
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_CALCULATE: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}  # of numbers only: texts and lists could be multiplied beyond all memory


def read_constraint(text: str, keys: Collection[str]) -> Callable[[Values], bool]:
    """A function that tells whether a cell meets the constraint; raises :class:`UserError` if it isn't one.

    The function raises :class:`UserError` too, if values can't be compared or calculated with.
    """
    try:
        if len(text) > _MAX_LENGTH:
            raise UserError(f"longer than {_MAX_LENGTH} characters")
        with warnings.catch_warnings(action="error", category=Warning):  # of Python: "1or x"
            term = _read(ast.parse(text.strip(), mode="eval").body, keys)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = "not an expression" if isinstance(error, SyntaxError) else error
        raise UserError(f"{text!r}: {why}") from None

    def holds(values: Values) -> bool:
        try:
            return bool(term(values))
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise UserError(f"{text!r}: {error}") from None

    return holds


def _read(node: ast.expr, keys: Collection[str]) -> _Term:
    match node:
        case ast.Constant(value=str() | int() | float() as value):
            constant = _constant(value)
            return lambda values: constant
        case ast.Name() | ast.Attribute():
            path = _dotted(node, keys)
            return lambda values: values[path]
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            terms = [_read(element, keys) for element in elements]
            return lambda values: [term(values) for term in terms]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _read(operand, keys)
            return lambda values: not inner(values)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _read(operand, keys)
            return lambda values: -_number(inner(values))
        case ast.BoolOp(op=op, values=operands):
            terms = [_read(operand, keys) for operand in operands]
            combine = all if isinstance(op, ast.And) else any
            return lambda values: combine(term(values) for term in terms)
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _CALCULATE:
            calculate, first, second = _CALCULATE[type(op)], _read(left, keys), _read(right, keys)
            return lambda values: calculate(_number(first(values)), _number(second(values)))
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            terms = [_read(operand, keys) for operand in (left, *others)]
            compares = [_COMPARE[type(op)] for op in ops]
            return lambda values: all(
                compare(terms[n](values), terms[n + 1](values)) for n, compare in enumerate(compares)
            )
    raise UserError(f"can't use {ast.unparse(node)!r} here: keys, numbers, texts, comparisons, and, or, not, in")


def _number(value: Any) -> int | float:
    """An operand of + - * /; a whole number of thousands of digits becomes too large a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"can't calculate with {value!r:.40}: not a number")
    return value if abs(value) < _LARGEST else float(value)


def _constant(value: str | int | float) -> str | int | float:
    """A text that is a size, a time or a share as a number of pages or ns or as a part of 1, anything else as it is."""
    if isinstance(value, str):
        for parse in (*(quantity.parse for quantity in QUANTITIES.values()), parse_share):
            with suppress(UserError):
                return parse(value)
    return value


def _dotted(node: ast.expr, keys: Collection[str]) -> str:
    path = ast.unparse(node)
    if path in keys:
        return path
    near = difflib.get_close_matches(path, keys, n=1)
    hint = f": did you mean {near[0]!r}?" if near else ""
    raise UserError(f"unknown key {path!r}{hint}")
