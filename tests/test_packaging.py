"""What an installation has, what an sdist holds, and what the papers of the project say about both."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.test_layout import ORDER, ROOMS

ROOT = Path(__file__).parents[1]
LINKS = {*ROOMS, "configs"}
PAPERS = ("ARCHITECTURE.md", "CONTRIBUTING.md")
HERE = pytest.mark.skipif(not (ROOT / "coldfleet").is_dir(), reason="tests an installed package, without its sources")


def ours(folder: Path) -> set[str]:
    """The files below a folder that belong to the project, by their path there."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {file.as_posix() for file in files if "__pycache__" not in file.parts}


@HERE
def test_the_one_import_name_links_to_the_four_folders() -> None:
    links = {path.name: path.readlink() for path in (ROOT / "coldfleet").iterdir() if path.is_symlink()}
    assert links == {name: Path("..") / name for name in LINKS}


@HERE
@pytest.mark.parametrize("name", ROOMS)
def test_a_second_name_of_a_package_is_an_error(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert f"ImportError: {name} is a part of coldfleet: import coldfleet.{name}" in done.stderr


@HERE
def test_ruff_sees_each_file_once() -> None:
    ruff = [sys.executable, "-m", "ruff", "check", "--show-files", "--no-cache", "."]
    said = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    seen = [Path(line).relative_to(ROOT) for line in said.splitlines()]
    assert not [path for path in seen if path.parts[:1] == ("coldfleet",) and path.parts[1] in LINKS]
    assert {path for path in seen if path.parts[0] == "hostsim"} >= {
        path.relative_to(ROOT) for path in (ROOT / "hostsim").rglob("*.py")
    }


def build(kind: str, source: Path, dist: Path) -> Path:
    """What a build of that kind makes, in an environment of its own."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--outdir", str(dist), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = dist.iterdir()
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An unpacked sdist, and the wheel that is built in it, beside the rest of an older build."""
    checkout, dist, wheels = (tmp_path_factory.mktemp(name) for name in ("checkout", "dist", "wheels"))
    unwanted = shutil.ignore_patterns(".*_cache", ".git", ".venv", ".hypothesis", "*.egg-info", "__pycache__", "build")
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=unwanted, dirs_exist_ok=True)
    archive = build("sdist", checkout, dist)
    subprocess.run(["tar", "-xzf", archive, "-C", dist], check=True)  # tarfile's filters begin with Python 3.11.4
    sdist = dist / archive.name.removesuffix(".tar.gz")
    old = sdist / "build" / "lib" / "cluster"
    old.mkdir(parents=True)
    (old / "renamed_since.py").touch()
    return sdist, build("wheel", sdist, wheels)


@pytest.mark.slow
@HERE
def test_a_wheel_has_one_top_level_package_with_all_its_files(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    names = set(zipfile.ZipFile(wheel).namelist())
    info = next(name for name in names if name.endswith("/top_level.txt")).split("/")[0]
    assert {name.split("/")[0] for name in names} == {"coldfleet", info}
    expected = {f"coldfleet/{name}/{file}" for name in LINKS for file in ours(sdist / name)}
    expected |= {f"coldfleet/{name}" for name in ("__init__.py", "__main__.py", "py.typed")}
    assert {name for name in names if name.startswith("coldfleet/")} >= expected
    assert not [name for name in names if "__pycache__" in name or "renamed_since" in name]


@pytest.mark.slow
@HERE
def test_an_sdist_is_laid_out_as_the_checkout(built: tuple[Path, Path]) -> None:
    sdist, _ = built
    for name in LINKS:
        assert (sdist / "coldfleet" / name).readlink() == Path("..") / name
        assert ours(sdist / name) == ours(ROOT / name)
    for name in ("tests", "docs", ".ci"):
        assert ours(sdist / name) == ours(ROOT / name)
    for name in ("README.md", "LICENSE", "pyproject.toml", "setup.py", "MANIFEST.in", "CITATION.cff", *PAPERS):
        assert (sdist / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.parametrize("name", PAPERS)
def test_every_path_that_a_paper_names_is_there(name: str) -> None:
    text = (ROOT / name).read_text()
    named = set(re.findall(r"`([\w.-]+(?:/[\w.-]*)+|[\w-]+\.(?:md|py|toml|cff))`", text))
    named |= {path for path in re.findall(r"\]\(([^)]+)\)", text) if "://" not in path}
    named -= {"policies/catalogue/my_policy.py"}  # the reader's
    assert len(named) > 10
    assert not [path for path in sorted(named) if path != "coldfleet/" and not (ROOT / path).exists()]


def test_the_picture_of_the_packages_has_all_of_them_in_order() -> None:
    picture = (ROOT / "ARCHITECTURE.md").read_text().split("```")[1]
    for room, order in ORDER.items():
        part = picture.split(f"\n {room}/")[1]
        found = [word for word in re.findall(r"^ {8}(\w+)(?:\.py)? ", part, re.M) if word in order.split()]
        assert found[: len(order.split())] == order.split()


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
