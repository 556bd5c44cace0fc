"""What the value of a study's key may be: the types of the keys, each checked as the file is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

from coldfleet.hostsim.spec.calibration import parse_calibration
from coldfleet.hostsim.spec.checks import MAX_SAMPLE, MAX_TIME_NS, check_heat, check_loads
from coldfleet.hostsim.spec.errors import UserError, nearest
from coldfleet.hostsim.spec.host_spec import Heat
from coldfleet.hostsim.spec.units import MEMORY, TIME, Quantity
from coldfleet.policies import POLICIES, Policy, PolicyError, get_policy
from coldfleet.policies.installed import installed

KERNELS_OWN = "kernel"
"""As a policy: the one that the cell's kernel has itself."""

_PERCENT = r"^\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*%\s*$"
MAX_HEAT = 1_000  # parts of a profile
MAX_LOADS = 10_000  # numbers of a table of loads: a week of minutes
MAX_SPAN_NS = 1000 * 24 * 3600 * 10**9  # of a fleet's life; sums of some fit 64 bits
_LONG_TIME = replace(TIME, example="h", examples='write for example "10 h", "30 min" or "2 d"')
CLASS_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,40}$"

Scalar = str | int | float
"""A value of one key. Grids are made of these."""


def find_policy(name: str, own: Mapping[str, Policy] | None = None) -> Policy:
    """The policy of that name, maybe one of the study's own; raises :class:`PolicyError` with the nearest names."""
    known = dict.fromkeys([*(own or {}), *POLICIES, *installed()])
    if isinstance(name, str) and name not in known:
        raise PolicyError(f"unknown policy {name!r:.80} (`coldfleet policies` lists all){nearest(name[:80], known)}")
    return get_policy(name, own)


def _known_policy(name: str, info: ValidationInfo) -> str:
    return name if name == KERNELS_OWN else find_policy(name, info.context).name


def _known_kernel(name: str) -> str:
    from coldfleet.hostsim.engine.hybrids import get_kernel

    return get_kernel(name).name


def _known_scenario(text: str) -> str:
    if not text:
        return text
    from coldfleet.hostsim.workload.scenario import parse_scenario  # imports the compiler

    return ", ".join(map(str, parse_scenario(text)))


def _with_unit(quantity: Quantity) -> BeforeValidator:
    parse = lru_cache(quantity.parse)  # cells repeat the same few

    def read(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            raise UserError(f'{value} has no unit: write "{value} {quantity.example}" or "{value} {quantity.unit}"')
        return parse(value) if isinstance(value, str) else quantity.parse(value)  # type: ignore[arg-type]

    return BeforeValidator(read)


def parse_share(text: str) -> float:
    """Reads a share that is written in percent: "70 %" -> 0.7; raises :class:`UserError`."""
    number = re.match(_PERCENT, text)
    if number is None:
        raise UserError(f'{text!r:.80} is not a share: write for example 0.25 or "25 %"')
    return float(Fraction(number[1]) / 100)


def overcommit_of(limit: float) -> float:
    """The overcommit ratio that a limit means, rounded so that whole pages stay whole: 70 % of 1,000 are 700."""
    ratio = 1 / limit
    return math.nextafter(ratio, 0) if Fraction(ratio) * Fraction(str(limit)) > 1 else ratio


def _text_with_unit(quantity: Quantity) -> WithJsonSchema:
    units = "|".join(re.escape(unit) for unit in quantity.units)
    return WithJsonSchema({"type": "string", "pattern": rf"^\s*[0-9]+(\.[0-9]+)?\s*({units})\s*$"})


def parse_heat(text: str) -> Heat:
    """Reads a profile as results have it: "0.1:80, 0.9:20"; raises :class:`UserError`."""
    try:
        heat = tuple((float(share), float(weight)) for share, weight in (part.split(":") for part in text.split(",")))
    except ValueError:
        raise UserError(f"{text!r:.80} is no heat: write for example [[0.1, 80], [0.9, 20]]") from None
    check_heat(heat)
    return heat


def _heat_text(value: object) -> object:
    """A profile as a text, which a key's value has to be: in a study it is a list of pairs."""
    if not isinstance(value, list | tuple):
        return value
    if len(value) > MAX_HEAT:
        raise UserError(f"{len(value):,} parts; at most {MAX_HEAT:,} are read")
    pairs = tuple(tuple(part) if isinstance(part, list | tuple) else part for part in value)
    check_heat(pairs)
    return ", ".join(f"{float(share)!r}:{float(weight)!r}" for share, weight in pairs)


def _known_heat(text: str) -> str:
    return text and _heat_text(parse_heat(text))  # type: ignore[return-value]


def parse_load(text: str) -> tuple[float, ...]:
    """Reads a table of loads as results have it: "0.2, 1.0, 1.5"; raises :class:`UserError`."""
    try:
        return tuple(map(float, text.split(",") if text else ()))
    except ValueError:
        raise UserError(f"{text!r:.80} is no table of loads: write for example [0.2, 1, 1.5]") from None


def _load_text(value: object) -> object:
    """A table of loads as a text, which a key's value has to be: in a study it is a list of numbers."""
    if not isinstance(value, list | tuple):
        return value
    if len(value) > MAX_LOADS:
        raise UserError(f"{len(value):,} numbers; at most {MAX_LOADS:,} are read")
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in value):
        raise UserError(f"{value!r:.80} is no table of loads: write for example [0.2, 1, 1.5]")
    return ", ".join(repr(float(each)) for each in value)


