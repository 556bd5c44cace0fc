"""Laws of results: what holds of what a guest, or a host, is said to have gone through.

They see a HostSpec and its result only. Those of a sampled host are estimates, each rounded for itself, of which a law
over a sum may be off by some units.
"""

from __future__ import annotations

from collections.abc import Callable

from coldfleet.hostsim.counters.timing import CAUSES, KINDS, WINDOWS, Cause
from coldfleet.hostsim.engine.state import PTRS_PER_PTE
from coldfleet.hostsim.mm.oom_kill import OOM_REASONS
from coldfleet.hostsim.spec.host_spec import GuestResult, GuestSpec, HostResult, HostSpec
from coldfleet.hostsim.spec.laws import Broken, hold

GuestLaw = Callable[[HostSpec, GuestSpec, GuestResult], Broken]
HostLaw = Callable[[HostSpec, HostResult], Broken]

PARTS_OF = (
    ("l2_accesses", "accesses"),
    ("swap_ra", "pswpin"),
    ("khugepaged_swpin", "pswpin"),
    ("anon_huge_pages", "resident_pages"),
    ("huge_page_ticks", "resident_page_ticks"),
    ("bloat_page_ticks", "huge_page_ticks"),
    ("split_page_ticks", "huge_page_ticks"),
    ("thp_fault_alloc", "pgfault"),
    ("thp_fault_fallback", "pgfault"),
    ("thp_swpout_fallback", "thp_split_page"),
    ("swap_ra_hit", "swap_ra"),
    ("workingset_refault_anon", "pswpin"),
    ("workingset_restore_anon", "workingset_refault_anon"),
    ("workingset_refault_file", "file_reads"),
    ("workingset_restore_file", "workingset_refault_file"),
    ("nested_faults", "shadow_faults"),
    ("file_read_requests", "file_reads"),
    ("file_readahead_requests", "file_read_requests"),
    ("file_readahead_requests", "file_readahead_pages"),
    ("file_readahead_pages", "file_reads"),
    ("thrashing_waits", "file_read_requests"),
    ("reclaim_file_write_waits", "reclaim_write_waits"),
    ("pgscan_file", "pgscan"),
    ("pgsteal", "pgscan"),
    ("pgsteal_file", "pgscan_file"),
    ("pgsteal_file", "pgsteal"),
    ("pgdeactivate", "pgrefill"),
    ("rmap_walks", "pgdeactivate"),
    ("young_walk", "walk_ptes"),
    *((f"false_young_{site}", f"young_{site}") for site in ("walk", "look_around", "evict")),
    ("monitor_young", "monitor_asked"),
    ("monitor_missed_young", "monitor_asked"),
    ("monitor_false_young", "monitor_young"),
    ("notifier_failed", "failed_pages"),
    ("failed_needlessly", "failed_pages"),
    ("wrong_evictions", "refaults"),
    ("cold_samples", "resident_samples"),
    ("cold_found", "cold_samples"),
    ("cold_mistaken", "resident_samples"),
)
"""Counters of which the first is a part of the second."""

DISJOINT = (
    (("young_walk", "missed_young_walk"), ("walk_ptes",)),
    (("young_evict", "missed_young_evict"), ("pgscan", "pgrefill")),  # the classic LRU asks active pages, too
    (("workingset_activate_anon",), ("workingset_refault_anon", "pgrefill")),  # 6.1 counts protected pages, too
    (("workingset_activate_file",), ("workingset_refault_file", "pgrefill")),
    (("monitor_young", "monitor_missed_young"), ("monitor_asked",)),
    (("cold_samples", "cold_mistaken"), ("resident_samples",)),
    (("pgmajfault",), ("pgfault", "khugepaged_swpin")),
    (("pswpin",), ("refaults", "swap_ra", "khugepaged_swpin", "high_events")),  # an access may read for that twice
    (("thp_swpout", "thp_split_page"), ("thp_fault_alloc", "thp_collapse_alloc")),
    (("refaults",), ("pswpin", "file_reads")),
    (("refaults",), ("accesses", "device_accesses")),
    (("pswpin", "pgsteal_file"), ("pgsteal", "damos_applied")),
    (("pgrotated",), ("pswpout", "file_writes")),
)
"""Counters whose sum is no more than that of others."""


