"""What a recording has to be like, beyond what the simulator compares: its lines, their order, its counters.

A recording that contradicts itself is refused. Fields that the simulator neither needs nor compares (docs/truth.md
lists them) are carried along; of them only the type is checked, and that counters don't go back.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from coldfleet.hostsim.engine.state import PTRS_PER_PTE
from coldfleet.hostsim.spec.errors import cited

Line = dict[str, Any]

_BLOCKS = ".HPs"  # nothing, a huge page, part of one, small pages
_OF_HUGE_PAGES = ("ahp", "hp", "hpn", "kvm")
_OF_STEP = ("c", "h", "of")  # a step of a duo: which guest, in whose half round, after which step of both
_OF_FILE = ("fres", "fresh", "fsh", "fmap")
_STEP = (
    "ev",
    "r",
    "x",
    "res",
    "min",
    "max",
    "lg",
    "cur",
    "st",
    "vm",
    "mev",
    "pgh",
    "resh",
    "pg",
    "lgf",
    "c",
    "h",
    "mi",
    *_OF_FILE,
    *("dk", "ior", "iow", "nd", "nwb", "pgd"),  # of a file
    *_OF_HUGE_PAGES,
)
_SCHEDULE = (
    "kind",
    "kinds",
    "wl",
    "wls",
    "seed",
    "seeds",
    "mode",
    "n",
    "acc",
    "rounds",
    "layout",
    "target",
    "op",
    "mix",
    *("file", "na", "nf", "fsync", "prot", "protval"),
)
_MACHINE = (
    *(
        "rel",
        "ver",
        "tdp_mmu",
        "npt",
        "lru_gen_enabled",
        "swappiness",
        "evict_swappiness",
        "guest_paging",
        "min_ttl_ms",
    ),
    *("disk", "read_ahead_kb", "fault_around", "dirty", "thp", "thp_enabled", "thp_defrag", "khp_defrag"),
)
_RECORDER = ("id", "label", "drain", "nage", "flagbits", "legend", "simulator")
KEYS: dict[str, tuple[str, ...]] = {
    "hdr": ("ev", *_SCHEDULE, *_MACHINE, *_RECORDER),
    "list": ("ev", "c", "r", "cnt", "lh"),
    "parent": ("ev", "of", "r", "h", "x", "cur", "st", "vm", "mev"),
    "zone": ("ev", "zi"),
    "died": ("ev", "sig", "st", "mev"),
    "end": ("ev", "kvm", "died", "timeout"),
    **dict.fromkeys(("start", "populate", "touch", "age", "evict", "reclaim"), _STEP),
}
"""The fields of each kind of line."""

GAUGES = (
    *("anon", "kernel", "kernel_stack", "pagetables", "sec_pagetables", "inactive_anon", "active_anon", "swapcached"),
    *("file", "file_mapped", "file_dirty", "file_writeback", "anon_thp", "inactive_file", "active_file", "unevictable"),
    *("slab", "slab_reclaimable", "slab_unreclaimable"),
)
"""What memory.stat has beside counters that only grow."""

_FLAG_BITS = ([27, 25, 2, 8, 2, 9], [27, 25, 2, 5, 1, 6])  # where struct page has generation, refs, flags: by kernel
_ROUND = {
    "debugfs": ("touch", "age", "evict"),
    "ageonly": ("touch", "age"),
    "reclaim": ("touch", "reclaim"),
    "limit": ("touch",),
    "kswapd": ("touch",),
}
_COUNT = re.compile(r"[0-9]{1,18}[a-zA-Z]")
MAX_COUNT = 2**63  # the kernel's counters are longs


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; raises ValueError where a key is there twice."""
    line = dict(pairs)
    if len(line) < len(pairs):
        raise ValueError("an object has a key twice")
    return line


