"""What commands print on stdout."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from coldfleet.cluster.study.terminal import visible, visible_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def print_json(data: Any) -> None:
    """Plain data, for scripts."""
    print(visible_json(json.dumps(data, indent=2, ensure_ascii=False)))


def print_text(text: str) -> None:
    """A line, or some; what a terminal would obey is shown instead."""
    print(visible(text))


def print_rich(what: RenderableType, width: int) -> None:
    """A table of rich, at most so wide; in a pipe without colours. Its texts are shown as they are, without markup."""
    from rich.console import Console
    from rich.segment import Segment, Segments

    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:  # rich would end the program if the pipe is closed
        shown = (Segment(visible(each.text), each.style, each.control) for each in console.render(what))
        console.print(Segments(shown), end="", crop=False)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_paragraph(text: str, width: int) -> None:
    """A text in lines at most so wide."""
    from rich.text import Text

    print_rich(Text(text), width)


def make_table(*titles: str, numbers: Collection[str] = ()) -> Table:
    """A plain table with these columns; those of ``numbers`` are aligned to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, justify="right" if title in numbers else "left", overflow="fold")
    return table