def _ticks(spec: HostSpec, guest: GuestSpec) -> int:
    """Ticks of the host that are measured and in which a guest lives: all but 0."""
    return len(guest.life(spec.ticks)) - (guest.arrives == 0)


def _slack(spec: HostSpec, guest: GuestSpec, terms: int) -> int:
    """What rounding may add to a sum of so many counters: nothing unless they are estimates."""
    return terms if spec.sample > 1 or guest.sample else 0


def _not_negative(spec: HostSpec, guest: GuestSpec, result: GuestResult) -> Broken:
    """No counter and no gauge is negative."""
    for name, value in (*result.counters.items(), *result.gauges.items(), *result.ci95.items()):
        if not value >= 0:
            yield f"{name} is {value}"


def _parts(spec: HostSpec, guest: GuestSpec, result: GuestResult) -> Broken:
    """No part of a counter is more than the whole, nor are parts that exclude each other, added up."""
    counters = result.counters
    for part, whole in PARTS_OF:
        if counters[part] > counters[whole]:
            yield f"{part} {counters[part]} is more than {whole} {counters[whole]}"
    for parts, wholes in DISJOINT:
        found, most = sum(counters[name] for name in parts), sum(counters[name] for name in wholes)
        if found > most + _slack(spec, guest, len(parts)):
            yield f"{' + '.join(parts)} {found} is more than {' + '.join(wholes)} {most}"


def _walks(spec: HostSpec, guest: GuestSpec, result: GuestResult) -> Broken:
    """Whatever walks page tables ages the guest or, on a clock, ends as a pass, but for one that has no time to end."""
    counters = result.counters  # a pass in parts ages nothing if reclaim has aged meanwhile
    ended = counters["agings"] + counters["aging_passes"]
    if counters["mm_walks"] > ended + (spec.clock is not None) + _slack(spec, guest, 1):
        yield f"mm_walks is {counters['mm_walks']}, and {ended} of them have ended"


def _swap_reads(spec: HostSpec, guest: GuestSpec, result: GuestResult) -> Broken:
    """A page that comes back from swap was evicted, and, on a device that keeps no copy of what was read, written."""
    counters = result.counters
    if spec.swap_device == "zram" and counters["pswpin"] > counters["pswpout"]:
        yield f"pswpin {counters['pswpin']} is more than pswpout {counters['pswpout']}"
    if spec.swap_device == "none" and counters["pswpout"]:
        yield f"pswpout is {counters['pswpout']} without swap"


def _accesses(spec: HostSpec, guest: GuestSpec, result: GuestResult) -> Broken:
    """A guest makes the accesses of its ticks: without a clock all of them, on one no more but in the bursts of a
    trace, unless it was killed; where its load isn't steady, up to those of one period more or fewer."""
    if guest.recorded or spec.sample > 1 or guest.sample:
        return  # a recording has a schedule of its own; of a sample they are an estimate
    ticks = len(guest.life(spec.ticks)) - 1  # in the first it populates its memory
    wanted = guest.memory_pages + guest.own_pages + ticks * guest.accesses_per_tick
    if guest.nested and guest.nested.start_tick > ticks:
        wanted -= round(guest.nested.l2_only_share * guest.memory_pages)  # nobody has touched L2's own pages
    made = result.counters["accesses"]
    load = guest.workload
    bursts = spec.clock is not None and load.kind in ("trace", "clone")
    slack = load.load_ticks * guest.accesses_per_tick if load.load != "steady" else 0
    more, less = made > wanted + slack, made < wanted - slack
    if (more and not bursts) or (less and not spec.clock and not result.oom_reason):
        yield f"{made} accesses were made, of {wanted}"