def wrong_lines(lines: Sequence[Line]) -> Iterator[str]:
    """Lines out of place, or with fields that are unknown, missing or of the wrong type.

    Each as text with the line's number, without the file's name. The first line is ev=hdr, the last ev=end.
    """
    for number, line in enumerate(lines, 1):
        for complaint in (*_wrong_fields(line), *_wrong_place(number, lines)):
            yield f"line {number}: {complaint}"


def contradictions(lines: Sequence[Line]) -> Iterator[str]:
    """Where a recording contradicts its header or itself. Each line is good by itself."""
    header, steps = lines[0], [line for line in lines if "r" in line and line["ev"] != "list"]
    yield from _wrong_recorder(header)
    for step in steps:
        if header.get("file", "none") == "none" and (extra := [name for name in _OF_FILE if name in step]):
            yield f"{where(step)}: field {extra[0]!r} is of a file, but header field 'file' names none"
        yield from _wrong_blocks(header, step)
        if "pg" in step and len(step["pg"]) != header["n"]:
            yield f"{where(step)}: dump of {len(step['pg'])} pages where the header says {header['n']}"
    yield from _wrong_order(header, steps, cut="died" in lines[-1] or "timeout" in lines[-1])
    yield from _wrong_lists(header, [line for line in lines if line["ev"] == "list"])
    yield from _shrinking(steps)
    if header["mode"] != "limit":
        yield from _limit_events(steps, header.get("prot", "none") != "none")


