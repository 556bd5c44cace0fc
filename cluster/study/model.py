"""What a study is made of: a cell, which is all the tables together, and the study around it; and how to find a key.

The models are checked once, when the file is read (:mod:`cluster.study.reader`), and not again. The key
reference in docs/ and the parameter columns of the results are generated from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, get_args, get_origin

from pydantic import TypeAdapter, model_validator
from pydantic.fields import FieldInfo

from coldfleet.cluster.study.fleet_tables import CLASSES, Fleet, HostClass
from coldfleet.cluster.study.tables import (
    Clock,
    Guest,
    Host,
    HugePages,
    Monitor,
    Nested,
    Output,
    Reclaim,
    Swap,
    Table,
    Vm,
    Workload,
    table_key,
)
from coldfleet.cluster.study.values import (
    CalibrationText,
    Count,
    KernelName,
    Limit,
    PolicyName,
    Scalar,
    ScenarioText,
    Share,
    Switch,
    overcommit_of,
)
from coldfleet.hostsim.spec.calibration import PUBLISHED
from coldfleet.hostsim.spec.checks import MAX_HOST_PAGES, MAX_SWAPPINESS
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import ORDERED_KINDS
from coldfleet.hostsim.spec.units import MEMORY, TIME, Quantity

INHERITED = {
    "host": {"kernel": "kernel", "memory": "host.memory", "cpus": "clock.pcpus"},
    "guest": {"nested_ratio": "nested_ratio"},
}
"""Keys of classes, and the study's key that each follows where it isn't set. Guests have [guest] and [nested], too."""


class CellSpec(Table):
    """One cell of a study: everything that decides what a fleet does, but the random numbers."""

    kernel: KernelName = table_key(
        'kernel whose MGLRU the hosts run, or a hybrid such as "6.12 with two_touch of 6.18"', default="6.12"
    )
    policy: PolicyName = table_key('aging policy; `coldfleet policies` lists them; "kernel": the kernel\'s own')
    scenario: ScenarioText = table_key(
        'the guests of each host, which run one after the other under one parent memcg: "vm hotcold, process scan"; '
        "empty: all guests are as [guest] says",
        default="",
    )
    nested_ratio: Share = table_key("share of the fleet's guests that run a nested VM", "share", 0.0)
    overcommit: float = table_key(
        "memory of a guest, its file included, over its limit: 1.5 means memory.max = memory / 1.5; or as limit says",
        "",
        follows="limit",
        ge=1,
        le=100,
        allow_inf_nan=False,
    )
    limit: Limit = table_key(
        'the same as a share of the memory, such as "70 %"; or as overcommit says', "share", follows="overcommit"
    )
    ticks: Count = table_key("length of a run, after the tick in which guests touch all of their memory once", "ticks")
    fleet: Fleet
    guest: Guest
    nested: Nested = Nested()
    vm: Vm = Vm()
    reclaim: Reclaim = Reclaim()
    huge_pages: HugePages = HugePages()
    swap: Swap = Swap()
    monitor: Monitor = Monitor()
    clock: Clock = Clock()
    host: Host = Host()
    output: Output = Output()
    calibration: CalibrationText = table_key(
        'figures of the time model: "published", or a file that `coldfleet calibrate published --out FILE.toml` wrote, '
        'from the folder of the study; results name what differs: "fault_ns=3500.0"',
        default=PUBLISHED,
    )
    truth: Switch = table_key(
        "on: writes down when every page was touched, for the columns that compare with it; costs time", default="off"
    )

    @model_validator(mode="before")
    @classmethod
    def _limit_or_overcommit(cls, data: Any) -> Any:
        """Either of the two decides the other."""
        if not isinstance(data, dict) or ("limit" in data) == ("overcommit" in data):
            return data
        given = "limit" if "limit" in data else "overcommit"
        try:
            value = checker_of(given).validate_python(data[given], strict=True)
        except ValueError:  # which is said when the key itself is checked
            return {"overcommit": 1.0, "limit": 1.0, **data}
        return {**data, **({"overcommit": overcommit_of(value)} if given == "limit" else {"limit": 1 / value})}

    @model_validator(mode="after")
    def _check_limit(self) -> CellSpec:
        if not math.isclose(self.overcommit * self.limit, 1):
            raise UserError(
                f"overcommit {self.overcommit:g} and limit {self.limit:.4g} say different things: give one of the two"
            )
        return self

    @model_validator(mode="after")
    def _check_memory(self) -> CellSpec:
        if self.reclaim.swappiness > MAX_SWAPPINESS:
            from coldfleet.hostsim.engine.hybrids import get_kernel

            kernels = [self.kernel, *(each.kernel for each in self.fleet.host.values())]
            if not all(get_kernel(name).swappiness_anon_only for name in kernels):
                raise UserError(f"reclaim.swappiness {self.reclaim.swappiness} is only known since 6.14: at most 200")
        return self

    @model_validator(mode="after")
    def _check_watermarks(self) -> CellSpec:
        hugetlb = self.host.hugetlb
        if hugetlb % 512:
            raise UserError(
                f"host.hugetlb {MEMORY.format(hugetlb)} is not in whole huge pages: give a multiple of 2 MiB"
            )
        sizes = {"host.memory": self.host.memory}
        if self.reclaim.mode == "host" and not self.host.memory:
            sizes = {
                f"fleet.host.{name}.memory" if name else "host.memory": each.memory
                for name, each in self.host_classes.items()
            }
        for key, pages in sizes.items():
            if hugetlb and hugetlb >= pages:
                raise UserError(
                    f"host.hugetlb {MEMORY.format(hugetlb)} is a part of a host's memory, and {key} is "
                    f"{MEMORY.format(pages)}: set {key} to more, or leave host.hugetlb out"
                )
            if not pages:
                continue
            from coldfleet.hostsim.memory.watermarks import kernel_watermarks

            kept = kernel_watermarks(pages, self.host.watermark_scale_factor).high
            if pages - hugetlb <= kept:
                beside = " beside host.hugetlb" if hugetlb else ""
                raise UserError(
                    f"{key} {MEMORY.format(pages - hugetlb)}{beside} is no more than the {MEMORY.format(kept)} that "
                    "the kernel keeps free (its high watermark): give a host more"
                )
        return self

    @model_validator(mode="after")
    def _check_min_ttl(self) -> CellSpec:
        if self.reclaim.min_ttl_ms and self.clock.mode != "timed":
            raise UserError('reclaim.min_ttl_ms is a time: set clock.mode = "timed"')
        return self

    @model_validator(mode="after")
    def _check_host_pages(self) -> CellSpec:
        """Pages of a host are numbered by 31 bits."""
        of_guest = self.guest.memory + self.guest.page_cache.memory
        pages: float = self.fleet.guests_per_host * of_guest
        if self.fleet.guest:
            pages = sum(each.count * (each.memory + each.page_cache.memory) for each in self.fleet.guest.values())
            if memories := [each.memory for each in self.host_classes.values() if each.memory]:
                pages = min(max(memories) * self.overcommit, pages)
        if pages / int(self.host.sample.rpartition("/")[2]) >= MAX_HOST_PAGES:
            raise UserError(
                f"the guests of a host have up to {int(pages):,} pages; at most {MAX_HOST_PAGES:,} are simulated: "
                'give it fewer or smaller guests, or sample them: host.sample = "1/64"'
            )
        return self

    @model_validator(mode="after")
    def _check_protection(self) -> CellSpec:
        """Protection holds against reclaim of the host or of the memcg above, and somebody has to do that."""
        together = self.reclaim.mode == "host" or bool(self.host.memory) or "," in self.scenario
        guests = {"guest": self.guest, **{f"fleet.guest.{name}": each for name, each in self.fleet.guest.items()}}
        for where, guest in guests.items():
            for key in ("memory_min", "memory_low"):
                if getattr(guest, key) and not together:
                    raise UserError(
                        f'{where}.{key} holds against reclaim of the host, and in reclaim.mode "{self.reclaim.mode}" '
                        'each guest is reclaimed for itself: set reclaim.mode = "host", or host.memory'
                    )
        return self

    @model_validator(mode="after")
    def _check_pressure(self) -> CellSpec:
        if self.reclaim.mode == "pressure" and self.clock.mode != "timed":
            raise UserError('reclaim.mode "pressure" needs time: set clock.mode = "timed"')
        if self.reclaim.mode in ("age", "pressure") and "," in self.scenario:
            raise UserError(
                f'reclaim.mode "{self.reclaim.mode}" acts on one guest: a scenario of several guests has a parent'
            )
        return self

    @model_validator(mode="after")
    def _check_sample(self) -> CellSpec:
        loads = [each.workload.kind for each in (self.guest, *self.fleet.guest.values())]
        if self.host.sample != "1" and (ordered := [kind for kind in loads if kind in ORDERED_KINDS]):
            raise UserError(f'host.sample "{self.host.sample}" knows no workload of kind "{ordered[0]}": leave it out')
        if self.host.sample != "1" and (self.scenario or self.monitor.kind != "none" or self.vm.device_share):
            raise UserError(
                f'host.sample "{self.host.sample}" knows no scenario, monitor or device_share: leave them out'
            )
        return self

    @model_validator(mode="after")
    def _check_huge_pages(self) -> CellSpec:
        """Where huge pages are not modelled."""
        classes = {f"fleet.guest.{name}": each for name, each in self.fleet.guest.items()}
        guests: dict[str, Guest] = {**classes} or {"guest": self.guest}
        where = next((name for name, guest in guests.items() if guest.huge_pages != "never"), "")
        plain = {"tdp", "shared_by", "split_share"}
        odd = self.vm.model_dump(exclude=plain) != Vm().model_dump(exclude=plain)
        shadowed = [self.nested, *(each.nested for each in self.fleet.guest.values())]
        for wrong, why in (
            (self.reclaim.lru != "mglru", 'reclaim.lru = "classic" has none'),
            (
                self.host.sample != "1",
                f"host.sample {self.host.sample}: reclaim takes 2 MiB at a time, and a sample can't",
            ),
            (self.monitor.kind != "none", f'monitor.kind = "{self.monitor.kind}" sees pages of 4 KiB only'),
            (
                odd or any(each.l1_paging == "shadow" for each in shadowed),
                "[vm] may only set tdp and split_share, [nested] no l1_paging",
            ),
            (self.truth == "on", "truth is of pages of 4 KiB"),
        ):
            if where and wrong:
                raise UserError(f"{where}.huge_pages are not modelled here: {why}; change it, or leave huge_pages out")
        return self

    @model_validator(mode="after")
    def _check_over_time(self) -> CellSpec:
        if self.clock.mode == "timed" and self.fleet.tick not in (0, self.clock.tick):
            raise UserError(
                f"fleet.tick is {TIME.format(self.fleet.tick)} and clock.tick {TIME.format(self.clock.tick)}: "
                "leave fleet.tick out"
            )
        if self.fleet.over_time and not self.tick_ns:
            raise UserError('guests come and go, and nothing says how long a tick is: set fleet.tick, such as "5 min"')
        return self

    @property
    def memory_is_limited(self) -> bool:
        """Whether all hosts have so much memory and no more."""
        return all(each.memory for each in self.host_classes.values())

    @property
    def tick_ns(self) -> int:
        """Length of a tick, ns; 0: nothing says it."""
        return self.clock.tick if self.clock.mode == "timed" else self.fleet.tick

    @model_validator(mode="after")
    def _check_monitor(self) -> CellSpec:
        self.monitor.intervals(self.clock)
        return self

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, data: Any) -> Any:
        """What a class doesn't say is as [guest], [nested], nested_ratio, kernel, host.memory and clock.pcpus say."""
        fleet = data.get("fleet") if isinstance(data, dict) else None
        tables = [data.get(name, {}) for name in ("guest", "host", "clock")] if isinstance(fleet, dict) else []
        if not isinstance(fleet, dict) or not all(isinstance(table, dict) for table in tables):
            return data  # what is no table is said when it is checked itself
        guest = tables[0]
        alike = {
            "guest": {**guest, "nested": data.get("nested", {}), **_inherited(data, "guest")},
            "host": _inherited(data, "host"),
        }
        merged = {
            kind: {name: _with_own(shared, own) for name, own in fleet[kind].items()}
            for kind, shared in alike.items()
            if isinstance(fleet.get(kind), dict)
        }
        return {**data, "fleet": {**fleet, **merged}}

    @model_validator(mode="after")
    def _check_scenario(self) -> CellSpec:
        guests = len(self.scenario.split(","))
        if not self.scenario:
            return self
        if self.fleet.guest:
            raise UserError(
                "a scenario says all of its guests: set fleet.guests_per_host and leave [fleet.guest.NAME] out, or "
                "leave scenario out"
            )
        if self.fleet.guests_per_host != guests:
            raise UserError(f"fleet.guests_per_host is {self.fleet.guests_per_host}, but the scenario has {guests}")
        if self.nested_ratio or self.nested != Nested():
            raise UserError("scenario says which guests are nested: leave nested_ratio and [nested] out")
        if self.guest.workload != Workload():
            raise UserError("scenario says what its guests do: leave [guest.workload] out")
        if self.guest.page_cache.memory:
            raise UserError(
                "a scenario's guests use no file: leave [guest.page_cache] out, or leave scenario out and give "
                "guests beside page cache by classes [fleet.guest.NAME]"
            )
        from coldfleet.hostsim.workload.scenario import KINDS, parse_scenario

        kept = sum(KINDS[guest.kind].kernel_pages for guest in parse_scenario(self.scenario))
        pages = self.host.memory or int(guests * self.guest.memory / self.overcommit)
        if (self.host.memory or self.reclaim.mode == "host") and pages <= kept:
            raise UserError(
                f"a host of {MEMORY.format(pages)} has no room for the {MEMORY.format(kept)} of kernel memory that the "
                "scenario's guests have: give it more, or them a lower overcommit"
            )
        if self.reclaim.mode == "debugfs" and guests > 1:
            raise UserError('reclaim.mode: "debugfs" acts on one guest, but the scenario has a parent memcg of several')
        return self

    @property
    def host_classes(self) -> Mapping[str, HostClass]:
        """The classes of hosts by name; hosts that are all alike are one without a name."""
        alike: dict[str, Any] = {"count": self.fleet.hosts, "memory": self.host.memory, "cpus": self.clock.pcpus}
        return self.fleet.host or {"": HostClass.model_construct(**alike, kernel=self.kernel)}

    def parameters(self) -> dict[str, Scalar]:
        """Every key by its dotted name, in the order of the file; without those of classes."""
        paths, read = _all_keys()
        return dict(zip(paths, read(self), strict=True))

    def class_parameters(self) -> dict[str, Scalar]:
        """Every key of the classes of hosts and guests by its dotted name, with what they inherit."""
        paths = [
            f"fleet.{kind}.{name}.{path}"
            for kind, model in CLASSES.items()
            for name in getattr(self.fleet, kind)
            for path, _ in walk_keys(model)
        ]
        return {path: self.value(path) for path in paths}

    def value(self, path: str) -> Scalar:
        """The value of a key by its dotted name, such as "guest.memory" or "fleet.guest.web.memory"."""
        value: Any = self
        for name in path.split("."):
            value = value[name] if isinstance(value, dict) else getattr(value, name)
        return value  # type: ignore[no-any-return]


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
        elif get_origin(inner) is not dict:  # classes have names of their own
            yield prefix + name, field


