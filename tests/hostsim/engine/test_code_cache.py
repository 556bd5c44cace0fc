"""What is compiled for whom, and what of it is found on the disk again."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import pytest
from numba.core.caching import NullCache

from coldfleet.hostsim.engine import code_cache
from coldfleet.hostsim.engine.jit import compiled, inlined
from coldfleet.hostsim.mm import lru
from coldfleet.hostsim.spec.errors import UserError

pytestmark = pytest.mark.xdist_group("code_cache")  # numba's index of a file loses what two processes write at a time


@inlined
def half(number: int) -> int:
    if number % 2:
        raise ValueError("an odd number")
    return number // 2


@compiled
def quarter(number: int) -> int:
    return half(half(number))


@compiled
def eighth(number: int) -> int:
    return half(quarter(number))


def signatures(function: Callable[..., Any]) -> int:
    """For how many types a function is compiled, as Python calls it."""
    dispatcher: Any = function
    return len(dispatcher.signatures)


def again(function: Callable[..., Any]) -> Any:
    """The function as another process has it, with nothing loaded yet."""
    dispatcher: Any = function
    return compiled(dispatcher.py_func)


def test_what_compiled_code_takes_in_is_compiled_for_python_once_python_calls_it() -> None:
    taken_in = compiled(lambda number: number + 1)

    @compiled
    def caller(number: int) -> int:
        return taken_in(number) + taken_in(number + 1)

    assert caller(3) == 9
    assert (signatures(caller), signatures(taken_in)) == (1, 0)
    assert taken_in(3) == 4
    assert signatures(taken_in) == 1
    assert caller(4) == 11


def test_an_error_in_what_was_taken_in_reaches_python() -> None:
    assert eighth(16) == 2
    for number in (17, 18, 20):
        with pytest.raises(ValueError, match="an odd number"):
            eighth(number)
    assert eighth(24) == 3


def test_machine_code_and_parts_are_found_on_the_disk() -> None:
    assert (quarter(8), eighth(16)) == (2, 2)
    loaded, part = again(quarter), again(quarter)

    @compiled
    def caller(number: int) -> int:
        return part(number) + 1

    assert (loaded(8), caller(8)) == (2, 3)
    assert [sum(each.stats.cache_hits.values()) for each in (loaded, part._part)] == [1, 1]
    with pytest.raises(ValueError, match="an odd number"):
        loaded(6)


def test_code_of_another_signature_is_not_taken() -> None:
    def plain(number: float) -> float:
        return number / 4

    function: Any = compiled(plain)
    assert (function(2), function(True), function(2.5)) == (0.5, 0.25, 0.625)
    place = Path(function._cache.cache_path)
    one, other, _ = sorted(place.glob(f"{function._cache._impl.filename_base}.*.nbc"))
    code = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(code)
    loaded = again(function)
    assert (loaded(2), loaded(True), loaded(2.5)) == (0.5, 0.25, 0.625)
    assert sum(loaded.stats.cache_hits.values()) == 1


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flipped, lambda _: b"", lambda content: content + b"x"])
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_what_is_not_whole_is_compiled_again(kind: str, damage: Callable[[bytes], bytes]) -> None:
    def plain(number: int) -> int:
        return number * 5

    function: Any = compiled(plain)
    assert function(2) == 10
    for file in Path(function._cache.cache_path).glob(f"{function._cache._impl.filename_base}.*{kind}"):
        file.write_bytes(damage(file.read_bytes()))
    for hits in (0, 1):
        loaded = again(function)
        assert loaded(3) == 15
        assert sum(loaded.stats.cache_hits.values()) == hits


def test_what_cannot_be_written_is_used_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(number: int) -> int:
        return number * 7

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(code_cache, "problems", [])
    function: Any = compiled(plain)
    monkeypatch.setattr(function._cache._cache_file, "save", full)
    monkeypatch.setattr(function._cache._cache_file, "load", lambda key: None)
    assert function(2) == 14
    assert code_cache.problems == [f"{code_cache.OWN_CACHE}: No space left on device"]


def test_where_nothing_can_be_kept_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_cache, "OWN_CACHE", None)
    function: Any = compiled(lambda number: number + 11)
    assert function(1) == 12
    assert isinstance(function._cache, NullCache)
    assert isinstance(function._part._cache, NullCache)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """numba's settings as they are when the simulator starts, for a user with an empty home."""
    names = ("DISABLE_JIT", *code_cache._SETTINGS)
    found = SimpleNamespace(CACHE_DIR="", **{name: getattr(numba.config, name, None) for name in names})
    monkeypatch.setattr(code_cache, "_config", found)
    monkeypatch.setattr(code_cache, "problems", [])
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return found