def _wrong_blocks(header: Line, step: Line) -> Iterator[str]:
    """Figures of huge pages where there are none, or that are missing or don't fit together where there are."""
    if not header.get("thp"):
        if extra := [name for name in _OF_HUGE_PAGES if name in step]:
            yield f"{where(step)}: field {extra[0]!r} is of huge pages, but header field 'thp' is not 1"
        return
    if missing := [name for name in ("ahp", "hp") if name not in step]:
        yield f"{where(step)}: field {missing[0]!r} is missing"
        return
    blocks, due = step["hp"], -(-header["n"] // PTRS_PER_PTE)
    if len(blocks) != due:
        yield f"{where(step)}: field 'hp' is of {len(blocks)} blocks of 2 MiB where the header says {due}"
    counts = [blocks.count(letter) for letter in _BLOCKS]
    if step.get("hpn", counts) != counts:
        yield f"{where(step)}: field 'hpn' is {step['hpn']}, but 'hp' has {counts}"


def where(line: Line) -> str:
    """A line's name for people."""
    place = f"ev={line['ev']}"
    return f"{place} of round {_shown(line['r'])}" if "r" in line else place


def _shown(value: Any) -> str:
    """A number as it is, anything else by its beginning."""
    return str(value) if _is_count(value) else cited(value)


def _wrong_place(number: int, lines: Sequence[Line]) -> Iterator[str]:
    """Lines that are there once, and only in one place: ev=hdr, ev=zone, ev=died, ev=end."""
    event = lines[number - 1]["ev"]
    if event == "hdr" and number > 1:
        yield "a second ev=hdr: a recording has one, its first line"
    elif event == "end" and number < len(lines):
        yield f"ev=end, but {len(lines) - number} more follow: it is the last line"
    elif event == "died" and number != len(lines) - 1:
        yield "ev=died: it is the last line but one, before ev=end"
    elif event == "zone" and number != 2:
        yield "ev=zone: it is the second line, after ev=hdr"
    elif event == "zone" and lines[0].get("mode") != "kswapd":
        yield f"ev=zone, but header field 'mode' is {cited(lines[0].get('mode'))}: it is of mode 'kswapd'"


def _wrong_fields(line: Line) -> Iterator[str]:
    known = KEYS.get(line["ev"])
    if known is None:
        yield f"unknown ev={cited(line['ev'])}"
        return
    for key in line:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            yield f"{where(line)}: unknown field {cited(key)}" + (f": did you mean {near[0]!r}?" if near else "")
    for key in _REQUIRED.get(line["ev"], _REQUIRED_OF_STEPS):
        if key not in line:
            yield f"{where(line)}: field {key!r} is missing"
    for key, value in line.items():
        what, good = _SHAPES.get(key, ("", _anything))
        if not good(value):
            yield f"{where(line)}: field {key!r} is {cited(value)}, not {what}"


def _wrong_recorder(header: Line) -> Iterator[str]:
    """Recorders that did something else than the simulator does."""
    if header.get("drain", 1) != 1 or header.get("nage", 1) != 1:
        yield "header field 'drain' or 'nage' is not 1: batches are drained and one aging is made before each step"
    if header.get("flagbits", _FLAG_BITS[0]) not in _FLAG_BITS:
        yield f"header field 'flagbits' is {cited(header['flagbits'])}; known are {_FLAG_BITS[0]} and {_FLAG_BITS[1]}"
    for name in ("tdp_mmu", "npt"):
        if header.get(name, "Y") not in ("Y", "N"):
            yield f"header field {name!r} is {cited(header[name])}; it is 'Y' or 'N'"


def _wrong_order(header: Line, steps: Sequence[Line], cut: bool) -> Iterator[str]:
    """Steps that don't follow each other as the schedule says; a run that was ``cut`` may end anywhere."""
    expected = list(_expected(header))
    for number, (step, due) in enumerate(zip(steps, expected, strict=False)):
        found = (step["ev"], step.get("r"), step.get("c"), step.get("h"), step.get("of"))
        if found != due:
            differ = [(name, is_, be) for name, is_, be in zip(_OF_STEP, found[2:], due[2:], strict=True) if is_ != be]
            has = "".join(f" with {name!r} {cited(is_)}" if is_ else f" without {name!r}" for name, is_, _ in differ)
            needs = "".join(f" with {name!r} {be!r}" if be else f" without {name!r}" for name, _, be in differ)
            yield (
                f"step {number} is {where(step)}{has}, where ev={due[0]} of round {due[1]}{needs} is due: "
                "a line was changed"
            )
            return
    starts = sum(due[0] == "start" for due in expected)
    if len(steps) < starts:
        yield f"cut: it has {len(steps)} of the {starts} steps ev=start; get a whole copy"
    if len(steps) > len(expected) or (len(steps) < len(expected) and not cut):
        yield f"cut: it has {len(steps)} steps where its header asks for {len(expected)}; get a whole copy"


def _expected(header: Line) -> Iterator[tuple[str, int, str | None, str | None, str | None]]:
    events, rounds = _ROUND.get(header["mode"], ()), header["rounds"]
    children = "ab"[: len(header["kinds"])] if "kinds" in header else ""
    if not children:
        yield from ((event, 0, None, None, None) for event in ("start", "populate"))
        yield from ((event, number, None, None, None) for number in range(1, rounds + 1) for event in events)
        return
    yield from (("start", 0, child, "a", None) for child in children)
    yield ("parent", 0, None, "a", "start")
    for number in range(rounds + 1):
        for half in children:
            first = "touch" if number else "populate"
            if header["mode"] == "reclaim":
                yield (first, number, half, half, None)
                first = "reclaim"
            yield from ((first, number, child, half, None) for child in children)
            yield ("parent", number, None, half, first)


def _wrong_lists(header: Line, lists: Sequence[Line]) -> Iterator[str]:
    """Lists that aren't of the length that the header says, or not one for each round after the other."""
    rounds: dict[str | None, int] = {}
    for line in lists:
        guest = line.get("c")
        due_round = rounds.get(guest, -1 if guest else 0) + 1
        if line.get("r") != due_round:
            yield f"{where(line)} stands where ev=list of round {due_round} is due: a line was changed"
            return
        rounds[guest] = due_round
        due = header.get("n") if line.get("r") == 0 else header.get("acc")
        if line.get("cnt") != due:
            yield f"{where(line)}: field 'cnt' is {line.get('cnt')!r}, not {due}"


def _shrinking(steps: Sequence[Line]) -> Iterator[str]:
    """Counters that are less than at the step before."""
    last: dict[tuple[str, Any, str], int] = {}
    for step in steps:
        for field, owner in (("st", step.get("c", step["ev"] == "parent")), ("vm", None)):
            for name, value in step.get(field, {}).items():
                if name in GAUGES:
                    continue
                if value < last.get((field, owner, name), 0):
                    yield f"{where(step)}: counter {name:.60} of {field!r} went back to {value}"
                last[field, owner, name] = value


def _limit_events(steps: Sequence[Line], protected: bool) -> Iterator[str]:
    """Counts of a limit that was hit, where there is no limit; of memory.low, where there is no protection."""
    for step in steps:
        for name, value in step.get("mev", {}).items():
            if value and not (protected and name == "low"):
                yield f"{where(step)}: counter {name:.60} of 'mev' is {value}, though there is no limit"


def _anything(value: Any) -> bool:
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT


def _is_count_or_unset(value: Any) -> bool:
    return value == -1 or _is_count(value)


def _is_four_counts(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_count, value))


