"""Kernels by name, and hybrids: one kernel with some features of another, which no distribution ships.

A hybrid is written as ``"6.12 with two_touch, policy of 6.18"``. Running them tells which feature makes a difference.
``policy``, how a kernel asks KVM itself, counts as a feature.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from collections.abc import Iterable
from dataclasses import fields, replace
from functools import cache
from itertools import pairwise

from coldfleet.hostsim.engine.kernels import KERNELS, Kernel
from coldfleet.hostsim.spec.errors import UserError

_HYBRID = re.compile(r"(?P<base>\S+)\s+with\s+(?P<features>.+?)\s+of\s+(?P<donor>\S+)")
_NAMES = ("name", "release")  # of a kernel, as opposed to its features


def get_kernel(name: str) -> Kernel:
    """A kernel or hybrid by its name; raises UserError, with a suggestion, if there is none."""
    name = " ".join(name.split())
    if name in KERNELS:
        return KERNELS[name]
    written = _HYBRID.fullmatch(name)
    if written is None:
        raise UserError(f"unknown kernel {name!r}: one of {', '.join(KERNELS)}, or {_example()!r}")
    base, donor = get_kernel(written["base"]), get_kernel(written["donor"])
    return hybrid(base, donor, [feature.strip() for feature in written["features"].split(",")])


def hybrid(base: Kernel, donor: Kernel, features: Iterable[str]) -> Kernel:
    """``base`` with these features as ``donor`` has them; raises UserError for a feature that there isn't."""
    wanted = set(features)
    known = [field.name for field in fields(Kernel) if field.name not in _NAMES]
    for feature in sorted(wanted - set(known)):
        near = difflib.get_close_matches(feature, known, n=1)
        suggestion = f'did you mean "{near[0]}"?' if near else f"kernels have {', '.join(known)}"
        raise UserError(f"unknown kernel feature {feature!r}: {suggestion}")
    if not wanted:
        return base
    chosen = [feature for feature in known if feature in wanted]
    changes = {feature: getattr(donor, feature) for feature in chosen}
    return replace(base, name=f"{base.name} with {', '.join(chosen)} of {donor.name}", **changes)


def differing_features(a: Kernel, b: Kernel) -> list[str]:
    """The features in which two kernels differ, in the order of hostsim.engine.kernels."""
    named = [field.name for field in fields(Kernel) if field.name not in _NAMES]
    return [feature for feature in named if getattr(a, feature) != getattr(b, feature)]


@cache
def feature_meanings() -> dict[str, str]:
    """What each feature means: the text that stands beside it in hostsim.engine.kernels."""
    (definition,) = ast.parse(inspect.getsource(Kernel)).body
    assert isinstance(definition, ast.ClassDef)
    meanings = {"policy": "How the kernel asks KVM which pages are young."}
    for field, text in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            meanings[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return meanings


def _example() -> str:
    *_, older, newer = KERNELS.values()
    return f"{older.name} with {differing_features(older, newer)[0]} of {newer.name}"
