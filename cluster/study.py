"""What a study is made of: the tables and keys of a study file, each with its unit, bounds and meaning.

The models are checked once, at the door (:mod:`cluster.study_file`); behind it everything is known to be good.
The key reference in docs/ and the parameter columns of the results are generated from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic.fields import FieldInfo

from hostsim.calibration import PUBLISHED, parse_calibration
from hostsim.errors import UserError
from hostsim.units import parse_pages
from policies import get_policy

MAX_SWAPPINESS = 200  # of kernels before 6.14
MAX_SAMPLE = 1024
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


def _known_calibration(text: str) -> str:
    return parse_calibration(text).as_text()


class InPages:
    """Marks a key whose value is an amount of memory: a text with a unit outside, pages inside."""


PolicyName = Annotated[str, AfterValidator(_known_policy)]
KernelName = Annotated[str, AfterValidator(_known_kernel)]
CalibrationText = Annotated[str, AfterValidator(_known_calibration)]
SceneText = Annotated[str, AfterValidator(_known_scene)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Tick = Annotated[int, Field(ge=0, lt=2**31)]
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,40}$")]
Memory = Annotated[int, BeforeValidator(_pages_with_unit), Field(ge=512, lt=2**31), InPages()]
AnyMemory = Annotated[int, BeforeValidator(_pages_with_unit), Field(ge=0, lt=2**31), InPages()]


def table_key(description: str, unit: str = "", default: Any = ..., **bounds: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"unit": unit}, **bounds)


class Table(BaseModel):
    """A table of a study file: unknown keys and values of the wrong type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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


class PageCache(Table):
    """A file that each guest's process uses through the page cache, beside its anonymous memory."""

    memory: AnyMemory = table_key('size of the file, such as "16 MiB"; "0 pages": none', "pages", 0)
    access_share: Share = table_key("share of the guest's accesses that go to the file", "share", 0.2)
    kind: Literal["uniform", "zipf", "hotcold", "scan", "phases", "hotscan"] = table_key(
        "which of its pages they go to; as in guest.workload, with the same skew, shares and layout", default="zipf"
    )
    mmap_share: Share = table_key(
        "share of the file that is accessed through a mapping; the rest by read(2) and write(2)", "share", 0.0
    )
    write_share: Share = table_key("share of these accesses that write", "share", 0.0)


class Guest(Table):
    """A guest; all of a fleet's guests are alike, but touch their own pages at random."""

    memory: Memory = table_key('memory of a guest, such as "64 MiB"; at least 2 MiB', "pages")
    accesses_per_tick: Count = table_key("accesses that a guest makes in one tick", "accesses", 8192)
    workload: Workload = Workload()
    page_cache: PageCache = PageCache()


class Nested(Table):
    """What the guests do that run a nested VM (L2); ``nested_ratio`` says how many do."""

    access_share: Share = table_key("share of such a guest's accesses that L2 makes", "share", 0.5)
    exposed_share: Share = table_key("share of such a guest's memory that L2 can touch", "share", 0.5)
    l2_only_share: Share = table_key("share of such a guest's memory that only L2 touches", "share", 0.25)
    start_tick: Tick = table_key("first tick in which L2 runs", "ticks", 0)
    stop_tick: Tick = table_key("first tick in which it no longer does; 0: it runs to the end", "ticks", 0)
    l1_paging: Literal["nested", "shadow"] = table_key(
        "nested: L1 gives L2 nested page tables, which KVM shadows; shadow: L1 shadows L2's tables itself, so that KVM "
        "maps L2's accesses in the TDP MMU",
        default="nested",
    )

    @model_validator(mode="after")
    def _check(self) -> Nested:
        if self.l2_only_share > self.exposed_share:
            raise UserError(f"l2_only_share {self.l2_only_share} is more than exposed_share {self.exposed_share}")
        if 0 < self.stop_tick <= self.start_tick:
            raise UserError(f"stop_tick {self.stop_tick} is not after start_tick {self.start_tick}")
        return self