def _is_blocks(value: Any) -> bool:
    return isinstance(value, str) and set(value) <= set(_BLOCKS)


def _is_counters(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


def _is_generations(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == 3 and all(map(_is_count, row)) for row in value
    )


def _is_tiers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(rows, dict) and all(_is_entries(entries) for entries in rows.values()) for rows in value.values()
    )


def _is_entries(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) and _COUNT.fullmatch(entry) for entry in value)


def _is_full(value: Any) -> bool:
    """lru_gen_full; "" or {} if it wasn't read."""
    if not value:
        return True
    return (
        isinstance(value, dict)
        and set(value) <= {"tiers", "ftiers", "mm"}
        and value.keys() & {"tiers", "ftiers"} != set()
        and all(_is_tiers(value.get(name, {})) for name in ("tiers", "ftiers"))
    )


def _is_legend(value: Any) -> bool:
    if not isinstance(value, dict) or len(set(map(str, value.values()))) < len(value):
        return False
    return all(len(key) == 1 and _is_count(state) and state < 256 for key, state in value.items())


_SHAPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("r", "x", "res", "min", "max", "cur", "cnt", "sig", "died", "timeout"), ("a number", _is_count)),
    **dict.fromkeys(
        ("ahp", "protval", "na", "nf", "fres", "fsh", "fmap", "ior", "iow", "nd", "nwb"), ("a number", _is_count)
    ),
    **dict.fromkeys(("read_ahead_kb", "fault_around"), ("a number, -1 or more", _is_count_or_unset)),
    **dict.fromkeys(("dk", "dirty", "hpn"), ("four numbers", _is_four_counts)),
    **dict.fromkeys(("disk", "thp_enabled", "thp_defrag", "khp_defrag", "pgd"), ("a text", _is_text)),
    **dict.fromkeys(("st", "vm", "mev", "kvm"), ("counters", _is_counters)),
    **dict.fromkeys(("pg", "pgh", "resh", "fresh", "lh", "ver", "id", "label", "simulator"), ("a text", _is_text)),
    **dict.fromkeys(("drain", "nage", "guest_paging"), ("a number", _is_count)),
    **dict.fromkeys(("c", "h"), ("'a' or 'b'", lambda value: value in ("a", "b"))),
    "hp": ("H, P, s or . for each 2 MiB", _is_blocks),
    "lg": ("a list of generations", _is_generations),
    "lgf": ("tier counters", _is_full),
    "legend": ("a state byte for every letter", _is_legend),
    **dict.fromkeys(("mix", "fsync", "thp"), ("0 or 1", lambda value: value in (0, 1))),
    "op": ("0 or 2", lambda value: value in (0, 2)),
}
"""What the value of a field has to be, whatever line it is in."""

_REQUIRED_OF_STEPS = ("r", "x", "res", "min", "max", "lg", "st")
_REQUIRED: dict[str, tuple[str, ...]] = {
    "hdr": ("legend",),
    "list": ("r", "cnt", "lh"),
    "parent": ("r", "x", "st"),
    **dict.fromkeys(("zone", "died", "end"), ()),
}
