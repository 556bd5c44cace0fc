"""Replay a recording step by step and list where the model differs from the kernel."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .classic import ClassicHost
from .compare import Difference, compare
from .constants import PTRS_PER_PTE
from .host import ReferenceHost
from .kernel_memory import kernel_memory
from .luck import LUCK, Luck
from .schedule import L2_BIT, MixSchedule, rounds
from .tlb import Tlb

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "groundtruth"
TLB_ENTRIES = 8192  # the emulator's, once a process has touched many pages
READ_MODIFY_WRITE = 2  # header field "op"


def load(path: str | Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def name_of(path: str | Path) -> str:
    return Path(path).name.removesuffix(".gz").removesuffix(".jsonl")


def kernel_and_label(path: str | Path) -> tuple[str, str]:
    kernel, label = name_of(path).split("_")[:2]
    return kernel.removeprefix("k"), label


def page_lists(header: dict[str, Any]) -> tuple[list[int], Iterator[list[int]]]:
    """The populating writes, and an iterator over the rounds."""
    n, acc = header["n"], header["acc"]
    if header.get("mix"):
        mix = MixSchedule(header["wl"], n, acc, header["seed"], header["layout"])
        return mix.populate(), mix.rounds(header["rounds"])
    return list(range(n)), rounds(header["wl"], n, acc, header["rounds"], header["seed"],
                                  header["layout"])


def accessor(header: dict[str, Any], entry: int) -> str:
    """Who does a listed access: the host process, L1 or L2."""
    kind = header["kind"]
    if kind == "host":
        return "host"
    if kind == "mix":
        return "l2" if entry & L2_BIT else "l1"
    shadow_only = header["npt"] == "N" or header["tdp_mmu"] == "N"
    return "l2" if kind == "nested" or header["guest_paging"] or shadow_only else "l1"


def touch(host: ReferenceHost, header: dict[str, Any], entries: list[int], write: bool) -> None:
    for entry in entries:
        host.access(entry & ~L2_BIT, accessor(header, entry), write)


def build(header: dict[str, Any], start: dict[str, Any], kernel: str,
          policy: str | None) -> ReferenceHost:
    is_process = header["kind"] == "host"
    limited = header["mode"] == "limit"
    cls = ClassicHost if header["lru_gen_enabled"] == "0x0000" else ReferenceHost
    host = cls(header["n"], kernel, policy, "host" if is_process else "vm",
               header["target"] if limited else None,
               tdp=header["npt"] == "Y" and header["tdp_mmu"] == "Y",
               extra_pages=sum(anon for _, anon, _ in start["lg"]))
    if limited and is_process:
        host.mm.tlb = Tlb(TLB_ENTRIES)
    host.drain()
    return host


def steps(path: str | Path, policy: str | None = None, luck: Luck | None = None
          ) -> Iterator[tuple[ReferenceHost, dict[str, Any], list[Difference]]]:
    """Yield (host, record, differences) after every record of a one-memcg recording."""
    records = load(path)
    header, start = records[0], records[1]
    kernel, label = kernel_and_label(path)
    luck = luck or LUCK.get(name_of(path), Luck())
    host = build(header, start, kernel, policy)
    host.used_at_aging = dict.fromkeys(luck.used, True)
    memory = kernel_memory(kernel, label)
    limited = header["mode"] == "limit"
    populate, lists = page_lists(header)
    for step, record in enumerate(records[1:], 1):
        event = record["ev"]
        if event == "populate":
            host.switched_to()
            if limited:
                host.charge_kernel(memory.before)
            middle = memory.at_table * PTRS_PER_PTE
            touch(host, header, populate[:middle], write=True)
            if limited:
                host.charge_kernel(memory.later)
            touch(host, header, populate[middle:], write=True)
        elif event == "touch":
            host.switched_to()
            if record["r"] in luck.stray_touched:
                for folio in host.mm.extra[:luck.stray_pages]:
                    host.touch(folio, "host", write=True)
            touch(host, header, next(lists), header.get("op") == READ_MODIFY_WRITE)
        elif event == "age":
            host.age(swappiness=1, force_scan=True)
        elif event == "evict" and record["x"]:
            host.evict(host.max_seq - 2, header["evict_swappiness"], record["x"])
        elif event == "reclaim" and record["x"]:
            host.memory_reclaim(record["x"])
        elif event not in ("start", "evict", "reclaim"):
            continue
        host.drain()
        yield host, record, [d for d in compare(host, record, step)
                             if not (luck.late_stat and d.is_late_stat())]


def replay(path: str | Path, policy: str | None = None) -> list[Difference]:
    """All differences between the recording and the model, in step order."""
    records = load(path)
    if records[0]["kind"] == "duo":
        from .replay_duo import replay_duo  # it builds on this module
        return replay_duo(path, records, policy)
    return [difference for _, _, found in steps(path, policy) for difference in found]
