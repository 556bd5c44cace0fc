"""Traces of programs that come along, by name; record.sh has made them, and docs/traces.md says what they do."""

from __future__ import annotations

from pathlib import Path

from coldfleet.hostsim.spec.errors import UserError, nearest

PREFIX = "builtin:"
_FOLDER = Path(__file__).parent


def program_names() -> list[str]:
    """The programs that there are traces of."""
    return sorted(file.stem for file in _FOLDER.glob("*.parquet"))


def find_program(name: str) -> Path | None:
    """The file of "builtin:NAME"; None: the name isn't of that form. Raises UserError if there is no such program."""
    if not name.startswith(PREFIX):
        return None
    program, names = name.removeprefix(PREFIX), program_names()
    if program not in names:
        raise UserError(f"{name!r:.80}: there is no such trace{nearest(program, names)}")
    return _FOLDER / f"{program}.parquet"
