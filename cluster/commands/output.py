"""What commands print on stdout."""

from __future__ import annotations

import json
import math
import shutil
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
    """A table of rich; in a pipe without colours. Its texts are shown as they are, without markup.

    Lines break between words, never inside one: a table whose words need more columns than there are is wider.
    """
    from rich.console import Console
    from rich.segment import Segment, Segments

    columns = max(width(), keep_words(what))
    console = Console(width=columns, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:  # rich would end the program if the pipe is closed
        shown = (Segment(visible(each.text), each.style, each.control) for each in console.render(what))
        console.print(Segments(shown), end="", crop=False)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def keep_words(what: RenderableType) -> int:
    """Makes every column of a table as wide as its longest word; returns how wide the table then is at least."""
    from rich.console import Group
    from rich.table import Table

    if isinstance(what, Group):
        return max(map(keep_words, what.renderables), default=0)
    if not isinstance(what, Table):
        return 0
    for column in what.columns:
        texts = [str(text).split() for text in (column.header, *column.cells)]
        column.min_width = max([column.min_width or 0, *(len(word) for words in texts for word in words)])
        column.no_wrap = all(len(words) < 2 for words in texts)  # rich makes the others narrower first
    return sum((column.min_width or 0) + what.padding[1] for column in what.columns)


def print_paragraph(text: str) -> None:
    """A text in lines that break between words."""
    from rich.text import Text

    print_rich(Text(text))


def make_table(*titles: str, numbers: Collection[str] = ()) -> Table:
    """A plain table with these columns; those of ``numbers`` are aligned to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, justify="right" if title in numbers else "left")
    return table