class HostClass(Table):
    """Hosts that are alike: a table ``[fleet.host.NAME]``."""

    count: Count = table_key("hosts of this class", "hosts")
    memory: Memory = table_key('memory of such a host, such as "256 MiB"', "pages")
    cpus: Count = table_key("CPUs of such a host", "CPUs")


class GuestClass(Guest):
    """Guests that are alike: a table ``[fleet.guest.NAME]``. What it doesn't say is as in [guest] and [nested]."""

    count: Count = table_key("guests of this class", "guests")
    vcpus: Count = table_key("virtual CPUs of such a guest", "vCPUs", 1)
    nested_ratio: Share = table_key("share of these guests that run a nested VM", "share", 0.0)
    nested: Nested = Nested()


class Fleet(Table):
    """The hosts and how many guests they have: all alike, or of classes, each a table of its own."""

    hosts: int = table_key("hypervisor hosts in the fleet, all alike", "hosts", 0, ge=0, lt=2**31)
    guests_per_host: int = table_key("guests on each host, all alike", "guests", 0, ge=0, lt=2**31)
    placement: Literal["first-fit", "best-fit", "worst-fit", "random"] = table_key(
        "classes: which of the hosts that have room gets a guest", default="best-fit"
    )
    vcpus_per_cpu: float = table_key(
        "classes: vCPUs that a host may have for each of its CPUs", "", 4.0, gt=0, le=1000, allow_inf_nan=False
    )
    host: dict[ClassName, HostClass] = {}
    guest: dict[ClassName, GuestClass] = {}

    @model_validator(mode="after")
    def _check(self) -> Fleet:
        for key, classes in (("hosts", self.host), ("guests_per_host", self.guest)):
            if bool(getattr(self, key)) == bool(classes):
                one = key.split("_")[0].rstrip("s")
                both = "is there beside" if classes else "is missing, and so are"
                raise UserError(f"fleet.{key} {both} classes [fleet.{one}.NAME]: give one of the two")
        if bool(self.host) != bool(self.guest):
            raise UserError("there are classes [fleet.host.NAME] or [fleet.guest.NAME], but not both: give both")
        return self


Switch = Literal["on", "off"]
Probability = Share


def _known_subscribers(text: str) -> str:
    from hostsim.model import SUBSCRIBERS

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SUBSCRIBERS:
            raise UserError(f"unknown subscriber {name!r}: one of {', '.join(SUBSCRIBERS)}, separated by commas")
    if len(set(names)) < len(names) or "kvm" not in names:
        raise UserError(f'{text!r}: name "kvm", and each device once')
    return ", ".join(names)


SubscriberNames = Annotated[str, AfterValidator(_known_subscribers)]


class Vm(Table):
    """What KVM makes of the guests, and who else looks at their memory."""

    tdp: Switch = table_key("the TDP MMU (kvm.tdp_mmu); off: the shadow MMU maps everything", default="on")
    accessed_bits: Switch = table_key(
        "KVM uses A/D bits (kvm_intel.eptad); off: it ages a page by making its next access fault", default="on"
    )
    subscribers: SubscriberNames = table_key(
        'who is on the notifier chain, in the order of being asked: "kvm", "slow device", "fast device"', default="kvm"
    )
    device_share: Share = table_key("accesses of each device, as a share of the guest's", "share", 0.0)
    shared_share: Share = table_key(
        "share of the pages that the shadow MMU maps several times, because several L2s use them", "share", 0.0
    )
    shared_by: int = table_key("how many SPTEs such a page has", "SPTEs", 2, ge=2, le=1024)
    no_ad_share: Share = table_key("share of the pages whose shadow SPTEs have no A/D bits (EPTP12)", "share", 0.0)
    tlb_hit: Probability = table_key(
        "probability that a TLB serves the access to a page whose Accessed bit was cleared", "", 0.0
    )
    race: Probability = table_key("probability that a racing writer undoes what happened to an Accessed bit", "", 0.0)
    lock_contended: Probability = table_key("probability that mmu_lock is taken as somebody tries it", "", 0.0)
    numa_zap_share: Share = table_key("share of a guest's page tables that NUMA balancing zaps in a tick", "share", 0.0)


