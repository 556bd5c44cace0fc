"""What pyproject.toml can't say: an sdist keeps the links in coldfleet/, and no build packs an older one's files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build import build
from setuptools.command.sdist import sdist

_SCRATCH = tempfile.TemporaryDirectory(prefix="coldfleet-build-")


class FreshBuild(build):
    """Builds outside the checkout: what lies in ./build from before would be packed too, whatever it was called."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.build_base = _SCRATCH.name


class LinkedSdist(sdist):
    """An archive laid out as the checkout is: the four folders at the top, and links to them in coldfleet/."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        links = [path for path in Path("coldfleet").iterdir() if path.is_symlink()]
        super().make_release_tree(base_dir, [name for name in files if not set(links) & set(Path(name).parents)])
        for link in links:
            (base_dir / link).symlink_to(link.readlink())


setup(cmdclass={"build": FreshBuild, "sdist": LinkedSdist})
