"""The figures of the time model that belong to a machine, most from a fit, and the files that hold others.

There is one set of figures: studies charge the defaults, and `coldfleet validate` holds them against what was measured.
Those marked as fitted come from a fit of 2026-11-29 to the rows of v4_access_tracking.csv with 1, 16 and 64 vCPUs (v4
cover letter, 29 May 2024, Message-ID 20240529180510.2295118-1-jthoughton@google.com). hostsim.published.fit makes it,
and a test makes it again. hostsim.costs.constants has the constants that belong to no machine.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.toml import read_toml

PUBLISHED = "published"
"""As a name: the calibration that comes along."""
MAX_FIGURE = 1e12  # a thousand seconds: times stay within 64 bits of ns
MAX_RATE = 1e30  # takes no time


def _fitted(value: float, unit: str, meaning: str) -> Any:
    return field(default=value, metadata={"unit": unit, "meaning": meaning, "fitted": True})


def _given(value: float, unit: str, meaning: str) -> Any:
    return field(default=value, metadata={"unit": unit, "meaning": meaning, "fitted": False})


@dataclass(frozen=True)
class Calibration:
    """The figures of a machine; each field's metadata has its unit, its meaning, and whether a fit sets it.

    Raises UserError if a figure makes no sense.

    The fit takes zeroing and charging as given, since the rows don't tell them from the zone's lock. Both are assumed:
    for zeroing, a third of what 8 channels of DDR4-3200 have (each line is read before it is written); for charging, an
    atomic addition at each of three levels (slice, scope, root).

    Of what the benchmark doesn't have, studies charge only what has a source of its own. A nested fault takes 1.05
    times ``fault_ns``: a loop that touches fresh 4 KiB pages takes 2.05 times as long in a nested VM
    (github.com/coproduct-opensource/nucleus, pull request 2898), and what else the loop does makes that a lower bound.
    For TLBs, the middle of the 3 % to 22 % by which guests are faster if the hypervisor uses large pages (Bhargava et
    al., "Accelerating Two-Dimensional Page Walks for Virtualized Systems", ASPLOS 2008). What sockets cost each other
    has none: nothing says how large those of the benchmark's machine are, and its rows come out without. So it is 0.
    Studies don't charge ``pass_start_ns``: their user space asks in other ways, and more rarely.
    """

    fault_ns: float = _fitted(3393.0, "ns", "a TDP fault of a lone vCPU, with the host's fault that zeroes the page")
    zone_lock_ns: float = _fitted(256.2, "ns", "of a fault: its page's part of the time under the zone's lock")
    coherency_ns: float = _given(0.0, "ns", "each other fault costs so much more if it is in another socket")
    read_hold_ns: float = _fitted(455.9, "ns", "a TDP fault holds mmu_lock for read, alone")
    lock_transfer_ns: float = _fitted(397.2, "ns", "so much longer for each other holder: cache lines travel")
    aging_page_ns: float = _fitted(170.1, "ns", "walking to one page and asking KVM about it, without mmu_lock")
    pass_start_ns: float = _fitted(78200.0, "ns", "of an aging pass: asking for it by lru_gen's debugfs file")
    zero_bytes_per_s: float = _given(60e9, "bytes/s", "a socket zeroes pages, all of its CPUs together")
    charge_ns: float = _given(150.0, "ns", "charging a batch of pages to a memcg and all above it")
    tlb_saving: float = _given(0.11, "share", "of the time of an access, if a 2 MiB entry of a TLB has its page")
    nested_fault_ns: float = _given(
        3563.0, "ns", "more, if L2 faults: the exits L2, L0, L1, L0, L2, and L1's own fault"
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            most = MAX_RATE if each.metadata["unit"] == "bytes/s" else MAX_FIGURE
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise UserError(f"{each.name} = {value!r} is not a number from 0 to {most:g}")
            object.__setattr__(self, each.name, float(value))
        for name in ("fault_ns", "read_hold_ns", "aging_page_ns", "pass_start_ns", "zero_bytes_per_s"):
            if not getattr(self, name):
                raise UserError(f"{name} = 0: it must be above 0")
        if self.tlb_saving >= 1:
            raise UserError(f"tlb_saving is {self.tlb_saving}, a share: it must be less than 1")
        if self.read_hold_ns >= self.fault_ns:
            raise UserError(f"read_hold_ns is {self.read_hold_ns}: it must be less than fault_ns")

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
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f'did you mean "{near[0]}"?' if near else "it knows " + ", ".join(names)
            raise UserError(f'{where}unknown figure "{name}": {hint}')
    try:
        return Calibration(**values)
    except UserError as error:
        raise UserError(f"{where}{error}") from None