class Reclaim(Table):
    """When hosts reclaim memory, and from which lists."""

    lru: Literal["mglru", "classic"] = table_key(
        "mglru: generations; classic: MGLRU is off, an active and an inactive list", default="mglru"
    )
    mode: Literal["limit", "proactive", "debugfs", "age", "pressure"] = table_key(
        "limit: directly, as a guest hits memory.max; proactive: memory.reclaim after every tick; debugfs: the "
        "commands + and - of lru_gen after every tick; age: both every period, for all that was not touched in the "
        "last two, whatever the limit; pressure: a little every period, as long as PSI is below its target (Senpai)",
        default="limit",
    )
    period_ticks: Count = table_key("age, pressure: length of a period", "ticks", 6)
    psi_target: float = table_key(
        "pressure: PSI some of a guest, over a period, at which nothing more is reclaimed", "percent", 0.1, gt=0, le=100
    )
    aging_every_ticks: Tick = table_key("one more aging (+) this often; 0: never", "ticks", 0)
    swappiness: int = table_key(
        "0: only file pages; 200: first anonymous memory; 201, since 6.14: only that. debugfs evicts with 200",
        "",
        60,
        ge=0,
        le=201,
    )
    flush_every_ticks: Count = table_key(
        "the flusher writes dirty pages of files this often, and whenever reclaim meets nothing else", "ticks", 4
    )

    @model_validator(mode="after")
    def _check_lru(self) -> Reclaim:
        if self.lru == "classic" and self.mode in ("debugfs", "age"):
            raise UserError(
                f'mode = "{self.mode}" acts on generations, which lru = "classic" has not: use another mode'
            )
        if self.lru == "classic" and self.aging_every_ticks:
            raise UserError('aging_every_ticks acts on generations, which lru = "classic" has not: leave it out')
        return self


class Swap(Table):
    """Where anonymous memory goes."""

    device: Literal["zram", "async", "nvme", "remote"] = table_key(
        "zram: written and freed at once; async (a SATA SSD), nvme, remote (another host's memory): a page is freed "
        "only after its write has ended",
        default="zram",
    )


class Clock(Table):
    """How time passes on the hosts."""

    mode: Literal["replay", "timed"] = table_key(
        "replay: all accesses of a tick are made, nothing takes time; timed: guests run on vCPUs, and all work takes "
        "time, so that guests can fall behind and an aging pass can last many ticks",
        default="replay",
    )
    tick_ms: Count = table_key("length of a tick", "ms", 1000)
    access_ns: Count = table_key("vCPU time of an access and of the work between it and the next", "ns", 1000)
    vcpus: Count = table_key("virtual CPUs of a guest; classes of guests have a key of their own", "vCPUs", 1)
    pcpus: Tick = table_key("CPUs of a host, which vCPUs and kernel threads share; 0: one for each thread", "CPUs", 0)
    batch: Count = table_key("accesses that a vCPU makes at a time; their latency is measured", "accesses", 1024)


def _known_sample(text: str) -> str:
    parts = re.fullmatch(r"1(?:/([1-9][0-9]{0,3}))?", text)
    if parts is None or int(parts[1] or 1) > MAX_SAMPLE:
        raise UserError(f'{text!r} is no share of the page tables: write "1/16", at least "1/{MAX_SAMPLE}"')
    return text


class Host(Table):
    """How hosts are simulated."""

    sample: Annotated[str, AfterValidator(_known_sample)] = table_key(
        'share of each guest\'s page tables that is simulated: "1" for all of them, "1/16", "1/64"; the counters are '
        "scaled, and have intervals",
        default="1",
    )


