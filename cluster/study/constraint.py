"""Constraints on cells: ``"overcommit > 1 or nested_ratio == 0"``. Read by a few rules of our own, never executed.

The words are those of Python: and, or, not, in, comparisons, + - * /, numbers, texts in quotes, lists, and the dotted
names of keys. Sizes are compared with sizes, times with times: ``guest.memory >= "32 MiB"``. What a word stands for is
known from the key, so a constraint that mixes kinds is refused before any cell is looked at.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from coldfleet.cluster.study.model import find_key, quantity_at, scalar_type
from coldfleet.cluster.study.values import parse_share
from coldfleet.hostsim.spec.errors import UserError, cited, nearest
from coldfleet.hostsim.spec.units import QUANTITIES

Values = Mapping[str, Any]
"""Every key of a cell by its dotted name; sizes in pages, times in ns."""

_CONDITION, _NUMBER, _TEXT, _LIST = "a condition", "a number", "a text", "a list"
_AMOUNTS = {quantity.name: quantity for quantity in QUANTITIES.values()}
_MAX_LENGTH = 1000  # characters: more than anyone writes, little enough to be read without harm
_LARGEST = 1 << 63  # as a whole number: study files have 64 bits, one for the sign
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EQUAL: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
_MEMBER: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_COMPARE = {**_ORDER, **_EQUAL, **_MEMBER}
_CALCULATE: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class _Term:
    """A part of a constraint: what kind of value it has, and how to get it; ``of``: the kind of a list's elements."""

    kind: str
    value: Callable[[Values], Any]
    of: str = ""

    def needs(self, kind: str, node: ast.expr) -> Callable[[Values], Any]:
        """The value, if it is of that kind."""
        if self.kind != kind:
            raise UserError(f"{cited(ast.unparse(node))} is {self.kind}, not {kind}")
        return self.value


def read_constraint(text: str, keys: Collection[str]) -> Callable[[Values], bool]:
    """A function that tells whether a cell meets the constraint; raises :class:`UserError` if it isn't one.

    The function raises :class:`UserError` too, if it would have to divide by zero.
    """
    try:
        if len(text) > _MAX_LENGTH:
            raise UserError(f"longer than {_MAX_LENGTH} characters")
        with warnings.catch_warnings(action="error", category=Warning):  # of Python: "1or x"
            tree = ast.parse(text.strip(), mode="eval").body
        value = _read(tree, keys).needs(_CONDITION, tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error if isinstance(error, UserError) else 'not a condition, such as "overcommit > 1"'
        raise UserError(f"{cited(text)}: {why}") from None

    def holds(values: Values) -> bool:
        try:
            return bool(value(values))
        except ZeroDivisionError:
            named = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute))
            cell = ", ".join(f"{path} = {values[path]}" for path in dict.fromkeys(named) if path in values)
            mend = "put a condition that leaves such cells out and `and` before it"
            raise UserError(f"{cited(text)} divides by zero{cell and ' where '}{cell}: {mend}") from None
        except RecursionError:
            raise UserError(f"{cited(text)}: too deep") from None

    return holds