def _known_load(text: str) -> str:
    loads = parse_load(text)
    check_loads(loads)
    return str(_load_text(loads))


@lru_cache
def _known_calibration(text: str) -> str:
    return parse_calibration(text).as_text()


PolicyName = Annotated[str, AfterValidator(_known_policy)]
KernelName = Annotated[str, AfterValidator(_known_kernel)]
CalibrationText = Annotated[str, AfterValidator(_known_calibration)]
ScenarioText = Annotated[str, AfterValidator(_known_scenario)]
FileName = Annotated[str, Field(max_length=1024, pattern=r"^[^\x00-\x1f]*$")]
HeatText = Annotated[
    str,
    BeforeValidator(_heat_text),
    AfterValidator(_known_heat),
    WithJsonSchema({"type": ["array", "string"], "items": {"type": "array", "items": {"type": "number"}}}),
]
LoadText = Annotated[
    str,
    BeforeValidator(_load_text),
    AfterValidator(_known_load),
    WithJsonSchema({"type": ["array", "string"], "items": {"type": "number"}}),
]
Share = Annotated[
    float,
    BeforeValidator(lambda value: parse_share(value) if isinstance(value, str) else value),
    Field(ge=0, le=1, allow_inf_nan=False),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": _PERCENT}]}
    ),
]
Limit = Annotated[Share, Field(ge=0.01)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Tick = Annotated[int, Field(ge=0, lt=2**31)]
ClassName = Annotated[str, Field(pattern=CLASS_NAME)]
Memory = Annotated[int, _with_unit(MEMORY), Field(ge=512, lt=2**31), MEMORY, _text_with_unit(MEMORY)]
AnyMemory = Annotated[int, _with_unit(MEMORY), Field(ge=0, lt=2**31), MEMORY, _text_with_unit(MEMORY)]
Time = Annotated[int, _with_unit(TIME), Field(ge=1, le=MAX_TIME_NS), TIME, _text_with_unit(TIME)]
AnyTime = Annotated[int, _with_unit(TIME), Field(ge=0, le=MAX_TIME_NS), TIME, _text_with_unit(TIME)]
Span = Annotated[int, _with_unit(_LONG_TIME), Field(ge=0, le=MAX_SPAN_NS), _LONG_TIME, _text_with_unit(_LONG_TIME)]

Thousandth = Annotated[int, Field(ge=0, le=1000)]
Switch = Literal["on", "off"]
Probability = Share


def _known_subscribers(text: str) -> str:
    from coldfleet.hostsim.spec.host_spec import SUBSCRIBERS

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SUBSCRIBERS:
            raise UserError(f"unknown subscriber {name!r}: one of {', '.join(SUBSCRIBERS)}, separated by commas")
    if len(set(names)) < len(names) or "kvm" not in names:
        raise UserError(f'{text!r}: name "kvm", and each device once')
    return ", ".join(names)


SubscriberNames = Annotated[str, AfterValidator(_known_subscribers)]


def _known_sample(text: str) -> str:
    parts = re.fullmatch(r"1(?:/([1-9][0-9]{0,3}))?", text)
    if parts is None or int(parts[1] or 1) > MAX_SAMPLE:
        raise UserError(f'{text!r} is no share of the page tables: write "1/16", at least "1/{MAX_SAMPLE}"')
    return text


SampleShare = Annotated[str, AfterValidator(_known_sample)]
