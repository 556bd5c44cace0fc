"""The tables of docs/answer.md, made by the queries above them from the cells beside it.

``python -m tests.answer_page`` writes them anew.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "answer.md"
CELLS = PAGE.with_suffix(".parquet")
_BLOCK = re.compile(r"^```sql\n(?P<sql>.*?)^```\n\n(?P<table>TABLE\n|(?:^\|[^\n]*\n)+)", re.M | re.S)


def tables(text: str) -> list[tuple[str, str]]:
    """Each query of the page and the table beneath it."""
    return [(found["sql"], found["table"]) for found in _BLOCK.finditer(text)]


def table_of(sql: str) -> str:
    """What a query finds, as the page writes it."""
    import duckdb

    found = duckdb.sql(sql.replace("'answer.parquet'", f"'{CELLS}'"))
    assert found is not None
    rows = [found.columns, ["---"] * len(found.columns), *found.fetchall()]
    return "".join(f"| {' | '.join(map(_shown, row))} |\n" for row in rows)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    PAGE.write_text(
        _BLOCK.sub(lambda found: f"```sql\n{found['sql']}```\n\n{table_of(found['sql'])}", PAGE.read_text())
    )
