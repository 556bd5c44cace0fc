"""Compiled code that is sent to another machine is used there, unless it is for another one, or isn't what was sent."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from coldfleet.hostsim.engine import shipping
from coldfleet.hostsim.engine.code_cache import PART
from coldfleet.hostsim.engine.shipping import CompiledCode, made_for, pack, unpack
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.spec.host_spec import GuestSpec, HostSpec
from coldfleet.policies import get_policy

Place = Callable[[str], Path]
SMALL = HostSpec("6.12", (GuestSpec("g", 1024, 512, 512),), ticks=2)
TAKE = """
import pickle, sys
from pathlib import Path
from coldfleet.hostsim.engine.code_cache import OWN_CACHE
from coldfleet.hostsim.engine.shipping import CompiledCode, unpack
from coldfleet.hostsim.host import simulate_host
from coldfleet.policies import get_policy
code, spec = pickle.loads(Path(sys.argv[1]).read_bytes())
assert not any(OWN_CACHE.iterdir())
assert unpack(code)
before = set(OWN_CACHE.rglob("*"))
simulate_host(spec, get_policy("evict-only"), seed=0, replicate=0, host=0)
print(*(set(OWN_CACHE.rglob("*")) - before))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Makes a machine of that name, whose cache this is then."""

    def make(name: str) -> Path:
        folder = tmp_path / name / "0123456789abcdef"
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(shipping, "OWN_CACHE", folder)
        return folder

    return make


@pytest.fixture
def code(place: Place) -> CompiledCode:
    """Of a machine with two files."""
    folder = place("first") / "mm"
    folder.mkdir()
    for name in ("aging.age-7.py311.1.nbc", "aging.age-7.py311.nbi"):
        (folder / name).write_text(name)
    (folder / "aging.age-7.py311.nbi.tmp.0123").write_text("half of it")
    (folder / f"aging.age-7.py311{PART}.nbi").write_text("only who compiles needs it")
    made = pack()
    assert made is not None
    return made


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_all_that_is_whole_is_there_afterwards_and_nothing_is_overwritten(code: CompiledCode, place: Place) -> None:
    second = place("second")
    assert unpack(code)
    found = files_of(second)
    assert found == {name: name for name in ("aging.age-7.py311.1.nbc", "aging.age-7.py311.nbi")}
    (second / "mm" / "aging.age-7.py311.nbi").write_text("mine")
    assert unpack(code)
    assert files_of(second) == found | {"aging.age-7.py311.nbi": "mine"}


def outside() -> bytes:
    """A packed file that would lie outside of the cache."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../aging.nbi", b"x")
    return packed.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda code: code._replace(packed=code.packed[:-1]),
        lambda code: code._replace(packed=code.packed + b"\0"),
        lambda code: code._replace(sha256="0" * 64),
        lambda code: code._replace(packed=outside(), sha256=sha256(outside()).hexdigest()),
        *(
            lambda code, number=number: code._replace(
                made_for=(*code.made_for[:number], "another", *code.made_for[number + 1 :])
            )
            for number in range(len(made_for()))
        ),
    ],
)
def test_what_is_changed_or_made_for_another_machine_is_refused(
    change: Callable[[CompiledCode], CompiledCode], code: CompiledCode, place: Place
) -> None:
    second = place("second")
    assert not unpack(change(code))
    assert files_of(second.parent) == {}


def test_code_that_cannot_be_written_is_refused(code: CompiledCode, place: Place) -> None:
    (place("second") / "mm").touch()
    assert not unpack(code)


def test_where_nothing_is_kept_nothing_is_sent_or_taken(code: CompiledCode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "OWN_CACHE", None)
    assert pack() is None
    assert not unpack(code)


def test_a_machine_that_is_sent_code_compiles_nothing(tmp_path: Path) -> None:
    simulate_host(SMALL, get_policy("evict-only"), seed=0, replicate=0, host=0)
    if (code := pack()) is None:
        pytest.skip("nothing can be kept")
    (tmp_path / "code").write_bytes(pickle.dumps((code, SMALL)))
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "empty")}
    command = [sys.executable, "-c", TAKE, str(tmp_path / "code")]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "\n"
