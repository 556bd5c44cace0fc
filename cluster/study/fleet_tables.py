"""The tables of a study file that make a fleet: classes of hosts and of guests, who comes and goes, and outages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from coldfleet.cluster.study.tables import Guest, Nested, Table, table_key
from coldfleet.cluster.study.values import AnyMemory, ClassName, Count, FileName, KernelName, Share, Span, Tick
from coldfleet.hostsim.spec.checks import MAX_CPUS
from coldfleet.hostsim.spec.errors import UserError

MAX_HOSTS = 100_000  # of a fleet: one run simulates all of them
MAX_GUESTS = 1_000_000  # of a fleet


class HostClass(Table):
    """Hosts that are alike: a table ``[fleet.host.NAME]``."""

    count: Count = table_key("hosts of this class", "hosts")
    memory: AnyMemory = table_key(
        'memory of such a host, such as "256 MiB"; "0 pages": as much as its guests need', "pages", 0
    )
    cpus: int = table_key("CPUs of such a host; 0: as many as its guests need", "CPUs", 0, ge=0, lt=2**31)
    kernel: KernelName = table_key("kernel whose MGLRU such a host runs", default="6.12")


class Arrivals(Table):
    """How guests of a class come and go: a table ``[fleet.guest.NAME.arrivals]``."""

    per_hour: float = table_key(
        "guests that arrive in an hour, on average over a day of days 1 to 5 of a week (Poisson); 0: none",
        "guests/h",
        0.0,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
    )
    day_swing: Share = table_key(
        "how many more than that arrive at noon, and fewer at midnight, when a run starts", "share", 0.0
    )
    weekend: float = table_key(
        "arrivals on days 6 and 7 of a week over those of the others", "", 1.0, ge=0, le=100, allow_inf_nan=False
    )
    lifetime: Literal["exponential", "lognormal", "pareto", "fixed"] = table_key(
        "distribution of the time for which such a guest lives", default="exponential"
    )
    mean_lifetime: Span = table_key('its mean, such as "2 h"', "ns", 3600 * 10**9)
    shape: float = table_key(
        "lognormal: sigma, the standard deviation of the logarithm; pareto: alpha, the exponent of the tail, above 1",
        "",
        1.5,
        gt=0,
        le=20,
        allow_inf_nan=False,
    )

    @model_validator(mode="after")
    def _check(self) -> Arrivals:
        if self.per_hour and not self.mean_lifetime:
            raise UserError('mean_lifetime is 0: guests that arrive live for a while, such as "2 h"')
        if self.lifetime == "pareto" and self.shape <= 1:
            raise UserError(f'shape {self.shape:g}: with lifetime = "pareto" only one above 1 has a mean')
        return self


class GuestClass(Guest):
    """Guests that are alike: a table ``[fleet.guest.NAME]``. What it doesn't say is as in [guest] and [nested]."""

    count: Tick = table_key("guests of this class that are there from the start to the end", "guests", 0)
    arrivals: Arrivals = Arrivals()
    priority: Tick = table_key(
        "0: the highest. Of guests that want a place at the same time, those of a higher one get it first; nobody has "
        "to leave for them",
        "",
        0,
    )
    vcpus: int = table_key("virtual CPUs of such a guest", "vCPUs", 1, ge=1, le=MAX_CPUS)
    nested_ratio: Share = table_key("share of these guests that run a nested VM", "share", 0.0)
    nested: Nested = Nested()


class Outage(Table):
    """Hosts that are out of service for a time: a table ``[fleet.outage.NAME]``."""

    host: Tick = table_key("the first of them: a number from 0, in the order of the classes in the study", "", 0)
    count: Count = table_key("how many hosts", "hosts", 1)
    at: Span = table_key('when they stop to take guests, since the start of the run, such as "30 h"', "ns", gt=0)
    grace: Span = table_key(
        "how long their guests stay after that; who is still there then starts anew on another host, or is refused. "
        '"0 ns": the hosts fail',
        "ns",
        0,
    )
    back: Span = table_key('when they take guests again; "0 ns": never', "ns", 0)

    @model_validator(mode="after")
    def _check(self) -> Outage:
        if 0 < self.back <= self.at + self.grace:
            raise UserError("back is not after at and grace: let the hosts come back later, or leave back out")
        return self


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
    arrivals: FileName = table_key(
        "guests that come and go: a table in Parquet or CSV, beside the study, in the directory that COLDFLEET_DATA "
        "names, or at a URI, with a row for each (docs/fleets.md), such as `coldfleet fleet --arrivals` writes",
        default="",
    )
    tick: Span = table_key(
        'length of a tick for guests that come and go, such as "5 min"; with clock.mode = timed it is clock.tick',
        "ns",
        0,
    )
    host: dict[ClassName, HostClass] = Field(default={})
    guest: dict[ClassName, GuestClass] = Field(default={})
    outage: dict[ClassName, Outage] = Field(default={})

    @property
    def over_time(self) -> bool:
        """Whether guests come and go."""
        return bool(self.arrivals or self.outage or any(each.arrivals.per_hour for each in self.guest.values()))

    @model_validator(mode="after")
    def _check(self) -> Fleet:
        for key, classes in (("hosts", self.host), ("guests_per_host", self.guest)):
            if bool(getattr(self, key)) == bool(classes):
                one = key.split("_")[0].rstrip("s")
                both = "is there beside" if classes else "is missing, and so are"
                raise UserError(f"fleet.{key} {both} classes [fleet.{one}.NAME]: give one of the two")
        if self.host and not self.guest:
            raise UserError("classes [fleet.host.NAME] take classes of guests: add [fleet.guest.NAME]")
        if (self.arrivals or self.outage) and not self.guest:
            raise UserError("arrivals and outages are of classes of guests: add [fleet.guest.NAME]")
        for name, each in self.guest.items():
            if not (each.count or each.arrivals.per_hour or self.arrivals):
                raise UserError(f"[fleet.guest.{name}] has no guests: set count, or arrivals.per_hour")
        hosts = self.hosts or sum(each.count for each in self.host.values())
        guests = self.hosts * self.guests_per_host or sum(each.count for each in self.guest.values())
        for what, count, most in (("hosts", hosts, MAX_HOSTS), ("guests", guests, MAX_GUESTS)):
            if count > most:
                raise UserError(f"the fleet has {count:,} {what}; at most {most:,} are simulated")
        for name, out in self.outage.items():
            if out.host + out.count > hosts:
                last = out.host + out.count - 1
                raise UserError(f"[fleet.outage.{name}] has hosts up to {last}; there are 0 to {hosts - 1}")
        return self


CLASSES: dict[str, type[Table]] = {"host": HostClass, "guest": GuestClass, "outage": Outage}
"""Tables of [fleet] that have names of their own."""
