"""The documentation builds as a site, without a warning, and every link, anchor and picture in it is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import coldfleet

ROOT = Path(__file__).parents[1]
MISSING = [name for name in ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter") if find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}: pip install '.[docs]'"),
    pytest.mark.xdist_group("docs site"),
]


class Page(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.append(value)
            elif value and name in ("id", "name"):
                self.anchors.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as CI builds it; a warning is an error (strict in mkdocs.yml)."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def broken(site: Path) -> Iterator[str]:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            folder = site if parts.path.startswith("/") else path.parent
            target = (folder / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            lost = parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors
            if lost or not target.exists():
                yield f"{path.relative_to(site)}: {link}"


def test_every_link_anchor_and_picture_is_there(site: Path) -> None:
    assert list(broken(site)) == []


def test_a_broken_link_would_be_found(site: Path) -> None:
    page = site / "wrong.html"
    page.write_text('<a href="nowhere/">a</a><a href="keys/#none">b</a><a href="keys/">c</a><img src="no.svg">')
    try:
        assert [each.split()[1] for each in broken(site)] == ["nowhere/", "keys/#none", "no.svg"]
    finally:
        page.unlink()


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    anchors = Page(site / "reference" / "index.html").anchors
    names = {anchor.rpartition(".")[2] for anchor in anchors}
    assert set(coldfleet.__all__) - {"__version__"} <= names


def test_the_search_finds_every_text(site: Path) -> None:
    found = {
        entry["location"].partition("#")[0]
        for entry in json.loads((site / "search/search_index.json").read_text())["docs"]
    }
    assert 'data-md-component="search"' in (site / "index.html").read_text()
    pages = {f"{path.stem}/" for path in (ROOT / "docs").glob("*.md")}
    assert pages | {"", "ARCHITECTURE/", "CONTRIBUTING/", "CHANGELOG/", "reference/", "notebook/"} <= found


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert 'src="http' not in path.read_text()
