"""MkDocs' hook: the texts beside docs/, the API reference and the files that pages link to become pages of the site.

Texts link as they lie in the repository, so that they can be read there. Here those links are turned to the site's
pages.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import coldfleet

ROOT = Path(__file__).parents[1]
TEXTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)")
ROLE = re.compile(r":(?:class|data|func|meth):(?=<code>)")


def place(origin: str) -> str:
    """The page of a file of the repository, as MkDocs names its source."""
    if origin == "README.md":
        return "index.md"
    if origin.startswith("docs/"):
        return origin.removeprefix("docs/")
    if origin in TEXTS:
        return origin
    return f"files/{origin}" if origin.endswith(".md") else f"files/{origin}.md"


def targets(origin: str) -> list[str]:
    """The files outside of docs/ that a text of the repository links to."""
    found = (
        posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        for _, target in LINK.findall((ROOT / origin).read_text())
    )
    return [path for path in found if not path.startswith("docs/") and path not in TEXTS]


def as_page(origin: str) -> str:
    """A file as Markdown: a text as it is, anything else as code."""
    text = (ROOT / origin).read_text()
    if origin.endswith(".md"):
        return text
    return f"---\nsearch:\n  exclude: true\n---\n# {origin}\n\n~~~~{Path(origin).suffix[1:]}\n{text}~~~~\n"


def reference() -> str:
    """The page of the public names, each under the module that defines it."""
    homes = {name: home for home, names in coldfleet._HOMES.items() for name in names.split()}
    functions = sorted(homes, key=lambda name: (name[0].isupper(), name))
    return "# Reference\n\n" + "".join(f"::: {homes[name]}.{name}\n\n" for name in functions)


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the pages."""
    texts = [f"docs/{file.src_uri}" for file in files.documentation_pages() if file.src_uri.endswith(".md")]
    wanted = [*TEXTS]
    for origin in [*TEXTS, *texts]:
        wanted += targets(origin)
    for origin in dict.fromkeys(wanted):
        files.append(File.generated(config, place(origin), content=as_page(origin)))
    files.append(File.generated(config, "reference.md", content=reference()))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Turns the links of a text to pages of the site."""
    here = page.file.src_uri
    origins = {place(origin): origin for origin in (*TEXTS, "tests/recordings/README.md")}
    origin = origins.get(here, f"docs/{here}")

    def turned(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), match[2]))
        return match[1] + posixpath.relpath(place(target), posixpath.dirname(here) or ".")

    return LINK.sub(turned, markdown) if not here.endswith(".ipynb") and here != "reference.md" else markdown


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Takes the roles of docstrings away, which Markdown doesn't know, and turns the links of a notebook."""
    if page.file.src_uri.endswith(".ipynb"):
        return re.sub(r'href="(\w+)\.md', r'href="../\1/', html)
    return ROLE.sub("", html)
