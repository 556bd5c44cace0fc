"""A column of the results: what the tables, their schemas and the column reference are made from."""

from __future__ import annotations

from typing import NamedTuple


class Counter(NamedTuple):
    """One column; a counter is an int64 that is summed over guests and hosts."""

    name: str
    unit: str
    description: str