def _memory(spec: HostSpec, guest: GuestSpec, result: GuestResult) -> Broken:
    """A guest has no more pages in memory than it has pages, nor, under a limit, than that; once gone, it has none."""
    if spec.sample > 1:
        return  # its parts were looked at
    scale = guest.sample.of.memory_pages / guest.memory_pages if guest.sample else 1.0
    pages, file = guest.memory_pages, guest.page_cache.pages if guest.page_cache else 0
    counters = result.counters
    most = {
        "resident_pages": pages + guest.own_pages,
        "cached_pages": file,
        "resident_page_ticks": (pages + file) * _ticks(spec, guest),
    }
    for name, bound in most.items():
        if counters[name] > bound * scale + _slack(spec, guest, 1):
            yield f"{name} is {counters[name]}, and may be {bound * scale:.0f}"
    resident = counters["resident_pages"] + counters["cached_pages"]
    if resident and guest.leaves:
        yield f"it has left, and {resident} pages are in memory"
    limited = spec.mode == "limit" and guest.limit_pages and not spec.parent_pages
    if limited and resident > guest.limit_pages * scale + _slack(spec, guest, 2):
        yield f"{resident} pages are in memory, under a limit of {guest.limit_pages * scale:.0f}"


def _huge_pages(spec: HostSpec, guest: GuestSpec, result: GuestResult) -> Broken:
    """Huge pages come only to a guest that may have some; a living one has those that were not written or split; a call
    looks at no more SPTEs than a huge page has."""
    lives = not (result.oom_reason or guest.leaves)
    counters = result.counters
    came = counters["thp_fault_alloc"] + counters["thp_collapse_alloc"]
    left = came - counters["thp_swpout"] - counters["thp_split_page"]
    if came and guest.huge_pages == "never":
        yield f"{came} huge pages came, and it may have none"
    if left * lives * PTRS_PER_PTE != counters["anon_huge_pages"]:
        yield f"anon_huge_pages is {counters['anon_huge_pages']}, and {left} huge pages are left"
    most = (PTRS_PER_PTE - 1) * sum(counters[f"notifier_calls_{site}"] for site in ("walk", "evict"))
    if counters["split_sptes"] > most:
        yield f"split_sptes is {counters['split_sptes']}, and a call of the walk or at eviction looks at 511: {most}"


def _protection(spec: HostSpec, guest: GuestSpec, result: GuestResult) -> Broken:
    """Only guests with a memory.low are reclaimed below it, only those with a memory.high above it, or sleep."""
    counters = result.counters
    for name, pages in (("low_events", guest.low_pages), ("high_events", guest.high_pages)):
        if counters[name] and not pages:
            yield f"{name} is {counters[name]}, and there is none"
    if counters["high_delay_ns"] and not counters["high_events"]:
        yield f"high_delay_ns is {counters['high_delay_ns']}, and it was never reclaimed for that"


def _kills(spec: HostSpec, guest: GuestSpec, result: GuestResult) -> Broken:
    """A guest is killed once, in a tick in which it lives and for a reason, or never."""
    killed = result.counters["oom_kills"]
    ticks = (-1, *guest.life(spec.ticks))
    if killed not in (0, 1) or result.oom_reason not in OOM_REASONS or result.oom_tick not in ticks:
        yield f"{killed} kills in tick {result.oom_tick} of {spec.ticks}, reason {result.oom_reason!r}"
    if bool(killed) != bool(result.oom_reason) or bool(killed) != (result.oom_tick >= 0):
        yield f"{killed} kills in tick {result.oom_tick} with the reason {result.oom_reason!r}"


def _time(spec: HostSpec, guest: GuestSpec, result: GuestResult) -> Broken:
    """Every ns of every vCPU, while its guest is there, is in exactly one column of time; without a clock all are 0."""
    spent = {name: result.counters[name] for name, _ in CAUSES.values()}
    passed = _ticks(spec, guest) * spec.clock.tick_ns * guest.vcpus if spec.clock else 0
    if sum(spent.values()) != passed:
        yield f"{sum(spent.values())} ns are accounted for, of {passed}: {spent}"
    busy = passed - spent[CAUSES[Cause.IDLE][0]]
    in_no_time = result.counters["batches"] and not busy and not (spec.clock and spec.clock.free)
    if result.counters["behind_ticks"] > spec.ticks or in_no_time:
        yield f"{result.counters['batches']} batches in {busy} ns, {result.counters['behind_ticks']} ticks behind"


