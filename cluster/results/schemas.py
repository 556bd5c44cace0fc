"""The columns of the result tables, each with its unit and meaning in the field's metadata.

They are made from the keys of a study and from hostsim's counters, so a new key or counter is a new column.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import pyarrow as pa

from coldfleet.cluster.study.model import column_of, scalar_type, unit_of, walk_keys
from coldfleet.cluster.study.placement import REFUSALS
from coldfleet.cluster.study.plan import Run
from coldfleet.hostsim.counters.columns import HEADLINE, ci_column
from coldfleet.hostsim.counters.counters import COUNTERS
from coldfleet.hostsim.counters.timing import GAUGES

SCHEMA_VERSION = 13  # of the tables and the journal; raise it with a column that changes or goes, and with a new key

TABLES = ("cells", "hosts", "guests", "epochs", "lives", "fleet")
RUN_TABLES = ("cells", "lives", "fleet")
"""Tables that are made of all hosts of a run together."""

SORT_KEYS = {
    "plan": ("index",),
    "cells": ("cell_id", "replicate"),
    "hosts": ("cell_id", "replicate", "host"),
    "guests": ("cell_id", "replicate", "host", "guest"),
    "epochs": ("cell_id", "replicate", "host", "tick"),
    "lives": ("cell_id", "replicate", "life"),
    "fleet": ("cell_id", "replicate", "tick"),
    "failures": ("cell_id", "replicate"),
}
_WHAT = {
    "plan": "one row for each run (cell x replicate) that the sweep will make",
    "cells": "one row for each run: counters summed over the fleet",
    "hosts": "one row for each host of a run: counters summed over its guests",
    "guests": "one row for each guest of a run",
    "epochs": "with output.epochs on, a row every output.every_ticks ticks of each host: its counters from the start "
    "to the end of that tick",
    "lives": "where guests come and go, one row for each time that a guest lives on a host, and for each refusal",
    "fleet": "where guests come and go, with output.epochs on, a row every output.every_ticks ticks of a run: how the "
    "fleet stands",
    "failures": "one row for each run that failed, with all parameters that are needed to repeat it",
}


def run_parameters(run: Run) -> dict[str, Any]:
    """The parameter columns of a run."""
    values: dict[str, Any] = {column_of(path): value for path, value in run.cell.spec.parameters().items()}
    classes = run.cell.spec.class_parameters()
    return {
        **values,
        "seed": run.cell.seed,
        "policy_digest": run.cell.policy.digest,
        "fleet_classes": json.dumps(classes, separators=(",", ":")) if classes else "",
    }


@cache
def schema(table: str) -> pa.Schema:
    """The schema of a table, or of the plan; "table" in its metadata says what a row is."""
    fields = {
        "plan": [_field("index", pa.int64(), "", "place in the plan"), *_who(), _SEED, *_parameters()],
        "cells": [*_who(), _SEED, *_parameters(), _NESTED_GUESTS, _hash_of("the fleet"), *_counters(), *_gauges()],
        "hosts": [
            *_who(),
            *_main_parameters(),
            *_host(),
            _NESTED_GUESTS,
            _hash_of("the host"),
            *_counters(),
            *_gauges(),
        ],
        "guests": [
            *_who(),
            *_main_parameters(),
            _HOST,
            *_guest(),
            _hash_of("the guest"),
            *_counters(),
            *_gauges(),
            _STEPS,
        ],
        "epochs": [
            *_who(),
            *_main_parameters(),
            _HOST,
            _field("tick", pa.int32(), "", "the tick, from 1"),
            _field("free_pages", pa.int64(), "pages", "free pages of the host then; 0: its memory isn't limited"),
            _field("guests", pa.int32(), "guests", "guests that live on it then"),
            _field("guest_pages", pa.int64(), "pages", "memory that these were given"),
            *_counters(),
            *_of_time(),
        ],
        "lives": [*_who(), *_main_parameters(), *_life()],
        "fleet": [*_who(), *_main_parameters(), *_fleet()],
        "failures": [*_who(), _field("error", pa.string(), "", "what went wrong"), _SEED, *_parameters()],
    }[table]
    return pa.schema(fields, {"table": _WHAT[table], "schema_version": str(SCHEMA_VERSION)})


def _field(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"unit": unit, "description": description})


def _who() -> list[pa.Field]:
    return [
        _field("cell_id", pa.string(), "", "the cell: a hash of its seed, its parameters and what its policy does"),
        _field("replicate", pa.int32(), "", "which repetition of the cell, from 0"),
    ]


def _parameters() -> Iterable[pa.Field]:
    for path, definition in walk_keys():
        yield _field(column_of(path), _ARROW[scalar_type(definition)], unit_of(definition), str(definition.description))
        if path == "policy":
            yield _field("policy_digest", pa.string(), "", "a hash of what the policy does, regardless of its name")
    yield _field(
        "fleet_classes", pa.string(), "", "classes of hosts and guests as JSON, memory in pages; empty: all are alike"
    )


def _main_parameters() -> list[pa.Field]:
    return [field for field in _parameters() if field.name in ("policy", "nested_ratio", "overcommit")]


def _counters() -> list[pa.Field]:
    return [_field(counter.name, pa.int64(), counter.unit, counter.description) for counter in COUNTERS]


def _gauges() -> list[pa.Field]:
    units = {counter.name: counter.unit for counter in COUNTERS}
    return _of_time() + [
        _field(
            ci_column(name),
            pa.float64(),
            units[name],
            f"half the width of the 95 % interval of the same without {ci_column('')}; 0 at full scale",
        )
        for name in HEADLINE
    ]


def _of_time() -> list[pa.Field]:
    return [_field(gauge.name, pa.float64(), gauge.unit, gauge.description) for gauge in GAUGES]


def _hash_of(whom: str) -> pa.Field:
    text = f"a hash of all accesses of {whom}: equal under every policy"
    return _field("access_hash", pa.uint64(), "", text)


def _host() -> list[pa.Field]:
    return [
        _HOST,
        _field("host_class", pa.string(), "", "class of the host; empty: all are alike"),
        _field("kernel", pa.string(), "", "kernel whose MGLRU the host runs: that of its class, or else the study's"),
        _field("guests", pa.int32(), "guests", "guests on the host"),
    ]


def _guest() -> list[pa.Field]:
    return [
        _field("guest", pa.int32(), "", "guest of the host, from 0"),
        _field("name", pa.string(), "", "name of the guest: its class and number, if it is of a class"),
        _field("nested", pa.bool_(), "", "whether the guest runs a nested VM"),
        _field("arrives", pa.int32(), "", "the tick in which it arrives; 0: it is there from the start"),
        _field("leaves", pa.int32(), "", "the tick in which it leaves; 0: it stays to the end"),
        _field("lived_ticks", pa.int32(), "ticks", "ticks at whose end it lives, tick 0 not counted"),
        _field("memory_pages", pa.int64(), "pages", "memory of the guest"),
        _field("limit_pages", pa.int64(), "pages", "what it may keep in memory"),
        _field("oom_tick", pa.int32(), "", "the tick in which the OOM killer killed it; -1: it lives"),
        _field(
            "oom_reason",
            pa.string(),
            "",
            "why: its memory.max (memcg), that of the memcg above it (parent), the host had no page (host), all memory "
            "was younger than min_ttl_ms (min_ttl); empty: it lives",
        ),
    ]


def _life() -> list[pa.Field]:
    reasons = "; ".join(f"{name}: {why}" for name, why in REFUSALS.items())
    whole, share = pa.int64(), pa.float64()
    return [
        _field("life", pa.int32(), "", "the life, from 0, in the order of time"),
        _field("name", pa.string(), "", "name of the guest: class and number, and which life it is, if not the first"),
        _field("own_name", pa.string(), "", "the name that the study's table of guests gives it; empty: none"),
        _field("guest_class", pa.string(), "", "class of the guest"),
        _field("again", pa.int32(), "", "0: it arrives; 1 and more: it starts anew, because it lost its host"),
        _field("priority", pa.int32(), "", "its priority; 0: the highest"),
        _field("memory_pages", whole, "pages", "memory that it asks for, its file included"),
        _field("vcpus", pa.int32(), "vCPUs", "vCPUs that it asks for"),
        _field("start_s", share, "s", "when it begins, since the start of the run; at most 0: it was there then"),
        _field("end_s", share, "s", "when it ends, at most the end of the run; of a refused guest its start"),
        _field("place", pa.int32(), "", "host of the fleet, from 0, those without guests included; -1: refused"),
        _field("host", pa.int32(), "", "its host in the tables hosts, guests and epochs; -1: it isn't there"),
        _field("guest", pa.int32(), "", "its number on that host; -1: it isn't there: refused, or between two ticks"),
        _field("ended", pa.string(), "", "how: left, outage (of its host), refused, or end (of the run)"),
        _field("refused", pa.string(), "", f"why it got no place. {reasons}; empty: it got one"),
    ]


def _fleet() -> list[pa.Field]:
    whole, share = pa.int64(), pa.float64()
    return [
        _field(
            "tick",
            pa.int32(),
            "",
            "the tick, from 1; what is counted is so since the row before",
        ),
        _field("time_s", share, "s", "the end of the tick, since the start of the run"),
        _field("guests", whole, "guests", "guests that live then"),
        _field("arrived", whole, "guests", "lives that began, without those that were there when the run started"),
        _field("departed", whole, "guests", "lives that ended, of guests that lost their host, too"),
        _field("moved", whole, "guests", "of those that began, guests that had lost their host"),
        *(
            _field(f"refused_{name}", whole, "guests", f"refused, those that lost their host included: {why}")
            for name, why in REFUSALS.items()
        ),
        _field("promised_pages", whole, "pages", "memory of the guests that live then, their files included"),
        _field("vcpus", whole, "vCPUs", "their vCPUs"),
        _field(
            "memory_share",
            share,
            "share",
            "of what all hosts may promise, with overcommit, those out of service included; 0: it isn't limited",
        ),
        _field(
            "vcpu_share",
            share,
            "share",
            "of the vCPUs that all hosts may have, those out of service included; 0: they aren't limited",
        ),
        _field("hosts_out", whole, "hosts", "hosts that are out of service then"),
        _field(
            "dram_used_pages",
            whole,
            "pages",
            "memory that guests take: resident, zram's pool, kernel memory, KVM's page tables; mean of the ticks since "
            "the row before. KVM's tables aren't taken from free_pages: both together can be a little more than the "
            "hosts' memory",
        ),
        _field(
            "free_pages",
            whole,
            "pages",
            "free pages of all hosts then, those without guests or out of service, too; 0: their memory isn't limited",
        ),
        _field("refaults", whole, "pages", "refaults on all hosts"),
        _field("pgmajfault", whole, "faults", "major faults on all hosts"),
        _field("psi_some_ns", whole, "ns", "memory pressure (PSI some), summed over the hosts"),
        _field("psi_full_ns", whole, "ns", "memory pressure (PSI full), summed over the hosts"),
    ]


_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_SEED = _field("seed", pa.int64(), "", "seed of the study")
_HOST = _field("host", pa.int32(), "", "host of the fleet, from 0")
_NESTED_GUESTS = _field("nested_guests", pa.int32(), "guests", "of these, guests that run a nested VM")
_STEPS = _field(
    "step_pages", pa.list_(pa.field("element", pa.int64(), nullable=False)), "pages", "pages each policy step acted on"
)