def chosen(config: SimpleNamespace, place: str = "") -> Path | None:
    """Where code is kept with that NUMBA_CACHE_DIR."""
    config.CACHE_DIR = place
    return code_cache._use_cache_of_this_source()


def test_code_is_kept_under_its_hash_wherever_that_is(
    config: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = chosen(config)
    named = chosen(config, str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    xdg = chosen(config)
    assert usual
    assert named
    assert xdg
    places = [tmp_path / ".cache/coldfleet", tmp_path / "named", tmp_path / "xdg/coldfleet"]
    assert [usual, named, xdg] == [place / usual.name for place in places]
    assert all(place.is_dir() for place in (usual, named, xdg))
    assert str(xdg) == config.CACHE_DIR


def test_code_that_is_compiled_otherwise_or_of_another_source_has_another_hash(
    config: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = chosen(config)
    others = []
    for name in code_cache._SETTINGS:
        config.__dict__[name] = 7
        others.append(chosen(config))
    (tmp_path / "hostsim").mkdir()
    for text in ("x = 1", "x = 2"):
        (tmp_path / "hostsim" / "x.py").write_text(text)
        monkeypatch.setattr(code_cache, "_ROOT", tmp_path)
        others.append(chosen(config))
    assert len({usual, *others}) == 1 + len(code_cache._SETTINGS) + 2


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere"])
def test_a_place_that_cannot_be_used_is_a_reason_and_no_error(
    config: SimpleNamespace, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").touch()
    assert chosen(config, str(tmp_path / place)) is None
    assert str(tmp_path / place) == config.CACHE_DIR
    (reason,) = code_cache.problems
    assert reason.startswith(str(tmp_path / place)[: len("/proc/nowhere")])


def test_a_user_without_a_home_has_no_cache_unless_it_is_named(
    config: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert chosen(config) is None
    assert code_cache.problems == ["Could not determine home directory."]
    assert chosen(config, str(tmp_path / "named"))


def test_without_a_compiler_there_is_no_simulator(config: SimpleNamespace) -> None:
    config.DISABLE_JIT = 1
    with pytest.raises(UserError, match="NUMBA_DISABLE_JIT is set"):
        chosen(config)


def test_code_of_another_hash_is_removed_a_month_after_its_last_use(config: SimpleNamespace, tmp_path: Path) -> None:
    place = tmp_path / ".cache/coldfleet"
    month = 31 * 86400
    for name, age in {"0123456789abcdef": month, "fedcba9876543210": 86400, "data": month, "x" * 16: month}.items():
        (place / name).mkdir(parents=True)
        (place / name / "file").touch()
        os.utime(place / name, (time.time() - age,) * 2)
    own = chosen(config)
    assert own
    assert {each.name for each in place.iterdir()} == {own.name, "fedcba9876543210", "data", "x" * 16}
    os.utime(own, (0, 0))
    chosen(config)
    assert own.stat().st_mtime > time.time() - 86400  # it was used


def test_code_is_kept_there_whatever_numba_reads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's start sets NUMBA_NUM_THREADS while another thread compiles: numba then forgets where its cache is."""
    if code_cache.OWN_CACHE is None:
        pytest.skip("nothing can be kept here")
    config: Any = numba.core.config
    where = config.CACHE_DIR
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    try:
        config.reload_config()
        locator = code_cache.Locator.from_function(test_code_is_kept_there_whatever_numba_reads_again, lru.__file__)
        assert locator is not None
        assert Path(locator.get_cache_path()) == code_cache.OWN_CACHE / "hostsim_mm"
    finally:
        config.CACHE_DIR = where
