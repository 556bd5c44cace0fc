"""The table ``[sample]`` of a study file: which keys are sampled, from where to where, how, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Protocol

from coldfleet.cluster.study.design import METHODS, Bundle, Choice, Range, next_power_of_two, sample
from coldfleet.cluster.study.model import find_key, quantity_at, quantity_of, scalar_type
from coldfleet.cluster.study.values import Scalar

MAX_POINTS = 1_000_000
_RANGE = {"from", "to", "scale"}
_EXAMPLE = 'write { from = ..., to = ... }, with scale = "log" if you like, or { of = [...] }'


class FileReader(Protocol):
    """What reads the study file, and can say where in it something is wrong."""

    def enter(self, section: str, path: str, tree: Mapping[str, Any]) -> None: ...

    def refuse(self, path: tuple[str, ...], message: str) -> NoReturn: ...

    def note(self, path: tuple[str, ...], message: str) -> None: ...


class Sampling:
    """``[sample]``, read. ``ends``: for each key the values that have to be good: its bounds, or all of its choices.

    ``points``: how many are drawn; 0: there is no such table.
    """

    def __init__(self, reader: FileReader, table: dict[str, Any], tree: Mapping[str, Any]) -> None:
        self._reader = reader
        self._method = table.pop("method", "sobol") if table else ""
        self.points = table.pop("points", None) if table else 0
        self._tables = dict(self._read(table, tree))
        self.ends: dict[str, list[Scalar]] = {
            path: each["of"] if "of" in each else [each["from"], each["to"]] for path, each in self._tables.items()
        }
        if self._method:
            self._check()

    def bundles(self, written: Mapping[str, tuple[Scalar, ...]], seed: int) -> Iterator[Bundle]:
        """The points; ``written`` has the ends as a study file writes them."""
        if not self._tables:
            return
        keys = {path: self._key(path, written[path]) for path in self._tables}
        yield sample(keys, self._method, self.points, seed)

    def _read(
        self, table: Mapping[str, Any], tree: Mapping[str, Any], prefix: str = ""
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, value in table.items():
            path = prefix + key
            at = ("sample", *path.split("."))
            if not isinstance(value, dict):
                self._reader.refuse(at, f"sample.{path} = {value!r} is not a range: {_EXAMPLE}")
            if not value.keys() & (_RANGE | {"of"}):
                yield from self._read(value, tree, path + ".")
                continue
            self._reader.enter("sample", path, tree)
            good = value.keys() == {"of"} if "of" in value else {"from", "to"} <= value.keys() <= _RANGE
            if not good or value.get("of") == [] or not isinstance(value.get("of", []), list):
                self._reader.refuse(at, f"sample.{path} is not a range: {_EXAMPLE}")
            if value.get("scale", "log") not in ("log", "linear"):
                self._reader.refuse(at, f'sample.{path}: scale = {value["scale"]!r}: it should be "linear" or "log"')
            if "of" not in value and _kind(path) == "str":
                self._reader.refuse(at, f"sample.{path} has names, not numbers: write {{ of = [...] }}")
            yield path, value

    def _check(self) -> None:
        points = self.points
        if self._method not in METHODS:
            known = ", ".join(f'"{name}"' for name in METHODS)
            self._reader.refuse(("sample", "method"), f"sample.method = {self._method!r}: it should be one of {known}")
        if isinstance(points, bool) or not isinstance(points, int) or not 1 <= points <= MAX_POINTS:
            self._reader.refuse(("sample", "points"), f"sample.points has to be a number from 1 to {MAX_POINTS:,}")
        if self._method == "sobol" and next_power_of_two(points) != points:
            low = 1 << points.bit_length() - 1
            self._reader.note(
                ("sample", "points"),
                f"sample.points = {points}: Sobol points are balanced in powers of two only, "
                f"such as {low} or {2 * low}",
            )
        if not self._tables:
            self._reader.refuse(("sample",), f"[sample] has no key to sample: {_EXAMPLE}")

    def _key(self, path: str, ends: tuple[Scalar, ...]) -> Range | Choice:
        table = self._tables[path]
        if "of" in table:
            return Choice(ends)
        quantity = quantity_at(path)
        low, high = (float(quantity.parse(end) if quantity else end) for end in ends)  # type: ignore[arg-type]
        at = ("sample", *path.split("."))
        if low >= high:
            self._reader.refuse(
                at, f"sample.{path}: from {ends[0]} to {ends[1]} is not a range: the first must be smaller"
            )
        log = table.get("scale") == "log"
        if log and low <= 0:
            self._reader.refuse(at, f"sample.{path}: a logarithmic scale can't begin at {ends[0]}")
        return Range(low, high, _kind(path), log)


def _kind(path: str) -> str:
    """What kind of values a key has: "pages", "ns", "int", "float" or "str"."""
    key = find_key(path)
    if key is None:
        return ""
    quantity = quantity_of(key)
    return quantity.unit if quantity else scalar_type(key).__name__
