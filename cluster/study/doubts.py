"""What a study asks for where the recordings say that the simulator is weak: docs/truth.md has the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from coldfleet.cluster.study.model import CellSpec
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.values import Scalar

OVER_RECLAIMING = "6.18"  # the first kernel whose guests do
UNRECORDED_WRITES = "7.3"  # no recording of it has file pages that have to be written


@dataclass(frozen=True)
class Asked:
    """What a study asks for, in some cell of its plan."""

    plan: Plan

    @cached_property
    def kernels(self) -> set[str]:
        """The kernels, or the first of a hybrid."""
        classes = [f"fleet.host.{name}.kernel" for name in self.plan.cell(0).spec.fleet.host]
        return {str(name).split()[0] for path in ("kernel", *classes) for name in self.plan.values(path)}

    @cached_property
    def scenarios(self) -> list[str]:
        """The scenarios; an empty one is a study without."""
        return [str(text) for text in self.plan.values("scenario")]

    @property
    def limited(self) -> bool:
        """Whether guests reclaim under memory.max."""
        return "limit" in self.plan.values("reclaim.mode")

    @property
    def kswapd(self) -> bool:
        """Whether a host reclaims by its watermarks."""
        classes = [f"fleet.host.{name}.memory" for name in self.plan.cell(0).spec.fleet.host]
        memories = (self.plan.values(path) for path in ("host.memory", *classes))
        return "host" in self.plan.values("reclaim.mode") or any(any(each) for each in memories)

    @property
    def has_vm(self) -> bool:
        """Whether there is a guest; so there is in a study without a scenario."""
        return any(_has_vm(text) for text in self.scenarios)

    def of_guests(self, key: str) -> Iterator[Scalar]:
        """All values that a key of a guest has in some class."""
        for each in [f"fleet.guest.{name}" for name in self.plan.cell(0).spec.fleet.guest] or ["guest"]:
            yield from self.plan.values(f"{each}.{key}")

    @property
    def written(self) -> bool:
        """Whether a guest writes to a file through the page cache."""
        return any(self.of_guests("page_cache.memory")) and any(self.of_guests("page_cache.write_share"))


@dataclass(frozen=True)
class Weak:
    """A combination in which recordings are often outside the kernels' own range. ``name``: as in README.md and
    docs/truth.md; ``says``: what ``plan`` says of a study that ``asks`` for it."""

    name: str
    says: str
    asks: Callable[[Asked], bool]


WEAK = (
    Weak(
        f"guests of {OVER_RECLAIMING} under memory.max",
        f'kernel {OVER_RECLAIMING} with reclaim.mode = "limit": its guests reclaim more than they have to, in one of '
        "two ways, and the simulator knows one of them",
        lambda asked: asked.limited and OVER_RECLAIMING in asked.kernels and asked.has_vm,
    ),
    Weak(
        "a process beside a guest under one limit",
        "a process beside a guest under one limit: a difference of a few pages grows, and recordings are often outside "
        "the kernels' own range",
        lambda asked: asked.limited and any("process" in text and _has_vm(text) for text in asked.scenarios),
    ),
    Weak(
        "memory.low or memory.min under one limit",
        "memory_low or memory_min under one limit: recordings are often outside the kernels' own range",
        lambda asked: (
            asked.limited
            and any("," in text for text in asked.scenarios)
            and any(any(asked.of_guests(key)) for key in ("memory_low", "memory_min"))
        ),
    ),
    Weak(
        "files beside a guest under memory.max",
        'page_cache under reclaim.mode = "limit": the faults of a guest beside its file are outside the kernels\' own '
        "range in most steps, though few",
        lambda asked: asked.limited and any(asked.of_guests("page_cache.memory")),
    ),
    Weak(
        "files that are written",
        "page_cache.write_share: when dirty pages are written is up to the clock, so that aging and scans are outside "
        f"the kernels' own range in most steps; no recording of {UNRECORDED_WRITES} has them, and what it does follows "
        "its public description",
        lambda asked: asked.written,
    ),
    Weak(
        f"kswapd on {OVER_RECLAIMING}",
        f"kernel {OVER_RECLAIMING} with kswapd: when other tasks run in between is not modelled, and recordings are "
        "often outside the kernel's own range",
        lambda asked: asked.kswapd and OVER_RECLAIMING in asked.kernels,
    ),
    Weak(
        f"huge pages of guests on {OVER_RECLAIMING} under memory.max",
        f'huge_pages on kernel {OVER_RECLAIMING} with reclaim.mode = "limit": faults and pages stolen are outside the '
        "kernel's own range in a third of the steps",
        lambda asked: (
            asked.limited
            and OVER_RECLAIMING in asked.kernels
            and any(value != "never" for value in asked.of_guests("huge_pages"))
        ),
    ),
)
"""What the tables of docs/truth.md show to be weak, and a study can ask for."""


def doubts(plan: Plan) -> list[str]:
    """A line for each combination of values in a study whose results real kernels don't bear out well."""
    asked = Asked(plan)
    return [f"{each.says} (docs/truth.md)" for each in WEAK if each.asks(asked)]


_ROOM_KEYS = ("reclaim.", "overcommit", "limit", "fleet.", "guest.memory", "guest.page_cache.memory", "host.")
"""How keys begin on which memory, and what limits it, depend."""


def notes(plan: Plan) -> list[str]:
    """A line for each value that does something else than its reader may expect."""
    if 0 not in plan.values("reclaim.swappiness"):
        return []
    deciding = [path for path in plan.varied if path.startswith(_ROOM_KEYS)]
    unlike: dict[tuple[Scalar, ...], int] = {}
    for number in range(plan.cell_count):
        varying = plan.varying(number)
        unlike.setdefault(tuple(varying[path] for path in deciding), number)
    if not any(_spares_too_much(plan.cell(number).spec) for number in unlike.values()):
        return []
    return [
        "reclaim.swappiness = 0 reclaims only file pages, and anonymous memory alone is more than there is room for: "
        "the OOM killer will kill guests; their rows have oom_kills"
    ]


def _spares_too_much(spec: CellSpec) -> bool:
    """Whether swappiness is 0 and anonymous memory alone doesn't fit where it is limited."""
    if spec.reclaim.swappiness:
        return False
    fleet, alike = spec.fleet, spec.guest
    guests = [(each.memory, each.page_cache.memory, each.count) for each in fleet.guest.values()]
    guests = guests or [(alike.memory, alike.page_cache.memory, fleet.hosts * fleet.guests_per_host)]
    anonymous = sum(memory * count for memory, _, count in guests)
    given = sum(host.memory * host.count for host in spec.host_classes.values())
    if given or spec.reclaim.mode == "host":
        room = given or sum((memory + file) * count for memory, file, count in guests) / spec.overcommit
        return anonymous > room
    return spec.reclaim.mode == "limit" and any(
        memory > (memory + file) / spec.overcommit for memory, file, _ in guests
    )


def _has_vm(scenario: str) -> bool:
    """Whether it has a guest; so has a study without a scenario."""
    return not scenario or any(not guest.strip().startswith("process") for guest in scenario.split(","))
