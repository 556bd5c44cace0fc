"""The figures of the time model that come from a fit, and the files that hold another fit of them.

The defaults are the fit to the rows of v4_access_tracking.csv (v4 cover letter, 29 May 2024, Message-ID
20240529180510.2295118-1-jthoughton@google.com) with 1, 4 and 64 vCPUs, made on 2026-11-23 by
``coldfleet calibrate published``; a test makes it again. hostsim.costs has the constants that are not fitted.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hostsim.errors import UserError
from hostsim.toml_file import read_toml

PUBLISHED = "published"
"""As a name: the calibration that comes along."""


def _fitted(value: float, unit: str, meaning: str) -> Any:
    return field(default=value, metadata={"unit": unit, "meaning": meaning})


@dataclass(frozen=True)
class Calibration:
    """The fitted figures; each field's metadata has its unit and meaning. All rows of a machine share one."""

    fault_ns: float = _fitted(3617.0, "ns", "a TDP fault of a lone vCPU, with the host's fault that zeroes the page")
    serial_share: float = _fitted(0.09447, "share", "of such a fault, the part in which it keeps all others out")
    read_hold_ns: float = _fitted(251.3, "ns", "a TDP fault holds mmu_lock for read, alone")
    lock_transfer_ns: float = _fitted(405.8, "ns", "so much longer for each other holder: cache lines travel")
    aging_page_ns: float = _fitted(26.72, "ns", "walking to one page and asking KVM about it, without mmu_lock")
    remote_page_ns: float = _fitted(90.32, "ns", "more, if the page's lines are in another socket")

    def as_text(self) -> str:
        """What differs from the defaults, ``name=value`` by commas; "published" if nothing does."""
        default = asdict(DEFAULT)
        changed = [f"{name}={value!r}" for name, value in asdict(self).items() if value != default[name]]
        return ", ".join(changed) or PUBLISHED


DEFAULT = Calibration()


def parse_calibration(text: str) -> Calibration:
    """Reads what :meth:`Calibration.as_text` writes; raises UserError."""
    if text == PUBLISHED:
        return DEFAULT
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, number = part.partition("=")
        try:
            values[name.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise UserError(f'{part.strip()!r} is no calibration: write "{PUBLISHED}", or the name of a .toml file')
    return _check(values, "")


def read_calibration(path: Path) -> Calibration:
    """Reads the table ``[calibration]`` of a TOML file; what it doesn't say is as published.

    Raises UserError, in one line, if the file can't be read or a figure makes no sense.
    """
    _, tree = read_toml(path)
    table = tree.get("calibration")
    if not isinstance(table, dict) or not table:
        raise UserError(
            f"{path}: no table [calibration] with figures: `coldfleet calibrate published --out` writes one"
        )
    return _check(table, f"{path}: ")


def format_calibration(calibration: Calibration, comments: list[str]) -> str:
    """The text of a file that :func:`read_calibration` reads, with comments at its head."""
    lines = [*(f"# {comment}" for comment in comments), "", "[calibration]"]
    for each in fields(calibration):
        value = getattr(calibration, each.name)
        lines.append(f"{each.name} = {value!r}  # {each.metadata['unit']}: {each.metadata['meaning']}")
    return "\n".join(lines) + "\n"


def _check(values: dict[str, Any], where: str) -> Calibration:
    names = [each.name for each in fields(Calibration)]
    for name, value in values.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f'did you mean "{near[0]}"?' if near else "it knows " + ", ".join(names)
            raise UserError(f'{where}unknown figure "{name}": {hint}')
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise UserError(f"{where}{name} = {value!r} is not a number from 0 on")
    calibration = Calibration(**{name: float(value) for name, value in values.items()})
    for name in ("fault_ns", "read_hold_ns", "aging_page_ns"):
        if not getattr(calibration, name):
            raise UserError(f"{where}{name} = 0: it must be above 0")
    if calibration.read_hold_ns >= calibration.fault_ns:
        raise UserError(f"{where}read_hold_ns is {calibration.read_hold_ns}: it must be less than fault_ns")
    if calibration.serial_share > 1:
        raise UserError(f"{where}serial_share is {calibration.serial_share}: it must be at most 1")
    return calibration