@cache
def _all_keys() -> tuple[tuple[str, ...], attrgetter[tuple[Scalar, ...]]]:
    """The dotted names of the keys of a cell, and what reads them all at once: plans have many cells."""
    paths = tuple(path for path, _ in walk_keys())
    return paths, attrgetter(*paths)


def table_at(path: Sequence[str], model: type[Table]) -> type[Table] | None:
    """The model of the table at a path below another: ("fleet", "guest", "web") -> GuestClass; None: there is none."""
    names = iter(path)
    for name in names:
        field = model.model_fields.get(name)
        inner = field.annotation if field is not None else None
        if get_origin(inner) is dict:
            inner = get_args(inner)[1]
            next(names, None)
        if not (isinstance(inner, type) and issubclass(inner, Table)):
            return None
        model = inner
    return model


def find_key(path: str) -> FieldInfo | None:
    """The definition of a key of a cell by its dotted name, of a class's too; None: there is no such key."""
    *tables, name = path.split(".")
    model = table_at(tables, CellSpec)
    return dict(walk_keys(model)).get(name) if model is not None else None


@cache
def checker_of(path: str) -> TypeAdapter[Any]:
    """What checks a value of one key by itself; to be asked with ``strict=True``, as tables are."""
    field = Study.model_fields.get(path) or find_key(path)
    assert field is not None
    return checker_of_field(field)


