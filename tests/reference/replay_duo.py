"""Replay recordings of two memcgs under one parent (ground truth README-2, "duo")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .compare import Difference, compare
from .cpu import Cpu
from .host import ReferenceHost
from .kernels import KERNELS
from .luck import LUCK, Luck
from .replay import kernel_and_label, name_of, touch
from .schedule import rounds
from .tree import ReferenceParent


def replay_duo(path: str | Path, records: list[dict[str, Any]],
               policy: str | None) -> list[Difference]:
    """Mode reclaim only: after each half round the excess is reclaimed from the parent."""
    header = records[0]
    kernel = KERNELS[kernel_and_label(path)[0]]
    luck = LUCK.get(name_of(path), Luck())
    cpu = Cpu(kernel.lru_add_batch)
    n = header["n"]
    starts = {r["c"]: r for r in records if r["ev"] == "start"}
    headers, hosts, lists = {}, {}, {}
    for i, name in enumerate("ab"):
        headers[name] = {**header, "kind": header["kinds"][i], "guest_paging": 0}
        hosts[name] = ReferenceHost(n, kernel, policy, header["kinds"][i], cpu=cpu,
                                    extra_pages=sum(a for _, a, _ in starts[name]["lg"]))
        lists[name] = rounds(header["wls"][i], n, header["acc"], header["rounds"],
                             header["seeds"][i], header["layout"])
    cpu.drain()
    parent = ReferenceParent(list(hosts.values()))
    differences: list[Difference] = []
    for step, record in enumerate(records[1:], 1):
        event = record["ev"]
        if event == "list":
            name = record["c"]
            populate = record["r"] == 0
            hosts[name].switched_to()
            touch(hosts[name], headers[name],
                  list(range(n)) if populate else next(lists[name]), write=populate)
            cpu.drain()
        elif event == "reclaim" and record["c"] == "a" and record["x"]:
            parent.memory_reclaim(record["x"])
            cpu.drain()
        if "c" in record and event != "list":
            differences += (d for d in compare(hosts[record["c"]], record, step)
                            if not (luck.late_stat and d.is_late_stat()))
    return differences