def _batches(spec: HostSpec, guest: GuestSpec, result: GuestResult) -> Broken:
    """Every batch of accesses that was completed has a latency."""
    if spec.clock and sum(result.latencies) != result.counters["batches"]:
        yield f"{sum(result.latencies)} latencies of {result.counters['batches']} batches"


def _gauges(spec: HostSpec, result: GuestResult | HostResult) -> Broken:
    """PSI full is no more than some, an average no more than 100 %, a total than the run, and p50 no more than p99."""
    gauges = result.gauges
    passed = spec.ticks * spec.clock.tick_ns if spec.clock else 0
    for window in ("ns", *(f"avg{window}" for window in WINDOWS)):
        some, full = (gauges[f"psi_{kind}_{window}"] for kind in KINDS)
        most = passed if window == "ns" else 100
        if not 0 <= full <= some <= most + 1e-6:
            yield f"PSI {window} is {some} some and {full} full, of {most}"
    if gauges["latency_p50_ns"] > gauges["latency_p99_ns"]:
        yield f"p50 is {gauges['latency_p50_ns']} ns, p99 {gauges['latency_p99_ns']} ns"


def _gauges_of_guest(spec: HostSpec, guest: GuestSpec, result: GuestResult) -> Broken:
    return _gauges(spec, result)


_gauges_of_guest.__doc__ = _gauges.__doc__

LEVELS = {"resident_pages", "anon_huge_pages", "cached_pages", "indirect_shadow_pages", "behind_ticks"}
"""Counters that say how things stand; all others only grow."""


def _epochs(spec: HostSpec, result: HostResult) -> Broken:
    """No counter but a level ever falls, free pages are within the host's memory, the guests that live are those that
    came and neither left nor were killed, and the last epoch is the result."""
    before: dict[str, int] = {}
    for epoch in result.epochs:
        for name, value in epoch.counters.items():
            if name not in LEVELS and value < before.get(name, 0):
                yield f"{name} falls from {before[name]} to {value} in tick {epoch.tick}"
        before = epoch.counters
        if spec.sample == 1 and not 0 <= epoch.free_pages <= spec.memory_pages * spec.scale + 1:
            yield f"{epoch.free_pages} of {spec.memory_pages} pages are free in tick {epoch.tick}"
        live = sum(
            epoch.tick in guest.life(spec.ticks) and not 0 <= each.oom_tick <= epoch.tick
            for guest, each in zip(spec.guests, result.guests, strict=True)
        )
        if spec.sample == 1 and epoch.guests != live:
            yield f"{epoch.guests} guests live in tick {epoch.tick}, and should be {live}"
    if result.epochs and spec.sample == 1 and before != result.totals():
        yield f"the last epoch is not the result: {dict(before.items() - result.totals().items())}"


GUEST_LAWS: dict[str, GuestLaw] = {
    "nothing negative": _not_negative,
    "parts and wholes": _parts,
    "walks": _walks,
    "swap reads": _swap_reads,
    "accesses": _accesses,
    "resident": _memory,
    "huge pages": _huge_pages,
    "protection": _protection,
    "OOM kills": _kills,
    "time": _time,
    "batches": _batches,
    "gauges": _gauges_of_guest,
}
HOST_LAWS: dict[str, HostLaw] = {"host gauges": _gauges, "epochs": _epochs}


def check_guest(spec: HostSpec, guest: GuestSpec, result: GuestResult, host: int = 0) -> None:
    """Raises LawBrokenError unless all GUEST_LAWS hold of what a guest went through."""
    hold(GUEST_LAWS, f"host {host}, guest {result.name}", spec, guest, result)


def check_result(spec: HostSpec, result: HostResult, host: int = 0) -> None:
    """The same of all guests of a host, and HOST_LAWS of itself."""
    for guest, each in zip(spec.guests, result.guests, strict=True):
        check_guest(spec, guest, each, host)
    hold(HOST_LAWS, f"host {host}", spec, result)