class Caller(Table):
    """Who else asks for Accessed bits."""

    kind: Literal["none", "idle", "damon-vaddr", "damon-paddr", "khugepaged"] = table_key(
        "idle: idle page tracking of all pages; damon: one sample a region and tick; khugepaged: eight tables a time",
        default="none",
    )
    every_ticks: Count = table_key("how often it does so", "ticks", 1)


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
        "memory of a guest, its file included, over its limit: 1.5 means memory.max = memory / 1.5",
        "",
        ge=1,
        le=100,
        allow_inf_nan=False,
    )
    ticks: Count = table_key("length of a run, after the tick in which guests touch all of their memory once", "ticks")
    fleet: Fleet
    guest: Guest
    nested: Nested = Nested()
    vm: Vm = Vm()
    reclaim: Reclaim = Reclaim()
    swap: Swap = Swap()
    caller: Caller = Caller()
    clock: Clock = Clock()
    host: Host = Host()
    calibration: CalibrationText = table_key(
        'figures of the time model: "published", or a file that `coldfleet calibrate published --out FILE.toml` wrote, '
        'from the folder of the study; results name what differs: "fault_ns=3500.0"',
        default=PUBLISHED,
    )
    truth: Switch = table_key(
        "on: writes down when every page was touched, for the columns that compare with it; costs time", default="off"
    )

    @model_validator(mode="after")
    def _check_memory(self) -> CellSpec:
        if self.reclaim.lru == "classic" and (self.swap.device != "zram" or self.guest.page_cache.memory):
            raise UserError('lru = "classic" is modelled for anonymous memory on zram: no swap.device, no page_cache')
        if self.reclaim.swappiness > MAX_SWAPPINESS:
            from hostsim.hybrid import get_kernel

            if not get_kernel(self.kernel).swappiness_anon_only:
                raise UserError(f"reclaim.swappiness {self.reclaim.swappiness} is only known since 6.14: at most 200")
        return self

    @model_validator(mode="after")
    def _check_pressure(self) -> CellSpec:
        if self.reclaim.mode == "pressure" and self.clock.mode != "timed":
            raise UserError('reclaim.mode "pressure" needs time: set clock.mode = "timed"')
        if self.reclaim.mode in ("age", "pressure") and "," in self.scene:
            raise UserError(f'reclaim.mode "{self.reclaim.mode}" acts on one guest: a scene of several has a parent')
        return self

    @model_validator(mode="after")
    def _check_sample(self) -> CellSpec:
        if self.host.sample != "1" and (self.scene or self.caller.kind != "none" or self.vm.device_share):
            raise UserError(f'host.sample "{self.host.sample}" knows no scene, caller or device_share: leave them out')
        return self

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, data: Any) -> Any:
        """What a class of guests doesn't say is as [guest], [nested] and nested_ratio say."""
        fleet = data.get("fleet") if isinstance(data, dict) else None
        guests = fleet.get("guest") if isinstance(fleet, dict) else None
        if not isinstance(fleet, dict) or not isinstance(guests, dict):
            return data
        alike = {**data.get("guest", {}), "nested": data.get("nested", {})}
        if "nested_ratio" in data:
            alike["nested_ratio"] = data["nested_ratio"]
        merged = {name: merge(alike, own) if isinstance(own, dict) else own for name, own in guests.items()}
        return {**data, "fleet": {**fleet, "guest": merged}}

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
        if self.guest.page_cache.memory:
            raise UserError("a scene's guests use no file: leave [guest.page_cache] out")
        if self.reclaim.mode == "debugfs" and guests > 1:
            raise UserError('reclaim.mode: "debugfs" acts on one guest, but the scene has a parent memcg of several')
        return self

    def parameters(self) -> dict[str, Scalar]:
        """Every key by its dotted name, in the order of the file; without those of classes."""
        paths, read = _all_keys()
        return dict(zip(paths, read(self), strict=True))

    def class_parameters(self) -> dict[str, Scalar]:
        """Every key of the classes of hosts and guests by its dotted name, with what they inherit."""
        models: dict[str, type[Table]] = {"host": HostClass, "guest": GuestClass}
        paths = [
            f"fleet.{kind}.{name}.{path}"
            for kind, model in models.items()
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


def merge(tree: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of tables as one; where both have a value, the other's."""
    merged = dict(tree)
    for key, value in other.items():
        mine = merged.get(key)
        merged[key] = merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged
