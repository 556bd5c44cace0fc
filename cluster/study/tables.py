"""The tables of a study file, with their keys: each has its unit, bounds and meaning.

The key reference in docs/ and the parameter columns of the results are generated from them.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from coldfleet.cluster.study.values import (
    AnyMemory,
    AnyTime,
    Count,
    FileName,
    HeatText,
    LoadText,
    Memory,
    Probability,
    SampleShare,
    Share,
    SubscriberNames,
    Switch,
    Thousandth,
    Tick,
    Time,
    parse_load,
)
from coldfleet.hostsim.spec.checks import MAX_ACCESSES_PER_TICK, MAX_CPUS, MAX_PAGE_CLUSTER, check_burst
from coldfleet.hostsim.spec.damon_spec import LEAST_REGIONS, DamonSpec, PageoutSpec
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import ORDERED_KINDS, CompressionSpec, HostSpec
from coldfleet.hostsim.spec.huge_spec import HugePageSpec
from coldfleet.hostsim.spec.units import MEMORY, TIME


def table_key(description: str, unit: str = "", default: Any = ..., *, follows: str = "", **bounds: Any) -> Any:
    """A key. ``follows``: the key of the same table whose value decides this one's where it isn't set."""
    return Field(default, description=description, json_schema_extra={"unit": unit, "follows": follows}, **bounds)


class Table(BaseModel):
    """A table of a study file: unknown keys and values of the wrong type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


WorkloadKind = Literal["uniform", "zipf", "hotcold", "scan", "phases", "hotscan", "profile", "stack", "trace", "clone"]


class Workload(Table):
    """Which pages a guest touches."""

    kind: WorkloadKind = table_key(
        "uniform: all pages alike; zipf: some much more than others; hotcold: a hot set and the rest; scan: round and "
        "round; phases: a hot window that moves on; hotscan: a hot set while the rest is scanned; profile: as heat or "
        "file says; stack: mostly pages that were used not long ago; trace: the accesses of file, in order; clone: "
        "the same, with more or fewer pages, as the memory has",
        default="zipf",
    )
    skew: float = table_key("zipf: the page of rank k has weight k^-skew", "", 0.9, ge=0, le=10, allow_inf_nan=False)
    hot_share: Share = table_key(
        "hotcold, phases, hotscan: share of the memory that is hot; stack: of the most recently used", "share", 0.2
    )
    hot_access_share: Share = table_key(
        "hotcold, phases, hotscan, stack: share of the accesses that go there", "share", 0.8
    )
    phase_ticks: Count = table_key("phases: how long the hot window stays", "ticks", 6)
    write_share: Share = table_key(
        "share of the accesses that write; trace, clone: of those of which the file doesn't say it", "share", 0.0
    )
    layout: Literal["shuffled", "ordered"] = table_key(
        "where hot pages lie: scattered over the memory, or next to each other; trace, clone: as in the file",
        default="shuffled",
    )
    file: FileName = table_key(
        "profile, trace, clone: a file that `coldfleet trace import` made, beside the study, in the directory that "
        'COLDFLEET_DATA names, or at a URI; or a program that was recorded, such as "builtin:sqlite"',
        default="",
    )
    heat: HeatText = table_key(
        "profile: parts of the memory, the hottest first, each [share of the memory, weight of all accesses to it], "
        "such as [[0.1, 80], [0.9, 20]]; what no part covers isn't accessed",
        default="",
    )
    start: Literal["drawn", "same"] = table_key(
        "trace, clone: where in the file a guest begins: at a place of its own, at random, or all at the first access",
        default="drawn",
    )
    l2_process: int = table_key(
        "trace, clone: the process of the file whose accesses are L2's in nested guests; -1: as [nested] says",
        "",
        -1,
        ge=-1,
        lt=2**63,
    )
    load: Literal["steady", "bursts", "diurnal", "table"] = table_key(
        "in which ticks a guest makes its accesses. steady: in all alike; bursts: many of them in one tick of each "
        "load_ticks, drawn for each guest; diurnal: more by day than by night, all guests alike; table: as load_table "
        "says, all guests alike",
        default="steady",
    )
    load_ticks: Count = table_key(
        "bursts: from one to the next, on average; diurnal: length of a day; table: time for all of load_table, again "
        "and again",
        "ticks",
        12,
    )
    load_swing: Share = table_key(
        "bursts: share of the accesses that waits for the bursts (1: there are none between them); "
        "diurnal: how much more than the mean there is at noon, and less at night",
        "share",
        0.8,
    )
    load_phase: Share = table_key(
        "diurnal, table: where in load_ticks a run begins; 0: at midnight, the first number", "share", 0.0
    )
    load_table: LoadText = table_key(
        "table: list of numbers, how much is accessed in equal parts of load_ticks, one after the other", default=""
    )
    set_ticks: int = table_key(
        "time in which the memory that is accessed shrinks from all of it to set_least and grows again; 0: it stays "
        "all of it",
        "ticks",
        0,
        ge=0,
        lt=2**31,
    )
    set_least: Share = table_key("share of the memory that is accessed when that is least", "share", 0.25)
    set_phase: Share = table_key("where in set_ticks a run begins; 0: with all of the memory", "share", 0.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.set_ticks and self.kind in ORDERED_KINDS:
            raise UserError(f'kind = "{self.kind}" has a working set of its own: leave out set_ticks')
        if self.kind in ("trace", "clone") and not self.file:
            raise UserError(f'kind = "{self.kind}" reads a file: set file = "NAME.parquet" beside it')
        if self.kind == "profile" and bool(self.file) == bool(self.heat):
            raise UserError('kind = "profile" reads heat = [[share, weight], ...] or a file: give one of the two')
        if (self.load == "table") != bool(self.load_table):
            raise UserError('load = "table" reads load_table = [0.2, 1, 1.5], no other load does: give both or none')
        return self


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
    device: Literal["zram", "async", "nvme", "remote", "disk"] = table_key(
        "where the file is: a SATA SSD (async), an NVMe drive, another host's memory (remote), a rotating disk, or "
        "zram, whose memory is not counted. Guests of a host share a device of their kind, not that of swap; with "
        "clock.mode = timed they wait for it",
        default="nvme",
    )
    readahead: AnyMemory = table_key(
        'the most that is read of the file at a time, such as "128 KiB" (read_ahead_kb); "0 pages": no readahead',
        "pages",
        32,
    )


class Guest(Table):
    """A guest; all of a fleet's guests are alike, but touch their own pages at random."""

    memory: Memory = table_key('memory of a guest, such as "64 MiB"; at least 2 MiB', "pages")
    memory_min: AnyMemory = table_key(
        'memory.min: what reclaim of the host, or of the memcg above, leaves a guest in any case; "0 pages": nothing',
        "pages",
        0,
    )
    memory_low: AnyMemory = table_key(
        "memory.low: what it leaves a guest while others have something to give", "pages", 0
    )
    memory_high: AnyMemory = table_key(
        'memory.high: a guest that has more reclaims it itself, and sleeps if that is in vain; "0 pages": no bound',
        "pages",
        0,
    )
    accesses_per_page: float = table_key(
        "accesses that a guest makes in one tick, over the pages of its memory and its file: so guests of any size "
        "behave alike; or as accesses_per_tick says",
        "accesses/page",
        1.0,
        follows="accesses_per_tick",
        gt=0,
        le=MAX_ACCESSES_PER_TICK,
        allow_inf_nan=False,
    )
    accesses_per_tick: int = table_key(
        "the same as a number, whatever its size; or as accesses_per_page says",
        "accesses",
        0,
        follows="accesses_per_page",
        ge=1,
        le=MAX_ACCESSES_PER_TICK,
    )
    workload: Workload = Workload()
    huge_pages: Literal["never", "madvise", "always"] = table_key(
        "whether 2 MiB of a guest's memory get a huge page at their first touch. madvise: the VMM asks for them; "
        "always: the host gives them unasked. The two differ in what [huge_pages] defrag makes of them",
        default="never",
    )
    page_cache: PageCache = PageCache()

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        return self.sized()

    def sized(self) -> Self:
        """The same once all is checked and reckoned that its size decides; raises :class:`UserError`."""
        self._check_protection()
        self._count_accesses()
        return self

    def _check_protection(self) -> None:
        pages = self.memory + self.page_cache.memory
        for key in ("memory_min", "memory_low", "memory_high"):
            if getattr(self, key) > pages:
                raise UserError(
                    f"{key} {MEMORY.format(getattr(self, key))} is more than the guest's {MEMORY.format(pages)}"
                )
        for key in ("memory_min", "memory_low"):
            if 0 < self.memory_high <= getattr(self, key):
                raise UserError(
                    f"memory_high {MEMORY.format(self.memory_high)} is not above {key} "
                    f"{MEMORY.format(getattr(self, key))}: a guest would reclaim what is to be left to it"
                )

    def _count_accesses(self) -> None:
        """Either of the two keys for accesses decides the other."""
        pages = self.memory + self.page_cache.memory
        accesses = round(self.accesses_per_page * pages)
        if "accesses_per_tick" not in self.model_fields_set:
            if self.accesses_per_page < 1 / pages:
                raise UserError(
                    f"accesses_per_page {self.accesses_per_page:g} of {MEMORY.format(pages)} is less than one access "
                    f"in a tick: set it to {1 / pages!r} or more"
                )
            if accesses > MAX_ACCESSES_PER_TICK:
                raise UserError(
                    f"accesses_per_page {self.accesses_per_page:g} of {MEMORY.format(pages)} are {accesses:,} accesses "
                    f"in a tick; at most {MAX_ACCESSES_PER_TICK:,} are simulated: set it to "
                    f"{MAX_ACCESSES_PER_TICK / pages:g} or less"
                )
            object.__setattr__(self, "accesses_per_tick", accesses)
        elif "accesses_per_page" not in self.model_fields_set:
            object.__setattr__(self, "accesses_per_page", self.accesses_per_tick / pages)
        elif accesses != self.accesses_per_tick:
            raise UserError(
                f"accesses_per_page {self.accesses_per_page:g} and accesses_per_tick {self.accesses_per_tick} say "
                "different things: give one of the two"
            )
        check_burst(self.workload, parse_load(self.workload.load_table), self.accesses_per_tick)


class Nested(Table):
    """What the guests do that run a nested VM (L2); ``nested_ratio`` says how many do."""

    access_share: Share = table_key("share of such a guest's accesses that L2 makes", "share", 0.5)
    exposed_share: Share = table_key("share of such a guest's memory that L2 can touch", "share", 0.5)
    l2_only_share: Share = table_key(
        "share of such a guest's memory that only L2 touches; if it isn't set, half of exposed_share",
        "share",
        0.0,
        follows="exposed_share",
    )
    start_tick: Tick = table_key("first tick in which L2 runs", "ticks", 0)
    stop_tick: Tick = table_key("first tick in which it no longer does; 0: it runs to the end", "ticks", 0)
    l1_paging: Literal["nested", "shadow"] = table_key(
        "nested: L1 gives L2 nested page tables, which KVM shadows; shadow: L1 shadows L2's tables itself, so that KVM "
        "maps L2's accesses in the TDP MMU",
        default="nested",
    )

    l1_huge_pages: Switch = table_key(
        "the page tables that KVM shadows map 2 MiB at a time where the host does: those of L1 for L2, or, without the "
        "TDP MMU, the guest's own; off: 4 KiB, so that the shadow MMU has 512 SPTEs for a huge page",
        default="on",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "l2_only_share" not in self.model_fields_set:
            object.__setattr__(self, "l2_only_share", self.exposed_share / 2)
        if self.l2_only_share > self.exposed_share:
            raise UserError(f"l2_only_share {self.l2_only_share} is more than exposed_share {self.exposed_share}")
        if 0 < self.stop_tick <= self.start_tick:
            raise UserError(f"stop_tick {self.stop_tick} is not after start_tick {self.start_tick}")
        return self


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
    split_share: Share = table_key(
        "share of a guest's 2 MiB that KVM maps by SPTEs of 4 KiB even where the host has huge pages: those with code, "
        "where kvm.nx_huge_pages is on; 1: all, while dirty logging is on",
        "share",
        0.0,
    )


class Reclaim(Table):
    """When hosts reclaim memory, and from which lists."""

    lru: Literal["mglru", "classic"] = table_key(
        "mglru: generations; classic: MGLRU is off, an active and an inactive list of anonymous and of file pages",
        default="mglru",
    )
    mode: Literal["limit", "proactive", "debugfs", "age", "pressure", "host"] = table_key(
        "limit: directly, as a guest hits memory.max; proactive: memory.reclaim after every tick; debugfs: the "
        "commands + and - of lru_gen after every tick; age: both every period, for all that was not touched in the "
        "last two, whatever the limit; pressure: a little every period, as long as PSI is below its target (Senpai); "
        "host: by kswapd, as the host runs short of free pages",
        default="limit",
    )
    period_ticks: Count = table_key("age, pressure: length of a period", "ticks", 6)
    psi_target: float = table_key(
        "pressure: PSI some of a guest, over a period, at which nothing more is reclaimed", "percent", 0.1, gt=0, le=100
    )
    aging_every_ticks: Tick = table_key("one more aging (+) this often; 0: never", "ticks", 0)
    swappiness: int = table_key(
        "0: only file pages; 200: first anonymous memory; 201, since 6.14: only that. debugfs evicts with 200. Up to "
        "6.18, 1 to 200 make no difference while only file pages, or only anonymous ones, can be evicted",
        "",
        60,
        ge=0,
        le=201,
    )
    min_ttl_ms: int = table_key(
        "lru_gen/min_ttl_ms: kswapd calls the OOM killer when all memory of a host is younger; 0: never. Needs a "
        "clock, and counts from its start",
        "ms",
        0,
        ge=0,
        lt=2**31,
    )
    scheduler: Literal["usual", "drawn"] = table_key(
        "what the scheduler decides for reclaim. usual: always what usually happens; drawn: now and then the contrary, "
        "so that intervals contain this luck, too. A guest has the same luck in all cells of a replicate",
        default="usual",
    )
    flush_every_ticks: Count = table_key(
        "the flusher writes dirty pages of files this often, and whenever reclaim meets nothing else", "ticks", 4
    )

    @model_validator(mode="after")
    def _check_lru(self) -> Reclaim:
        if self.lru == "classic" and self.mode in ("debugfs", "age"):
            raise UserError(f'mode = "{self.mode}" acts on generations, and lru = "classic" has none: use another mode')
        if self.lru == "classic" and self.aging_every_ticks:
            raise UserError(
                'aging_every_ticks acts on generations, and lru = "classic" has none: leave it out, or, to compare '
                'both, write [zip] with "reclaim.lru" = ["mglru", "classic"] and "reclaim.aging_every_ticks" = [4, 0]'
            )
        if self.lru == "classic" and self.min_ttl_ms:
            raise UserError('min_ttl_ms protects generations, and lru = "classic" has none: leave it out')
        return self


class Swap(Table):
    """Where anonymous memory goes."""

    device: Literal["zram", "async", "nvme", "remote", "disk", "none"] = table_key(
        "zram: written and freed at once; async (a SATA SSD), nvme, remote (another host's memory), disk: a page is "
        "freed only after its write has ended; none: there is no swap",
        default="zram",
    )
    size: AnyMemory = table_key(
        'swap space of a host, such as "8 GiB", zram\'s disksize; "0 pages": as much as is needed', "pages", 0
    )
    page_cluster: int = table_key(
        "vm.page-cluster: a fault on swap reads at most 2 to the power of this many pages, all but its own before "
        "somebody needs them; zram, which is synchronous, reads one",
        "",
        HostSpec.page_cluster,
        ge=0,
        le=MAX_PAGE_CLUSTER,
    )
    pool_limit: AnyMemory = table_key(
        'zram: memory of a host that the compressed pages may take (mem_limit); "0 pages": as much as they need',
        "pages",
        0,
    )
    ratio: float = table_key(
        "zram: size of a page over the mean size of a compressible one when it is compressed",
        "",
        CompressionSpec.ratio,
        ge=1,
        le=100,
        allow_inf_nan=False,
    )
    ratio_spread: float = table_key(
        "zram: how unlike compressible pages are: sigma of the log-normal distribution of their sizes",
        "",
        CompressionSpec.spread,
        ge=0,
        le=3,
        allow_inf_nan=False,
    )
    incompressible_share: Share = table_key(
        "zram: share of the pages that are stored as they are", "share", CompressionSpec.incompressible_share
    )
    same_filled_share: Share = table_key(
        "zram: share of the pages whose words are all the same, which take nothing",
        "share",
        CompressionSpec.same_filled_share,
    )

    @model_validator(mode="after")
    def _check_size(self) -> Swap:
        if self.size and self.device == "none":
            raise UserError('size is there, but device = "none" is no swap at all: leave one of the two out')
        if self.pool_limit and self.device != "zram":
            raise UserError(f'pool_limit is of zram, but device = "{self.device}": leave it out')
        return self

    @model_validator(mode="after")
    def _check_shares(self) -> Swap:
        if self.incompressible_share + self.same_filled_share > 1:
            raise UserError(
                f"incompressible_share {self.incompressible_share} and same_filled_share {self.same_filled_share} "
                "are more than 1 together"
            )
        return self


class HugePages(Table):
    """What a host does for guests that may have huge pages (guest.huge_pages), as in transparent_hugepage/."""

    defrag: Literal["never", "defer", "defer+madvise", "madvise", "always"] = table_key(
        "whether a first touch reclaims for a huge page that there is no room for: never, always, or if the VMM asked "
        "(madvise); defer and defer+madvise wake kswapd where they don't. Otherwise it gets a small page",
        default=HugePageSpec.defrag,
    )
    khugepaged: Switch = table_key("on: khugepaged makes huge pages of small ones again", default="on")
    every_ticks: Count = table_key(
        "how often khugepaged wakes up: scan_sleep_millisecs is 10 s", "ticks", HugePageSpec.every_ticks
    )
    pages_to_scan: int = table_key(
        "pages that it looks at then, a page table at a time", "pages", HugePageSpec.pages_to_scan, ge=512, lt=2**31
    )
    max_ptes_none: int = table_key(
        "of the 512 pages of a new huge page, how many may be absent: neither in memory nor in swap",
        "pages",
        HugePageSpec.max_ptes_none,
        ge=0,
        le=511,
    )
    max_ptes_swap: int = table_key(
        "of the 512 pages of a new huge page, how many may be in swap; they are read",
        "pages",
        HugePageSpec.max_ptes_swap,
        ge=0,
        le=511,
    )


class Clock(Table):
    """How time passes on the hosts."""

    mode: Literal["replay", "timed"] = table_key(
        "replay: all accesses of a tick are made, nothing takes time; timed: guests run on vCPUs, and all work takes "
        "time, so that guests can fall behind and an aging pass can last many ticks",
        default="replay",
    )
    tick: Time = table_key('length of a tick, such as "250 ms"', "ns", 10**9)
    access: Time = table_key(
        'vCPU time of an access and of the work between it and the next, such as "1 us"', "ns", 1000
    )
    vcpus: int = table_key(
        "virtual CPUs of a guest; classes of guests have a key of their own", "vCPUs", 1, ge=1, le=MAX_CPUS
    )
    pcpus: int = table_key(
        "CPUs of a host, which vCPUs and kernel threads share; 0: one for each thread", "CPUs", 0, ge=0, le=MAX_CPUS
    )
    batch: int = table_key(
        "accesses that a vCPU makes at a time; their latency is measured",
        "accesses",
        1024,
        ge=1,
        le=MAX_ACCESSES_PER_TICK,
    )


class Host(Table):
    """How much memory hosts have, and how they are simulated."""

    memory: AnyMemory = table_key(
        'a host\'s memory for its guests, such as "64 GiB", with kswapd; "0 pages": as much as they need, but what '
        'reclaim.mode = "host" leaves them: their memory over overcommit, or that of the host\'s class',
        "pages",
        0,
    )
    hugetlb: AnyMemory = table_key(
        "what of a host's memory is reserved for hugetlbfs (nr_hugepages): no guest gets it, and it is never reclaimed",
        "pages",
        0,
    )
    watermark_scale_factor: int = table_key(
        "sysctl watermark_scale_factor: parts in 10,000 of the memory between two watermarks", "", 10, ge=1, le=3000
    )
    sample: SampleShare = table_key(
        'share of each guest\'s page tables that is simulated: "1" for all of them, "1/16", "1/64"; the counters are '
        "scaled, and have intervals",
        default="1",
    )


class Output(Table):
    """Which tables the results have beside cells, hosts and guests."""

    epochs: Switch = table_key(
        "on: a table epochs, which has a row for every tick of each host; where guests come and go also a table fleet, "
        "which has one for every tick of all hosts together",
        default="off",
    )
    every_ticks: Count = table_key("such a row only every so many ticks, and for the last one", "ticks", 1)

    def rows(self, ticks: int) -> list[int]:
        """The ticks of a run that have such a row."""
        every = range(self.every_ticks, ticks + 1, self.every_ticks)
        return [*every, *([] if ticks % self.every_ticks == 0 else [ticks])] if self.epochs == "on" else []


class Scheme(Table):
    """The regions that DAMOS acts on, and how much at a time; the defaults are those of DAMON_RECLAIM."""

    min_size: AnyMemory = table_key("size of a region, at least", "pages", PageoutSpec.min_size)
    max_size: AnyMemory = table_key('the same, at most; "0 pages": any', "pages", PageoutSpec.max_size)
    min_nr_accesses: Tick = table_key(
        "samples of an aggregation that found it young, at least", "samples", PageoutSpec.min_nr_accesses
    )
    max_nr_accesses: Tick = table_key("the same, at most", "samples", PageoutSpec.max_nr_accesses)
    min_age: Tick = table_key(
        "aggregations for which that has changed little, at least: 120 s over 100 ms",
        "aggregations",
        PageoutSpec.min_age,
    )
    max_age: Tick = table_key("the same, at most; 0: any number", "aggregations", PageoutSpec.max_age)
    quota: AnyMemory = table_key(
        'how much it tries in a window, the oldest regions first; "0 pages": no limit', "pages", PageoutSpec.quota
    )
    quota_window: Count = table_key(
        "length of such a window: 1 s over 100 ms", "aggregations", PageoutSpec.quota_window
    )
    wmarks_high: Thousandth = table_key(
        "free part of host.memory above which DAMON rests; without host.memory it never does",
        "1/1000",
        PageoutSpec.wmarks_high,
    )
    wmarks_mid: Thousandth = table_key("the same, below which it starts", "1/1000", PageoutSpec.wmarks_mid)
    wmarks_low: Thousandth = table_key("the same, below which it rests", "1/1000", PageoutSpec.wmarks_low)

    @model_validator(mode="after")
    def _check(self) -> Scheme:
        PageoutSpec(**self.model_dump())
        return self


class Monitor(Table):
    """An access monitor: who else, beside MGLRU, asks for Accessed bits."""

    kind: Literal["none", "idle", "damon-vaddr", "damon-paddr", "khugepaged"] = table_key(
        "idle: idle page tracking of all pages; damon: one sample a region and tick; khugepaged: eight tables a time",
        default="none",
    )
    every_ticks: Count = table_key("how often it does so", "ticks", 1)
    sample_interval: AnyTime = table_key(
        'the same on a clock, such as "5 ms", which is DAMON\'s; "0 ns": as every_ticks says', "ns", 0
    )
    aggregation_samples: Count = table_key(
        "damon: samples of an aggregation, after which regions merge and split: 100 ms over 5 ms",
        "samples",
        DamonSpec.samples_per_aggregation,
    )
    aggregation_interval: AnyTime = table_key(
        'damon: the same on a clock, such as "100 ms"; "0 ns": as aggregation_samples says', "ns", 0
    )
    min_nr_regions: int = table_key(
        "damon: no region is larger than the memory over this",
        "regions",
        DamonSpec.min_nr_regions,
        ge=LEAST_REGIONS,
        lt=2**31,
    )
    max_nr_regions: Count = table_key(
        "damon: regions that there should be at most", "regions", DamonSpec.max_nr_regions
    )
    action: Literal["none", "pageout"] = table_key(
        "damon: what DAMOS does with the regions that fit monitor.scheme; pageout: as DAMON_RECLAIM", default="none"
    )
    scheme: Scheme = Scheme()

    @model_validator(mode="after")
    def _check(self) -> Monitor:
        self.damon(self.aggregation_samples)
        return self

    def damon(self, samples: int) -> DamonSpec:
        """DAMON with so many samples an aggregation; raises UserError for what the kernel refuses."""
        pageout = PageoutSpec(**self.scheme.model_dump()) if self.action == "pageout" else None
        return DamonSpec(self.min_nr_regions, self.max_nr_regions, samples, pageout)

    def intervals(self, clock: Clock) -> tuple[int, int]:
        """Ticks between two samples, and samples of an aggregation; raises UserError if they aren't whole numbers."""
        if clock.mode != "timed" and (self.sample_interval or self.aggregation_interval):
            raise UserError(
                'monitor.sample_interval and aggregation_interval are times: set clock.mode = "timed", or count with '
                "every_ticks and aggregation_samples"
            )
        ticks = _count_in("monitor.sample_interval", self.sample_interval, "clock.tick", clock.tick) or self.every_ticks
        sample = "a sampling interval", ticks * clock.tick
        return ticks, _count_in("monitor.aggregation_interval", self.aggregation_interval, *sample) or (
            self.aggregation_samples
        )


def _count_in(key: str, whole_ns: int, what: str, part_ns: int) -> int:
    if whole_ns % part_ns:
        raise UserError(
            f"{key} {TIME.format(whole_ns)} is no multiple of {what}, {TIME.format(part_ns)}: change one of the two"
        )
    return whole_ns // part_ns
