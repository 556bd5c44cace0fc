"""coldfleet new: a study to begin with, for a question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new(
    question: Annotated[str | None, typer.Argument(help="What it is to answer; --list names them.")] = None,
    file: Annotated[
        Path | None, typer.Argument(help="The study to write.  [default: QUESTION.toml]", metavar="[FILE.toml]")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the questions and write nothing.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of studies, for editors.")] = False,
) -> int:
    """Write a study for a question: complete, commented, and done in a minute.

    Change in it what is different with you. Files that exist are left alone.

    For completion in an editor, write the schema to a file, and name it in a first line of the study:
    #:schema study.schema.json

    \b
    Examples:
      coldfleet new --list
      coldfleet new policies my.toml
      coldfleet new page-cache
      coldfleet new --schema > study.schema.json
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.study import questions

    if schema:
        from coldfleet.cluster.study.json_schema import study_schema

        output.print_json(study_schema())
    elif question is None or list_all:
        table = output.make_table("name", "question")
        table.show_header = False
        for name, asked in questions.questions().items():
            table.add_row(name, asked)
        output.print_rich(table)
    else:
        path = Path(f"{question}.toml") if file is None else file
        questions.write_study(question, path)
        output.print_text(f"{path} is written. Look at it, then: coldfleet sweep {questions.quoted(path)}")
    return 0
