"""Numbers out of lines of text, by compiled loops: fields between delimiters, and the lines of valgrind's lackey."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.trace.table import KERNEL_START, MOST_PAGE, PAGE_SHIFT, USER_END

SKIP, TIME, PAGE, ADDRESS, OBJECT, WRITE, PROCESS = range(7)
"""What a field is."""

KINDS = 7
_NUMBER, _NEGATIVE, _LARGE, _FEW, _MANY, _OPERATION, _LACKEY = range(1, 8)
_MESSAGES = {
    _NUMBER: "a field is not a number (whole; hexadecimal with 0x; a time may have a fraction)",
    _NEGATIVE: "a negative number: times, pages and addresses are counted from 0",
    _LARGE: "a number is too large: an address has at most 57 bits, a page 52, an id or a time in ns 63",
    _FEW: "too few fields",
    _MANY: "more than one field: a txt has one number a line, a csv has a header or --column",
    _OPERATION: "neither a read nor a write: R, W, read, write, load, store, get, set or a SCSI opcode",
    _LACKEY: "not a line of lackey's --trace-mem, such as ' L 1ffeffe7e8,8'",
}
_NEWLINE, _SPACE, _TAB, _RETURN, _QUOTE, _HASH, _MINUS, _PLUS, _POINT = 10, 32, 9, 13, 34, 35, 45, 43, 46
Text = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


@inlined
def _digit(byte: int) -> int:
    """The value of a hexadecimal digit, 99 for another byte."""
    if 48 <= byte <= 57:
        return byte - 48
    low = byte | 32
    return low - 87 if 97 <= low <= 102 else 99


@inlined
def _whole(text: Text, start: int, end: int, base: int) -> tuple[np.uint64, int]:
    """The number in text[start:end], and what is wrong with it (0: nothing)."""
    value = np.uint64(0)
    if start >= end:
        return value, _NUMBER
    most = np.uint64(0xFFFFFFFFFFFFFFFF) // np.uint64(base)
    for at in range(start, end):
        digit = _digit(text[at])
        if digit >= base:
            return value, _NUMBER
        if value > most:
            return value, _LARGE
        grown = value * np.uint64(base) + np.uint64(digit)
        if grown < value:
            return value, _LARGE
        value = grown
    return value, 0


@inlined
def _time(text: Text, start: int, end: int, unit_ns: int) -> tuple[int, int]:
    """A time with or without a fraction in ns, and what is wrong with it."""
    point = start
    while point < end and text[point] != _POINT:
        point += 1
    whole, wrong = _whole(text, start, point, 10)
    if wrong:
        return 0, wrong
    if whole > np.uint64(9_200_000_000_000_000_000 // unit_ns):
        return 0, _LARGE
    time: int = np.int64(whole) * unit_ns  # type: ignore[assignment]
    scale = unit_ns
    for at in range(point + 1, end):
        digit = _digit(text[at])
        if digit > 9:
            return 0, _NUMBER
        scale //= 10  # what is less than a ns is cut off
        time += digit * scale
    return time, 0


@inlined
def _operation(text: Text, start: int, end: int) -> int:
    """1 for a write, 0 for a read, -1 for neither."""
    if end - start == 2 and _digit(text[start]) < 16 and _digit(text[start + 1]) < 16 and text[start] < 97:
        low = _digit(text[start + 1])  # SCSI's READ(6..16) are 08, 28, 88 and a8, its WRITEs 0a, 2a, 8a and aa
        return 1 if low == 10 else 0 if low == 8 else -1
    first = text[start] | 32
    if first == 97 and end - start == 2:  # a8, aa
        return 1 if text[start + 1] | 32 == 97 else 0 if text[start + 1] == 56 else -1
    if first == 114 or first == 108 or first == 103 or first == 105:  # read, load, get, instruction
        return 0
    if first == 119 or first == 115 or first == 112 or first == 117 or first == 109:  # write, set, put, update, modify
        return 1
    return -1


@compiled
def _fields(
    text: Text, delimiter: int, kinds: Numbers, unit_ns: int, out: npt.NDArray[np.int64], state: Numbers
) -> None:
    """Fills out[kind, row] for each line; ``state``: rows, what is wrong (0: nothing), where its line begins."""
    row, at, size, columns = 0, 0, len(text), len(kinds)
    while at < size:
        line = at
        while at < size and (text[at] == _SPACE or text[at] == _TAB or text[at] == _RETURN):
            at += 1
        if at < size and (text[at] == _NEWLINE or text[at] == _HASH):
            while at < size and text[at] != _NEWLINE:
                at += 1
            at += 1
            continue
        if at >= size:
            break
        column, ended, wrong = 0, False, 0
        while not ended:
            start = at
            while at < size and text[at] != _NEWLINE and text[at] != delimiter:
                at += 1
            ended = at >= size or text[at] == _NEWLINE
            end = at
            at += 1
            kind = kinds[column] if column < columns else SKIP
            if columns == 1 and column:
                wrong = _MANY
            column += 1
            if kind == SKIP or wrong:
                continue
            while start < end and (text[start] == _SPACE or text[start] == _TAB or text[start] == _QUOTE):
                start += 1
            while end > start and (text[end - 1] <= _SPACE or text[end - 1] == _QUOTE):
                end -= 1
            if start == end:
                wrong = _NUMBER
            elif text[start] == _MINUS:
                wrong = _NEGATIVE
            elif kind == WRITE:
                found = _operation(text, start, end)
                wrong = _OPERATION if found < 0 else 0
                out[WRITE, row] = found
            elif kind == TIME:
                out[TIME, row], wrong = _time(text, start, end, unit_ns)
            else:
                base = 10
                if end - start > 2 and text[start] == 48 and text[start + 1] | 32 == 120:
                    start, base = start + 2, 16
                value, wrong = _whole(text, start, end, base)
                if kind == ADDRESS:
                    if not wrong and np.uint64(USER_END) <= value and value < np.uint64(KERNEL_START):
                        wrong = _LARGE
                    value >>= np.uint64(PAGE_SHIFT)
                elif not wrong and value >= np.uint64(MOST_PAGE if kind == PAGE else 1 << 63):
                    wrong = _LARGE
                out[PAGE if kind != PROCESS else PROCESS, row] = np.int64(value)
        if column < columns and not wrong:
            wrong = _FEW
        if wrong:
            state[0], state[1], state[2] = row, wrong, line
            return
        row += 1
    state[0], state[1] = row, 0


@compiled
def _lackey(text: Text, out: npt.NDArray[np.int64], state: Numbers) -> None:
    """As _fields for lines of lackey; an access that goes over the end of a page is one of the next page too."""
    row, at, size = 0, 0, len(text)
    while at < size:
        line, wrong = at, 0
        while at < size and text[at] != _NEWLINE:
            at += 1
        end = at
        at += 1
        if end > line and text[end - 1] == _RETURN:
            end -= 1
        if end - line < 2 or (text[line] == 61 and text[line + 1] == 61):  # empty, or ==pid== of valgrind
            continue
        what = text[line] if text[line] != _SPACE else text[line + 1]
        start = line + 1
        while start < end and (text[start] == _SPACE or text[start] == what):
            start += 1
        comma = start
        while comma < end and text[comma] != 44:
            comma += 1
        address, bad_address = _whole(text, start, comma, 16)
        length, bad_length = _whole(text, comma + 1, end, 10)
        known = what == 73 or what == 76 or what == 83 or what == 77  # I, L, S, M
        if not known or bad_length == _NUMBER or bad_address == _NUMBER:
            wrong = (
                _NEGATIVE
                if comma < end and (text[start] == _MINUS or (comma + 1 < end and text[comma + 1] == _MINUS))
                else _LACKEY
            )
        elif (
            bad_address
            or bad_length
            or length > np.uint64(1 << PAGE_SHIFT)
            or (np.uint64(USER_END) <= address and address < np.uint64(KERNEL_START))
        ):
            wrong = _LARGE
        if wrong:
            state[0], state[1], state[2] = row, wrong, line
            return
        last = address + (length if length > np.uint64(0) else np.uint64(1)) - np.uint64(1)
        for page in range(address >> np.uint64(PAGE_SHIFT), (last >> np.uint64(PAGE_SHIFT)) + np.uint64(1)):
            out[PAGE, row] = page
            out[WRITE, row] = 1 if what == 83 or what == 77 else 0
            row += 1
    state[0], state[1] = row, 0


class LineScanner:
    """Reads blocks of lines, and says in which line a mistake is."""

    def __init__(self, path: object, lines_before: int = 0) -> None:
        self._path, self._lines = path, lines_before

    def fields(self, block: bytes, delimiter: bytes, kinds: list[int], unit_ns: int) -> npt.NDArray[np.int64]:
        """The numbers of some lines, as an array [kind, row]; raises :class:`UserError`."""
        text = np.frombuffer(block, np.uint8)
        count = int(np.count_nonzero(text == _NEWLINE))
        out, state = np.empty((KINDS, count + 1), np.int64), np.zeros(3, np.int64)
        _fields(text, delimiter[0], np.array(kinds, np.int64), unit_ns, out, state)
        return self._checked(block, count, out, state)

    def lackey(self, block: bytes) -> npt.NDArray[np.int64]:
        """The same of lackey's lines; none has more than two accesses."""
        text = np.frombuffer(block, np.uint8)
        count = int(np.count_nonzero(text == _NEWLINE))
        out, state = np.empty((KINDS, 2 * (count + 1)), np.int64), np.zeros(3, np.int64)
        _lackey(text, out, state)
        return self._checked(block, count, out, state)

    def _checked(self, block: bytes, count: int, out: Any, state: Numbers) -> npt.NDArray[np.int64]:
        rows, wrong, where = state.tolist()
        if wrong:
            number = self._lines + block.count(b"\n", 0, where) + 1
            line = block[where : where + 200].split(b"\n")[0].decode(errors="replace").strip()
            raise UserError(f"{self._path}, line {number}: {_MESSAGES[wrong]}: {line!r:.80}")
        self._lines += count
        return out[:, :rows]