def _read(node: ast.expr, keys: Collection[str]) -> _Term:
    match node:
        case ast.Constant(value=str() | int() | float() as value) if not isinstance(value, bool):
            return _constant(value)
        case ast.Name() | ast.Attribute():
            return _key(ast.unparse(node), keys)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            terms = [_read(element, keys) for element in elements]
            for term, element in zip(terms, elements, strict=True):
                term.needs(terms[0].kind, element)
            return _Term(_LIST, lambda values: [term.value(values) for term in terms], terms[0].kind if terms else "")
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _read(operand, keys).needs(_CONDITION, operand)
            return _Term(_CONDITION, lambda values: not inner(values))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _read(operand, keys).needs(_NUMBER, operand)
            return _Term(_NUMBER, lambda values: -inner(values))
        case ast.BoolOp(op=op, values=operands):
            inners = [_read(operand, keys).needs(_CONDITION, operand) for operand in operands]
            combine = all if isinstance(op, ast.And) else any
            return _Term(_CONDITION, lambda values: combine(inner(values) for inner in inners))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _CALCULATE:
            calculate, first, second = _CALCULATE[type(op)], _read(left, keys), _read(right, keys)
            kind = _calculated(op, first, second)
            return _Term(kind, lambda values: calculate(_small(first.value(values)), _small(second.value(values))))
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            terms = [_read(operand, keys) for operand in (left, *others)]
            for n, comparison in enumerate(ops):
                _check_compared(comparison, terms[n], terms[n + 1])
            compares = [_COMPARE[type(op)] for op in ops]
            return _Term(
                _CONDITION,
                lambda values: all(
                    compare(terms[n].value(values), terms[n + 1].value(values)) for n, compare in enumerate(compares)
                ),
            )
    raise UserError(f"can't use {cited(ast.unparse(node))} here: keys, numbers, texts, comparisons, and, or, not, in")


def _calculated(op: ast.operator, left: _Term, right: _Term) -> str:
    """The kind of a sum, product or quotient. Texts and lists could be multiplied beyond all memory."""
    numeric = {_NUMBER, *_AMOUNTS}
    if left.kind in numeric and right.kind in numeric:
        if isinstance(op, ast.Div) and left.kind == right.kind:
            return _NUMBER
        if isinstance(op, ast.Mult) and left.kind == _NUMBER:
            return right.kind
        if right.kind == (left.kind if isinstance(op, ast.Add | ast.Sub) else _NUMBER):
            return left.kind
    raise UserError(f"can't calculate with {left.kind} and {right.kind}")


def _check_compared(op: ast.cmpop, left: _Term, right: _Term) -> None:
    """Raises UserError if the two can't be compared in this way."""
    if type(op) in _MEMBER:
        if right.kind == _LIST and right.of not in ("", left.kind):
            raise UserError(f"can't look for {left.kind} in a list whose first element is {right.of}")
        if right.kind != _LIST and not left.kind == right.kind == _TEXT:
            raise UserError(f"can't look for {left.kind} in {right.kind}: write a list, [1, 2]")
        return
    for amount, other in ((left, right), (right, left)):
        if amount.kind in _AMOUNTS and other.kind in (_NUMBER, _TEXT):
            with suppress(KeyError):  # of a key; what is written as an amount is told what is wrong with it
                _AMOUNTS[amount.kind].parse(str(other.value({})))
    if left.kind != right.kind or _LIST in (left.kind, right.kind):
        raise UserError(f"can't compare {left.kind} with {right.kind}")
    if type(op) in _ORDER and left.kind in (_TEXT, _CONDITION):
        raise UserError(f"{left.kind} is not more or less than another: use ==, != or in")


def _small(value: float) -> float:
    """An operand: a whole number of thousands of digits would take long, and becomes a float."""
    return value if abs(value) < _LARGEST else float(value)


def _constant(value: str | int | float) -> _Term:
    """A text that is a size, a time or a share as a number of pages or ns or as a part of 1, else as it is."""
    if isinstance(value, str):
        kinds = {**{quantity.name: quantity.parse for quantity in QUANTITIES.values()}, _NUMBER: parse_share}
        for kind, parse in kinds.items():
            with suppress(UserError):
                return _fixed(kind, parse(value))
        return _fixed(_TEXT, value)
    if abs(value) >= _LARGEST and isinstance(value, int):
        raise UserError("a whole number beyond 64 bits")
    return _fixed(_NUMBER, value)


def _fixed(kind: str, value: str | int | float) -> _Term:
    return _Term(kind, lambda values: value)


def _key(path: str, keys: Collection[str]) -> _Term:
    field, quantity = find_key(path), quantity_at(path)
    if path not in keys or field is None:
        raise UserError(f"unknown key {cited(path)}{nearest(path, keys)}")
    kind = quantity.name if quantity else _TEXT if scalar_type(field) is str else _NUMBER
    return _Term(kind, lambda values: values[path])
