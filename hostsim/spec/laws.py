"""Laws that figures obey, whatever is simulated: how they are written, and how they are held against facts.

A law is a function that yields what breaks it, each a text that says where; the first sentence of its docstring is the
law. Laws stand in tables by name: hostsim.memory.audit, hostsim.memory.result_laws and cluster.results.row_laws, from
which docs/laws.md is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import ParamSpec

Broken = Iterator[str]
_Facts = ParamSpec("_Facts")


class LawBrokenError(AssertionError):
    """A figure contradicts another; the text names the law, and where it was broken."""


def statement(law: Callable[..., Broken]) -> str:
    """What a law says."""
    return " ".join((law.__doc__ or "").split())


def hold(
    laws: Mapping[str, Callable[_Facts, Broken]], where: str, *facts: _Facts.args, **more_facts: _Facts.kwargs
) -> None:
    """Raises LawBrokenError unless all of the laws hold of the facts; ``where``: of which host, and when."""
    for name, law in laws.items():
        for broken in law(*facts, **more_facts):
            raise LawBrokenError(f"{name}, {where}: {broken}")
