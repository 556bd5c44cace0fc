"""What commands print on stdout."""

from __future__ import annotations

import json
import math
import shutil
import textwrap
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from coldfleet.cluster.study.terminal import visible, visible_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


WIDTH = 100
"""Columns that nothing printed is wider than, if its words allow it."""


def print_json(data: Any) -> None:
    """Plain data, for scripts. JSON has no numbers that aren't finite: they are texts, as PostgreSQL writes them."""
    print(visible_json(json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False)))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return "NaN" if math.isnan(data) else "Infinity" if data > 0 else "-Infinity"
    return data


def print_text(text: str) -> None:
    """A line, or some; what a terminal would obey is shown instead."""
    print(visible(text))


def width() -> int:
    """Columns to print in: those of the terminal, at most :data:`WIDTH`, which a pipe has."""
    return min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH)


def print_rich(what: RenderableType) -> None:
    """A table of rich, or some, with texts; in a pipe without colours. Texts are shown as they are, without markup.

    Lines break between words, never inside one: a table whose words need more columns than there are goes downwards.
    """
    from rich.console import Console, Group
    from rich.segment import Segment, Segments
    from rich.table import Table

    if isinstance(what, Group):
        for part in what.renderables:
            print_rich(part)
        return
    if isinstance(what, Table) and not _fit(what):
        _print_downwards(what)
        return
    console = Console(width=width(), highlight=False, markup=False, emoji=False)
    with console.capture() as captured:  # rich would end the program if the pipe is closed
        shown = (Segment(visible(each.text), each.style, each.control) for each in console.render(what))
        console.print(Segments(shown), end="", crop=False)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _fit(table: Table) -> bool:
    """Gives every column at least the width of its longest word; False: there are too few columns for that.

    What is left goes to the columns with the least to wrap first. rich by itself breaks words, or lines too late.
    """
    texts = [[str(text) for text in (column.header, *column.cells)] for column in table.columns]
    glued = [[text.replace(" ±", "_±") for text in some] for some in texts]  # a figure and its interval are one word
    least = [max(len(word) for text in some for word in (text.split() or [""])) for some in glued]
    most = [max(map(len, some)) for some in texts]
    left = width() - sum(least) - table.padding[1] * (len(least) - 1)
    if left < 0:
        return False
    wants = sorted(range(len(least)), key=lambda place: most[place] - least[place])
    for number, place in enumerate(wants):
        more = min(most[place] - least[place], left // (len(wants) - number))
        left -= more
        table.columns[place].width, table.columns[place].no_wrap = least[place] + more, False
    return True


def _print_downwards(table: Table) -> None:
    """A line for each value, as psql's expanded display has them.

    In a table with sections an empty first column stands for the same as above.
    """
    titles = [str(column.header) for column in table.columns]
    longest = max(map(len, titles))
    sections, above = any(row.end_section for row in table.rows), ""
    for number, (first, *others) in enumerate(zip(*(column.cells for column in table.columns), strict=True), 1):
        above = str(first) or (above if sections else "")
        lines = [f"row {number}"]
        for title, value in zip(titles, [above, *map(str, others)], strict=True):
            lines.append(_wrapped(f"  {title:<{longest}}  {value}".rstrip(), " " * (longest + 4)))
        print_text("\n".join(lines))


def print_paragraph(text: str) -> None:
    """A text in lines that break between words; those of an item of a list are indented further than the item."""
    lines = []
    for line in text.split("\n"):
        start = " " * (len(line) - len(line.lstrip(" ")))
        lines.append(_wrapped(line, f"{start}  " if start else ""))
    print_text("\n".join(lines))


def _wrapped(line: str, indent: str = "") -> str:
    """A line in as many as it needs; words stay whole, and so do the spaces of a line that fits."""
    if len(line) <= width():
        return line
    return textwrap.fill(line, width(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def make_table(*titles: str, numbers: Collection[str] = ()) -> Table:
    """A plain table with these columns; those of ``numbers`` are aligned to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, justify="right" if title in numbers else "left")
    return table
