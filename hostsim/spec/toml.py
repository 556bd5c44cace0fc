"""Reads a TOML file that a user wrote: what is wrong with it is one line, and every key has a line number.

tomllib reads values, but forgets lines.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.input_file import read_input

MAX_DEPTH = 32  # of tables and arrays within each other; studies have five
_KEY = r"(?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')"
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=(.*)", re.DOTALL)
_LONG_CHAIN = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_KEY}\s*\.\s*){{{MAX_DEPTH}}}")  # tomllib takes their length squared
_LONG_NUMBER = re.compile(r"[0-9_]{4300}")
_STRING = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'')


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of a file and what it says; raises :class:`UserError` if it can't be read, or isn't TOML in UTF-8.

    Texts larger or deeper than anyone writes are refused, and whole numbers beyond the 64 bits that TOML promises.
    """
    try:
        text = read_input(path).decode("utf-8-sig")  # with or without a byte order mark
        if chain := _LONG_CHAIN.search(text):
            line = text.count("\n", 0, chain.start()) + 1
            raise UserError(f"{path}:{line}: a key of more than {MAX_DEPTH} names")
        tree = tomllib.loads(text)
    except UserError:
        raise
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    except RecursionError:
        raise UserError(f"{path}: tables or arrays more than {MAX_DEPTH} deep within each other") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    except ValueError:  # tomllib passes on what Python says of integers of thousands of digits
        digits = _LONG_NUMBER.search(text)
        line = text.count("\n", 0, digits.start()) + 1 if digits else 1
        raise UserError(f"{path}:{line}: a whole number of thousands of digits; TOML has 64 bits") from None
    check_values(tree, str(path), text)
    return text, tree


def check_values(value: Any, where: str, text: str = "", path: tuple[str, ...] = (), depth: int = 0) -> None:
    """Raises :class:`UserError` for values that TOML hasn't: too deep, or beyond 64 bits.

    ``where``: the name of the file or mapping; ``text``: what the file says; ``path``: the keys that lead to the value.
    """
    if depth > MAX_DEPTH:
        raise UserError(f"{_place(where, text, path)}: tables or arrays more than {MAX_DEPTH} deep within each other")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        said = f"is a whole number of {value.bit_length()} bits; TOML has 64, one for the sign: write a smaller one"
        raise UserError(f"{_place(where, text, path)}: {'.'.join(path)} {said}")
    if isinstance(value, dict):
        for key, inner in value.items():
            check_values(inner, where, text, (*path, *key.split(".")), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            check_values(inner, where, text, path, depth + 1)


def _place(where: str, text: str, path: tuple[str, ...]) -> str:
    line = find_line(key_lines(text), path)
    return f"{where}:{line}" if line else where


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line, from 1, of every table header and key of a valid TOML text.

    A dot in a quoted key counts as one between keys: in ``[grid]``, "guest.memory" and guest.memory are the same.
    Keys of inline tables are not told apart: :func:`find_line` falls back to the key that holds the table.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    quotes = ""  # the delimiter of the multi-line string that we are in
    depth = 0  # open brackets of the array that we are in
    for number, line in enumerate(text.splitlines(), 1):
        if quotes:
            _, closed, rest = line.partition(quotes)
            if not closed:
                continue
            quotes, line = "", rest
        elif depth == 0:
            if header := _HEADER.match(line):
                table = _split(header[1])
                lines.setdefault(table, number)
                continue
            if not (assignment := _ASSIGNMENT.match(line)):
                continue
            keys = table + _split(assignment[1])
            for end in range(len(table) + 1, len(keys) + 1):
                lines.setdefault(keys[:end], number)
            line = assignment[2]
        for mark in ('"""', "'''"):
            if line.count(mark) % 2:
                quotes, line = mark, line.partition(mark)[0]
        bare = _STRING.sub("", line).partition("#")[0]
        depth += sum(map(bare.count, "[{")) - sum(map(bare.count, "]}"))
    return lines


def find_line(lines: dict[tuple[str, ...], int], path: tuple[str, ...]) -> int:
    """The line of a key, or of the nearest table around it; 0 if there is none."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 0


def _split(dotted: str) -> tuple[str, ...]:
    keys = [key.strip("\"'") for key in re.findall(_KEY, dotted)]
    return tuple(".".join(keys).split("."))
