"""Runs a notebook without Jupyter, cell after cell in one namespace, and collects what it prints and shows.

``python -m tests.notebook docs/notebook.ipynb`` writes that into the file: do it when an output changes.
"""

from __future__ import annotations

import ast
import io
import json
import sys
from base64 import b64encode
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any


def run(path: Path) -> dict[str, Any]:
    """The notebook with new outputs, in nbformat 4. Its cells run in its folder; an error in one is raised."""
    notebook: dict[str, Any] = json.loads(path.read_text())
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    with chdir(path.parent):
        for number, cell in enumerate(cells, 1):
            source = "".join(cell["source"])
            tree = ast.parse(source)
            last = None
            if isinstance(tree.body[-1], ast.Expr) and not source.endswith(";"):
                last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
            with redirect_stdout(io.StringIO()) as printed:
                exec(compile(tree, f"cell {number}", "exec"), namespace)
                value = None if last is None else eval(compile(last, f"cell {number}", "eval"), namespace)
            cell["execution_count"], cell["outputs"] = number, []
            if text := printed.getvalue():
                cell["outputs"].append({"output_type": "stream", "name": "stdout", "text": text.splitlines(True)})
            if value is not None:
                shown = {"output_type": "execute_result", "execution_count": number, "metadata": {}}
                cell["outputs"].append({**shown, "data": _data(value)})
    return notebook


def _data(value: Any) -> dict[str, Any]:
    """A value as Jupyter shows it, by MIME type."""
    if hasattr(value, "_repr_mimebundle_"):
        bundle = value._repr_mimebundle_()
        data: dict[str, Any] = bundle[0] if isinstance(bundle, tuple) else bundle
        return {kind: b64encode(part).decode() if isinstance(part, bytes) else part for kind, part in data.items()}
    html = {"text/html": value._repr_html_().splitlines(True)} if hasattr(value, "_repr_html_") else {}
    return {**html, "text/plain": repr(value).splitlines(True)}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        executed = run(Path(name))
        Path(name).write_text(json.dumps(executed, indent=1, ensure_ascii=False) + "\n")