def checker_of_field(field: FieldInfo) -> TypeAdapter[Any]:
    """The same of a key's definition."""
    return TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]  # a type that is only known here


def unit_of(field: FieldInfo) -> str:
    """The unit of a key, "" for a plain number or a name."""
    return _extra(field, "unit")


def followed_by(field: FieldInfo) -> str:
    """The key of the same table whose value decides this one's where it isn't set; "": it has a default of its own."""
    return _extra(field, "follows")


def _extra(field: FieldInfo, name: str) -> str:
    extra = field.json_schema_extra
    return str(extra[name]) if isinstance(extra, dict) else ""


def following_keys() -> list[str]:
    """The keys of a cell, but those of classes, that follow another where they aren't set."""
    return [path for path, key in walk_keys() if followed_by(key)]


@cache
def other_way(path: str) -> str:
    """The key that says the same in another way: "overcommit" -> "limit"; "" if there is none."""
    table, dot, name = path.rpartition(".")
    key = find_key(path)
    other = table + dot + followed_by(key) if key is not None else ""
    back = find_key(other)
    return other if back is not None and followed_by(back) == name else ""


def scalar_type(field: FieldInfo) -> type[Scalar]:
    """The Python type of a key's values."""
    if get_args(field.annotation):  # a Literal of names
        return str
    kinds: dict[object, type[Scalar]] = {str: str, int: int, float: float}
    return kinds[field.annotation]


