"""What a study is made of: the tables and keys of a study file, each with its unit, bounds and meaning.

The models are checked once, at the door (:mod:`cluster.study_file`); behind it everything is known to be good.
The key reference in docs/ and the parameter columns of the results are generated from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic.fields import FieldInfo

from hostsim.errors import UserError
from hostsim.units import parse_pages
from policies import get_policy

KERNELS_OWN = "kernel"
"""As a policy: the one that the cell's kernel has itself."""

Scalar = str | int | float
"""A value of one key. Grids are made of these."""


def _known_policy(name: str, info: ValidationInfo) -> str:
    return name if name == KERNELS_OWN else get_policy(name, info.context).name


def _known_kernel(name: str) -> str:
    from hostsim.hybrid import get_kernel

    return get_kernel(name).name


def _known_scene(text: str) -> str:
    if not text:
        return text
    from hostsim.scene import parse_scene  # imports the compiler

    return ", ".join(map(str, parse_scene(text)))


def _pages_with_unit(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        raise UserError(f'{value} has no unit: write "{value} MiB" or "{value} pages"')
    return parse_pages(value)  # type: ignore[arg-type]  # says itself what is wrong with other types


class InPages:
    """Marks a key whose value is an amount of memory: a text with a unit outside, pages inside."""


PolicyName = Annotated[str, AfterValidator(_known_policy)]
KernelName = Annotated[str, AfterValidator(_known_kernel)]
SceneText = Annotated[str, AfterValidator(_known_scene)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Tick = Annotated[int, Field(ge=0, lt=2**31)]
Memory = Annotated[int, BeforeValidator(_pages_with_unit), Field(ge=512, lt=2**31), InPages()]


def table_key(description: str, unit: str = "", default: Any = ..., **bounds: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"unit": unit}, **bounds)


class Table(BaseModel):
    """A table of a study file: unknown keys and values of the wrong type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Fleet(Table):
    """The hosts, all alike."""

    hosts: Count = table_key("hypervisor hosts in the fleet", "hosts")
    guests_per_host: Count = table_key("guests on each host", "guests")


class Workload(Table):
    """Which pages a guest touches."""

    kind: Literal["uniform", "zipf", "hotcold", "scan", "phases", "hotscan"] = table_key(
        "uniform: all pages alike; zipf: some much more than others; hotcold: a hot set and the rest; scan: round and "
        "round; phases: a hot window that moves on; hotscan: a hot set while the rest is scanned",
        default="zipf",
    )
    skew: float = table_key("zipf: the page of rank k has weight k^-skew", "", 0.9, ge=0, le=10, allow_inf_nan=False)
    hot_share: Share = table_key("hotcold, phases, hotscan: share of the memory that is hot", "share", 0.2)
    hot_access_share: Share = table_key("hotcold, phases, hotscan: share of the accesses that go there", "share", 0.8)
    phase_ticks: Count = table_key("phases: how long the hot window stays", "ticks", 6)
    write_share: Share = table_key("share of the accesses that write", "share", 0.0)
    layout: Literal["shuffled", "ordered"] = table_key(
        "where hot pages lie: scattered over the memory, or next to each other", default="shuffled"
    )


class Guest(Table):
    """A guest; all of a fleet's guests are alike, but touch their own pages at random."""

    memory: Memory = table_key('memory of a guest, such as "64 MiB"; at least 2 MiB', "pages")
    accesses_per_tick: Count = table_key("accesses that a guest makes in one tick", "accesses", 8192)
    workload: Workload = Workload()


class Nested(Table):
    """What the guests do that run a nested VM (L2); ``nested_ratio`` says how many do."""

    access_share: Share = table_key("share of such a guest's accesses that L2 makes", "share", 0.5)
    exposed_share: Share = table_key("share of such a guest's memory that L2 can touch", "share", 0.5)
    l2_only_share: Share = table_key("share of such a guest's memory that only L2 touches", "share", 0.25)
    start_tick: Tick = table_key("first tick in which L2 runs", "ticks", 0)
    stop_tick: Tick = table_key("first tick in which it no longer does; 0: it runs to the end", "ticks", 0)

    @model_validator(mode="after")
    def _check(self) -> Nested:
        if self.l2_only_share > self.exposed_share:
            raise UserError(f"l2_only_share {self.l2_only_share} is more than exposed_share {self.exposed_share}")
        if 0 < self.stop_tick <= self.start_tick:
            raise UserError(f"stop_tick {self.stop_tick} is not after start_tick {self.start_tick}")
        return self


class Reclaim(Table):
    """When hosts reclaim memory."""

    mode: Literal["limit", "proactive", "debugfs"] = table_key(
        "limit: directly, as a guest hits memory.max; proactive: memory.reclaim after every tick; "
        "debugfs: the commands + and - of lru_gen after every tick",
        default="limit",
    )
    aging_every_ticks: Tick = table_key("one more aging (+) this often; 0: never", "ticks", 0)


class CellSpec(Table):
    """One cell of a study: everything that decides what a fleet does, but the random numbers."""

    kernel: KernelName = table_key(
        'kernel whose MGLRU the hosts run, or a hybrid such as "6.12 with two_touch of 6.18"', default="6.12"
    )
    policy: PolicyName = table_key('aging policy; `coldfleet policies` lists them; "kernel": the kernel\'s own')
    scene: SceneText = table_key(
        'the guests of each host, taking turns under one parent memcg: "vm hotcold, process scan"; '
        "empty: all guests are as [guest] says",
        default="",
    )
    nested_ratio: Share = table_key("share of the fleet's guests that run a nested VM", "share", 0.0)
    overcommit: float = table_key(
        "memory of a guest over its limit: 1.5 means memory.max = memory / 1.5", "", ge=1, le=100, allow_inf_nan=False
    )
    ticks: Count = table_key("length of a run, after the tick in which guests touch all of their memory once", "ticks")
    fleet: Fleet
    guest: Guest
    nested: Nested = Nested()
    reclaim: Reclaim = Reclaim()

    @model_validator(mode="after")
    def _check_scene(self) -> CellSpec:
        guests = len(self.scene.split(","))
        if not self.scene:
            return self
        if self.fleet.guests_per_host != guests:
            raise UserError(f"fleet.guests_per_host is {self.fleet.guests_per_host}, but the scene has {guests}")
        if self.nested_ratio or self.nested != Nested():
            raise UserError("scene says which guests are nested: leave nested_ratio and [nested] out")
        if self.guest.workload != Workload():
            raise UserError("scene says what its guests do: leave [guest.workload] out")
        if self.reclaim.mode == "debugfs" and guests > 1:
            raise UserError('reclaim.mode: "debugfs" acts on one guest, but the scene has a parent memcg of several')
        return self

    def parameters(self) -> dict[str, Scalar]:
        """Every key by its dotted name, in the order of the file."""
        return {path: _get(self, path) for path, _ in walk_keys()}


class Study(CellSpec):
    """A study file without its ``[grid]``: the head, and the cell that the grid starts from."""

    title: str = table_key("one line, shown in summaries", default="")
    description: str = table_key("what the study is for", default="")
    seed: int = table_key("every random number depends on it and nothing else", "", 1, ge=0, lt=2**63)
    replicates: int = table_key("independent repetitions of every cell", "", 3, ge=1, le=100_000)


def walk_keys(model: type[Table] = CellSpec, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The dotted name and definition of every scalar key, depth first in the order of definition."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Table):
            yield from walk_keys(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def unit_of(field: FieldInfo) -> str:
    """The unit of a key, "" for a plain number or a name."""
    extra = field.json_schema_extra
    return str(extra["unit"]) if isinstance(extra, dict) else ""


def scalar_type(field: FieldInfo) -> type[Scalar]:
    """The Python type of a key's values."""
    if get_args(field.annotation):  # a Literal of names
        return str
    kinds: dict[object, type[Scalar]] = {str: str, int: int, float: float}
    return kinds[field.annotation]


def in_pages(field: FieldInfo) -> bool:
    """Whether a key is an amount of memory."""
    return any(isinstance(mark, InPages) for mark in field.metadata)


def _get(table: Table, path: str) -> Scalar:
    value: Any = table
    for name in path.split("."):
        value = getattr(value, name)
    return value  # type: ignore[no-any-return]
