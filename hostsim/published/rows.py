"""Published measurements of access_tracking_perf_test, as CSV: one row for each number of vCPUs and way of aging."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.input_file import read_input
from coldfleet.policies import Policy, get_policy

COLUMNS = ("vcpus", "policy", "vcpu_wall_s", "aging_pass_s")
POLICIES = {"no-aging": None, "locked": "locked-6.12", "lockless": "lockless-6.15"}
"""What the file calls a way of aging, and the policy that it is."""

MAX_VCPUS = 1024  # KVM_MAX_VCPUS of x86 by default
V4 = files("coldfleet.hostsim.published") / "v4_access_tracking.csv"
"""v4 cover letter, 29 May 2024, Message-ID 20240529180510.2295118-1-jthoughton@google.com."""


@dataclass(frozen=True)
class PublishedRow:
    """One row: seconds until all vCPUs have faulted their memory, and of a mean aging pass (None: nobody ages)."""

    vcpus: int
    policy_name: str
    vcpu_wall_s: float
    aging_pass_s: float | None

    @property
    def policy(self) -> Policy | None:
        """The policy, None for no aging."""
        return find_policy(self.policy_name)


def find_policy(name: str) -> Policy | None:
    """The policy of a name in :data:`POLICIES`, or of one of its policies; None for "no-aging". Raises UserError."""
    if name == "no-aging":
        return None
    if name not in POLICIES and name not in POLICIES.values():
        known = "no-aging, locked-6.12, lockless-6.15"
        raise UserError(f"no measurement or model of policy {name!r}: one of {known}")
    return get_policy(POLICIES.get(name) or name)


def read_rows(path: Path | None = None) -> list[PublishedRow]:
    """The rows of a CSV file, or of the one that comes along; raises UserError with file and line."""
    try:
        text = V4.read_text("utf-8") if path is None else read_input(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    reader = csv.DictReader(io.StringIO(text), restval="")
    rows = []
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"no column {missing[0]!r}: the columns are {','.join(COLUMNS)}")
        for row in reader:
            rows.append(_read_row(row))  # the rows so far are no use
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}:{max(reader.line_num, 1)}: {error}") from None
    if not rows:
        raise UserError(f"{path}: no rows")
    return rows


def _read_row(row: dict[str, str | None]) -> PublishedRow:
    name = row["policy"] or ""
    if name not in POLICIES:
        raise ValueError(f"policy {name!r} is none of {', '.join(POLICIES)}")
    vcpus = _number("vcpus", row["vcpus"])
    if vcpus != int(vcpus) or vcpus > MAX_VCPUS:
        raise ValueError(f"vcpus {row['vcpus']!r} is not a whole number up to {MAX_VCPUS}")
    pass_s = None if name == "no-aging" else _number("aging_pass_s", row["aging_pass_s"])
    return PublishedRow(int(vcpus), name, _number("vcpu_wall_s", row["vcpu_wall_s"]), pass_s)


def _number(column: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"{column} {text!r} is not a number above 0")
    return value