def quantity_of(field: FieldInfo) -> Quantity | None:
    """What a key is an amount of, a text with a unit outside; None for plain numbers and names."""
    return next((mark for mark in field.metadata if isinstance(mark, Quantity)), None)


@cache
def quantity_at(path: str) -> Quantity | None:
    """The same of a key of a cell, by its dotted name."""
    field = find_key(path)
    return None if field is None else quantity_of(field)


def _inherited(tree: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """What a study says that classes of a kind inherit, by their names for it."""
    found = {}
    for own, path in INHERITED[kind].items():
        section, _, key = path.rpartition(".")
        table = tree.get(section, {}) if section else tree
        if key in table:
            found[own] = table[key]
    return found


def _with_own(shared: Mapping[str, Any], own: Any) -> Any:
    """The table of a class with what it inherits, unless it says that itself, maybe in another way."""
    if not isinstance(own, dict):
        return own
    said = {other_way(f"guest.{key}").rpartition(".")[2] for key in own}
    return merge({key: value for key, value in shared.items() if key not in said}, own)


def merge(tree: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of tables as one; where both have a value, the other's."""
    merged = dict(tree)
    for key, value in other.items():
        mine = merged.get(key)
        merged[key] = merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged


def as_amount(path: str, value: Scalar) -> Scalar:
    """The value of a key as a cell has it, from what a study file writes: amounts in pages or ns."""
    quantity = quantity_at(path)
    return quantity.parse(value) if quantity else value  # type: ignore[arg-type]


@cache
def column_of(path: str) -> str:
    """The column of a study's key: "guest.workload.skew" -> "guest_workload_skew"; amounts end in their unit."""
    return path.replace(".", "_") + _units().get(path, "")


@cache
def _units() -> dict[str, str]:
    """The ends of the columns of keys that are amounts: "_pages", "_ns"; and of limit, since LIMIT is a word of SQL."""
    amounts = {path: f"_{quantity.unit}" for path, key in walk_keys() if (quantity := quantity_of(key))}
    return {**amounts, "limit": "_share"}
