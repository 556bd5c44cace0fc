"""What a host is made of, as plain frozen data: the input and the output of a simulation.

A :class:`HostSpec` with a seed decides everything: the same spec and seed give the same result, bit for bit, on any
machine and in any process. A spec with a name that isn't known, or a number that is out of its range, raises UserError
as it is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from coldfleet.hostsim.counters.columns import no_ci95
from coldfleet.hostsim.counters.timing import no_gauges
from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration
from coldfleet.hostsim.spec.checks import (
    COUNT,
    MAX_ACCESSES_PER_TICK,
    MAX_CPUS,
    MAX_HOST_PAGES,
    MAX_PAGE_CLUSTER,
    MAX_SAMPLE,
    MAX_TIME_NS,
    NUMBER,
    PAGES,
    SHARE,
    check_burst,
    check_heat,
    check_kinds,
    check_load_table,
    check_names,
    check_ranges,
)
from coldfleet.hostsim.spec.damon_spec import KERNEL_DAMON, DamonSpec
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.huge_spec import HUGE_PAGES, KERNEL_HUGE_PAGES, HugePageSpec

STACK_PAGES = 33  # of a VMM, 132 KiB: the mapping that hostsim.mm.aging walks
DRAWN_KINDS = ("uniform", "zipf", "hotcold", "scan", "phases", "hotscan")
ORDERED_KINDS = ("stack", "trace", "clone")  # whose accesses depend on those before them
WORKLOAD_KINDS = (*DRAWN_KINDS, "profile", *ORDERED_KINDS)
TRACE_STARTS = ("drawn", "same")
LOADS = ("steady", "bursts", "diurnal", "table")
WORKLOAD_LAYOUTS = ("shuffled", "ordered")
GUEST_KINDS = ("process", "vm", "shadow", "rmap", "nested")
RECORDED_WORKLOADS = ("hotcold", "zipf", "uniform", "scan", "phase", "hotscan", "hotonly", "fixed")
MIX_WORKLOADS = ("mix-hotcold", "mix-zipf")
RECORDED_LAYOUTS = ("perm", "ident")
SUBSCRIBERS = ("kvm", "slow device", "fast device")  # in the order of hostsim.engine.state.KVM and those after it
MONITORS = ("idle", "damon-vaddr", "damon-paddr", "khugepaged")
SWAP_DEVICES = ("zram", "async", "nvme", "remote", "disk", "none")
FILE_DEVICES = ("zram", "async", "nvme", "remote", "disk")
SCHEDULERS = ("usual", "drawn")
RECLAIM_MODES = ("limit", "proactive", "debugfs", "age", "pressure", "host")


Heat = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class DataFile:
    """An imported trace, a Parquet file; ``sha256`` of its bytes (hex) says which, wherever it lies.

    ``path`` "": a little trace that is made up, for trials.
    """

    path: str = field(compare=False)
    sha256: str

    def __post_init__(self) -> None:
        check_kinds(self, path=str, sha256=str)


@dataclass(frozen=True)
class WorkloadSpec:
    """Which pages a guest touches.

    uniform: every page alike. zipf: page of rank k with weight k^-skew. hotcold: ``hot_access_share`` of
    the accesses go to the ``hot_share`` hottest pages, the rest to the others. scan: round and round in
    order. phases: ``hot_access_share`` of the accesses go to a window of ``hot_share`` of the memory that
    moves on by its own size every ``phase_ticks`` ticks, the rest anywhere. hotscan: ``hot_access_share``
    of the accesses go to the hot pages, the rest scan the others. profile: parts of the memory are as hot as
    ``heat`` says, (share of the memory, weight of the accesses to it) each, or as in the trace ``file``. stack: an
    access goes to one of the ``hot_share`` most recently used pages with probability ``hot_access_share``; LRU misses
    fall with a power of its size. trace: the accesses of ``file``. clone: the same for any size of memory
    (hostsim.workload.stretch).

    ``layout``: "shuffled" scatters the ranks over the memory, "ordered" keeps rank order = address order. A trace and
    a clone have addresses of their own. ``write_share``: of the accesses of which a trace doesn't say it.
    ``l2_process``: the process of the trace whose accesses are L2's in a nested guest; -1: as NestedSpec says.
    ``start``: where in the trace a guest begins, one of TRACE_STARTS.

    ``load``, ``load_ticks``, ``load_swing``, ``load_phase``, ``load_table``: how the accesses are spread over the
    ticks, one of LOADS. ``set_ticks``, ``set_least``, ``set_phase``: in how many ticks the memory that is accessed
    becomes smaller and larger again (0: it stays all of it), its least share, and where in that the host begins; not
    for ORDERED_KINDS. hostsim.workload.load has the formulas of both.
    """

    kind: str = "zipf"
    skew: float = 0.9
    hot_share: float = 0.2
    hot_access_share: float = 0.8
    phase_ticks: int = 6
    write_share: float = 0.0
    layout: str = "shuffled"
    heat: Heat = ()
    file: DataFile | None = None
    l2_process: int = -1
    start: str = "drawn"
    load: str = "steady"
    load_ticks: int = 12
    load_swing: float = 0.8
    load_phase: float = 0.0
    load_table: tuple[float, ...] = ()
    set_ticks: int = 0
    set_least: float = 0.25
    set_phase: float = 0.0

    def __post_init__(self) -> None:
        check_names("kind of workload", [self.kind], WORKLOAD_KINDS)
        check_names("start in a trace", [self.start], TRACE_STARTS)
        check_names("load", [self.load], LOADS)
        check_kinds(self, heat=tuple, file=(DataFile, type(None)))
        check_names("layout of a workload", [self.layout], WORKLOAD_LAYOUTS)
        check_ranges(
            self,
            skew=(0.0, 10.0),
            hot_share=SHARE,
            hot_access_share=SHARE,
            phase_ticks=COUNT,
            write_share=SHARE,
            l2_process=(-1, 2**63 - 1),
            load_ticks=COUNT,
            load_swing=SHARE,
            load_phase=SHARE,
            set_ticks=NUMBER,
            set_least=SHARE,
            set_phase=SHARE,
        )
        check_load_table(self)
        check_heat(self.heat)
        if self.set_ticks and self.kind in ORDERED_KINDS:
            raise UserError(f"a workload of kind {self.kind!r} has a working set of its own: leave out set_ticks")
        if self.kind in ("trace", "clone") and self.file is None:
            raise UserError(f"a workload of kind {self.kind!r} takes a trace: give file")
        if self.kind == "profile" and bool(self.heat) == (self.file is not None):
            raise UserError("a workload of kind 'profile' takes heat or a file: give one of the two")


@dataclass(frozen=True)
class RecordedWorkload:
    """The accesses of the recordings of real kernels: ``kind`` is one of RECORDED_WORKLOADS or MIX_WORKLOADS.

    ``layout``: one of RECORDED_LAYOUTS (hostsim.workload.schedule). ``writes``: the rounds' accesses write.
    """

    kind: str
    layout: str = "perm"
    writes: bool = False

    def __post_init__(self) -> None:
        check_names("recorded workload", [self.kind], (*RECORDED_WORKLOADS, *MIX_WORKLOADS))
        check_names("layout of a recording", [self.layout], RECORDED_LAYOUTS)


@dataclass(frozen=True)
class NestedSpec:
    """How a guest uses a nested VM (L2).

    ``access_share`` of the guest's accesses are made by L2, to the ``exposed_share`` of its memory that L1
    has mapped into L2. ``l2_only_share`` of the guest's memory (at most ``exposed_share``) is touched by L2
    only, never by L1. All shares are 0..1. L2 runs in ticks ``start_tick`` <= t < ``stop_tick`` (0: to the end).
    """

    access_share: float = 0.5
    exposed_share: float = 0.5
    l2_only_share: float = 0.25
    start_tick: int = 0
    stop_tick: int = 0

    def __post_init__(self) -> None:
        shares = {"access_share": SHARE, "exposed_share": SHARE, "l2_only_share": SHARE}
        check_ranges(self, **shares, start_tick=NUMBER, stop_tick=NUMBER)
        if self.l2_only_share > self.exposed_share:
            raise UserError(f"l2_only_share {self.l2_only_share} is more than exposed_share {self.exposed_share}")


@dataclass(frozen=True)
class VmSpec:
    """What KVM makes of a guest, and who else looks at its memory.

    ``tdp``: the TDP MMU is on (tdp_mmu). ``accessed_bits``: KVM uses A/D bits (kvm_intel.eptad).
    ``l1_shadow_paging``: L1 shadows its L2's page tables, so that KVM maps L2's accesses in the TDP MMU.
    ``subscribers``: the notifier chain of the mm in the order in which it is asked: "kvm", "slow device",
    "fast device". ``device_share``: accesses of each device, as a share of the guest's.
    ``shared_share`` of the pages have ``shared_by`` SPTEs wherever the shadow MMU maps them: several L2s, or several
    processes without the TDP MMU. ``no_ad_share`` of the pages have shadow SPTEs without A/D bits (L1's EPTP12).
    ``tlb_hit``: an access to a page whose Accessed bit was cleared is served by a TLB. ``race``: a writer of the SPTE
    undoes what has just been done to the Accessed bit. ``lock_contended``: somebody else holds mmu_lock. All three are
    probabilities. ``numa_zap_share`` of the guest's page tables are zapped by NUMA balancing in every tick.
    ``l1_huge_pages``: the page tables that the shadow MMU shadows map 2 MiB at a time where the host does.
    ``split_share``: share of the guest's 2 MiB, evenly spread, that KVM maps by SPTEs of 4 KiB even if they are huge.
    ``truth``: writes down when every page was touched, and measures ages, evictions and cold pages against that.
    """

    tdp: bool = True
    accessed_bits: bool = True
    l1_shadow_paging: bool = False
    subscribers: tuple[str, ...] = ("kvm",)
    device_share: float = 0.0
    shared_share: float = 0.0
    shared_by: int = 2
    no_ad_share: float = 0.0
    tlb_hit: float = 0.0
    race: float = 0.0
    lock_contended: float = 0.0
    numa_zap_share: float = 0.0
    truth: bool = False
    l1_huge_pages: bool = True
    split_share: float = 0.0

    def __post_init__(self) -> None:
        check_kinds(self, subscribers=(tuple, list))
        check_names("subscriber", self.subscribers, SUBSCRIBERS)
        check_ranges(
            self,
            device_share=SHARE,
            shared_share=SHARE,
            shared_by=(1, 1024),
            no_ad_share=SHARE,
            tlb_hit=SHARE,
            race=SHARE,
            lock_contended=SHARE,
            numa_zap_share=SHARE,
            split_share=SHARE,
        )

    @cached_property
    def extras(self) -> bool:
        """Whether the guest needs more than the plain kernels: all that a plain VM may have is tdp on or off."""
        plain = VmSpec(shared_by=self.shared_by, l1_huge_pages=self.l1_huge_pages, split_share=self.split_share)
        return self != replace(plain, tdp=self.tdp)


@dataclass(frozen=True)
class PageCacheSpec:
    """A file of ``pages`` 4 KiB pages that the guest's process (its VMM, a database) uses through the page cache.

    ``access_share`` of the guest's accesses go to it, after those to its memory in each tick; ``kind`` says to which
    pages, with the other figures of the guest's workload. The first ``mmap_share`` of the file is accessed through a
    mapping, the rest by read(2) and write(2). ``write_share`` of the accesses write. ``device``: one of FILE_DEVICES,
    where the file is; guests of a host with the same kind share one, which isn't that of swap. ``readahead_pages``: the
    most that is read at a time (read_ahead_kb); 0: the page that is asked for.
    """

    pages: int
    access_share: float = 0.2
    kind: str = "zipf"
    mmap_share: float = 0.0
    write_share: float = 0.0
    device: str = "nvme"
    readahead_pages: int = 0

    def __post_init__(self) -> None:
        check_names("kind of workload", [self.kind], DRAWN_KINDS)
        check_names("device for files", [self.device], FILE_DEVICES)
        shares = {"access_share": SHARE, "mmap_share": SHARE, "write_share": SHARE}
        check_ranges(self, pages=COUNT, **shares, readahead_pages=NUMBER)


@dataclass(frozen=True)
class GuestSpec:
    """One guest: a memslot of ``memory_pages`` 4 KiB pages in a memcg of its own.

    ``limit_pages``: memory.max (mode "limit") or the size that reclaim brings the guest back to after every
    tick (modes "proactive" and "debugfs"); 0: none. ``min_pages``, ``low_pages``: memory.min and memory.low, which hold
    against reclaim of the host or of the memcg above, not against memory.max; ``high_pages``: memory.high (0: none of
    them). ``kind``: "vm" (KVM), "process" (no secondary MMU) or another of
    GUEST_KINDS (hostsim.workload.scenario.KINDS). ``own_pages``: anonymous pages of its VMM, on its stack, so no more
    than STACK_PAGES; ``kernel_pages``: kernel memory charged to it. ``recorded``: what the guest does if not
    ``workload``. ``vcpus``: virtual CPUs, of use to a clock only. ``huge_pages``: whether 2 MiB of the memslot get a
    huge page at the first touch: "never", "madvise" (the VMM asks for them) or "always". ``sample``: this guest is a
    part of another one (hostsim.sampling).
    ``arrives``, ``leaves``: it lives in the ticks ``arrives`` <= t < ``leaves`` of its host (0: to the end). In the
    first it populates its memory, which takes no time in tick 0 of the host alone; then its workload begins.
    """

    name: str
    memory_pages: int
    limit_pages: int = 0
    accesses_per_tick: int = 8192
    kind: str = "vm"
    workload: WorkloadSpec = field(default_factory=WorkloadSpec)
    recorded: RecordedWorkload | None = None
    nested: NestedSpec | None = None
    own_pages: int = 0
    kernel_pages: int = 0
    page_cache: PageCacheSpec | None = None
    vcpus: int = 1
    vm: VmSpec = field(default_factory=VmSpec)
    sample: SampleOf | None = None
    min_pages: int = 0
    low_pages: int = 0
    high_pages: int = 0
    huge_pages: str = "never"
    arrives: int = 0
    leaves: int = 0

    def __post_init__(self) -> None:
        check_names("kind of guest", [self.kind], GUEST_KINDS)
        check_names("huge pages", [self.huge_pages], HUGE_PAGES)
        check_ranges(
            self,
            memory_pages=COUNT,
            limit_pages=NUMBER,
            min_pages=NUMBER,
            low_pages=NUMBER,
            high_pages=NUMBER,
            accesses_per_tick=(0, MAX_ACCESSES_PER_TICK),
            own_pages=(0, STACK_PAGES),
            kernel_pages=NUMBER,
            vcpus=(1, MAX_CPUS),
            arrives=NUMBER,
            leaves=NUMBER,
        )
        if 0 < self.leaves <= self.arrives:
            raise UserError(
                f"guest {self.name!r:.80} arrives in tick {self.arrives} and leaves in tick {self.leaves}: let it "
                "leave later, or never (leaves = 0)"
            )
        none = type(None)
        check_kinds(self, name=str, workload=WorkloadSpec, vm=VmSpec, recorded=(RecordedWorkload, none))
        check_kinds(self, nested=(NestedSpec, none), page_cache=(PageCacheSpec, none), sample=(SampleOf, none))
        check_burst(self.workload, self.workload.load_table, self.accesses_per_tick)

    def life(self, ticks: int) -> range:
        """The ticks in which it lives, of a host that runs from tick 0 to ``ticks``."""
        return range(self.arrives, self.leaves or ticks + 1)

    @property
    def part(self) -> int:
        """Which part of a sample it is; 0 without one. It names the guest's random numbers, beside its own number."""
        return self.sample.group if self.sample else 0


@dataclass(frozen=True)
class SampleOf:
    """What a sampled guest is a part of: its pages have every so-manyth rank of the workload of the guest ``of``.

    ``start``: where they begin, 0..1 of the distance. ``group``: the parts of a sample have their own random numbers.
    """

    of: GuestSpec
    start: float
    group: int


@dataclass(frozen=True)
class ClockSpec:
    """How time passes (hostsim.clock.host_clock).

    ``tick_ns``: length of a tick. ``access_ns``: vCPU time of an access and the work between it and the next.
    ``pcpus``: CPUs of the host; 0: as many as there are threads. ``batch``: accesses that a vCPU makes at a time; what
    they cost is known afterwards. ``free``: nothing takes time.
    """

    tick_ns: int = 1_000_000_000
    access_ns: int = 1000
    pcpus: int = 0
    batch: int = 1024
    free: bool = False

    def __post_init__(self) -> None:
        times = {"tick_ns": (1, MAX_TIME_NS), "access_ns": (1, MAX_TIME_NS)}
        check_ranges(self, **times, pcpus=(0, MAX_CPUS), batch=(1, MAX_ACCESSES_PER_TICK))


@dataclass(frozen=True)
class CompressionSpec:
    """What zram makes of pages (hostsim.swap.zram). All figures are assumed: those of a fleet depend on what it runs.

    ``ratio``: size of a page over the mean size of a compressible page when it is compressed; ``spread``: sigma of the
    log-normal distribution of the latter. ``incompressible_share`` of the pages are stored as they are, and
    ``same_filled_share`` take nothing, because all of their words are the same. 3 to 1 is about what Lagar-Cavilla et
    al. (ASPLOS 2019) save with compressed far memory, 67 %; with the incompressible pages it is 2.5 to 1 over all, and
    the kernel's Documentation/admin-guide/blockdev/zram.rst expects 2 to 1.
    """

    ratio: float = 3.0
    spread: float = 0.4
    incompressible_share: float = 0.1
    same_filled_share: float = 0.0

    def __post_init__(self) -> None:
        shares = {"incompressible_share": SHARE, "same_filled_share": SHARE}
        check_ranges(self, ratio=(1.0, 100.0), spread=(0.0, 3.0), **shares)
        if self.incompressible_share + self.same_filled_share > 1:
            raise UserError(
                f"incompressible_share {self.incompressible_share} and same_filled_share {self.same_filled_share} "
                "are more than 1 together"
            )


@dataclass(frozen=True)
class HostSpec:
    """One hypervisor host: its kernel (a name for hostsim.engine.hybrids.get_kernel), guests and reclaim.

    Tick 0 populates every guest's memory in page order; ticks 1..``ticks`` run the workloads.
    mode: "limit" (direct reclaim under memory.max), "proactive" (memory.reclaim after every tick), "debugfs" (`+` and
    `-` of lru_gen after every tick), "age" (every ``period_ticks`` the same, for all that was not touched in the last
    two periods, whatever the limit), "pressure" (every ``period_ticks`` memory.reclaim of a little, the less the
    nearer the guest's PSI some is to ``psi_target`` percent; needs a clock) or "host" (kswapd, by the host's watermarks
    alone). ``aging_every_ticks`` > 0 runs one more `+` that often.
    ``memory_pages``: the host's memory for its guests, with watermarks as the kernel sets them by
    ``watermark_scale_factor`` (hostsim.memory.watermarks), beside whatever the mode does; 0: as much as is needed.
    ``hugetlb_pages`` of it are reserved for hugetlbfs: nobody here gets them, and nothing reclaims them.
    ``monitor``: the access monitor beside MGLRU, one of MONITORS ("": none), which works every ``monitor_every_ticks``;
    DAMON as ``damon`` says, that being its sampling interval.
    ``parent_pages``: what all guests together may keep; mode "limit" or "proactive" then acts on the memcg above
    them (0: on each guest). ``lru_gen``: MGLRU is on, else the classic LRU is in use, which has no mode "debugfs".
    ``scheduler``: what the scheduler decides is as usual, or drawn (hostsim.mm.scheduler).
    ``scenario``: the guests share one CPU, whose batches are drained after every guest's tick.
    ``swap_device``: "zram" writes at once; the others end the writes of a tick with that tick, but those that a reclaim
    waits for; "none": there is no swap. ``swap_pages``: its slots, zram's disksize (0: as many as are needed).
    ``page_cluster``: vm.page-cluster, the logarithm of the most pages that a fault reads from an asynchronous device.
    ``pool_pages``: what zram may take of the host's memory, its mem_limit (0: as much as it needs). ``compression``:
    what zram makes of pages. ``min_ttl_ms``: kswapd calls the OOM killer when all memory is younger; needs a clock,
    and counts from its start: what populated the memory is old. Dirty file pages are written in the tick after the one
    in which the flusher was woken, and every ``flush_every_ticks`` ticks. ``swappiness``: vm.swappiness of all memcgs.
    ``clock``: None for a replay.
    ``sample``: one page table in so many is simulated (hostsim.sampling); 1: all. ``scale``: what a page of a host that
    is such a sample itself stands for; ``call_scale``: how much smaller its reclaim calls are. ``calibration``: the
    cost of work. ``epochs``: keeps how the host stood after every so many ticks, and after the last one; 0: never.
    ``huge_pages``: what the host does for guests that may have huge pages.
    """

    kernel: str
    guests: tuple[GuestSpec, ...]
    ticks: int
    mode: str = "limit"
    aging_every_ticks: int = 0
    period_ticks: int = 6
    psi_target: float = 0.1
    memory_pages: int = 0
    hugetlb_pages: int = 0
    watermark_scale_factor: int = 10
    parent_pages: int = 0
    lru_gen: bool = True
    scheduler: str = "usual"
    scenario: bool = False
    monitor: str = ""
    monitor_every_ticks: int = 1
    damon: DamonSpec = KERNEL_DAMON
    swap_device: str = "zram"
    compression: CompressionSpec = CompressionSpec()
    swap_pages: int = 0
    page_cluster: int = 3
    pool_pages: int = 0
    min_ttl_ms: int = 0
    swappiness: int = 60
    flush_every_ticks: int = 4
    clock: ClockSpec | None = None
    sample: int = 1
    scale: float = 1.0
    call_scale: int = 1
    calibration: Calibration = DEFAULT
    epochs: int = 0
    huge_pages: HugePageSpec = KERNEL_HUGE_PAGES

    def __post_init__(self) -> None:
        check_names("mode of reclaim", [self.mode], RECLAIM_MODES)
        check_names("scheduler", [self.scheduler], SCHEDULERS)
        check_names("access monitor", [self.monitor] if self.monitor else [], MONITORS)
        check_names("swap device", [self.swap_device], SWAP_DEVICES)
        check_ranges(
            self,
            ticks=COUNT,
            aging_every_ticks=NUMBER,
            period_ticks=COUNT,
            psi_target=(0.0, 100.0),
            memory_pages=PAGES,
            hugetlb_pages=(0, self.memory_pages),
            watermark_scale_factor=(1, 3000),
            parent_pages=PAGES,
            monitor_every_ticks=COUNT,
            swap_pages=PAGES,
            page_cluster=(0, MAX_PAGE_CLUSTER),
            pool_pages=PAGES,
            min_ttl_ms=NUMBER,
            swappiness=(0, 201),
            flush_every_ticks=COUNT,
            sample=(1, MAX_SAMPLE),
            scale=(1.0, float(PAGES[1])),
            call_scale=COUNT,
            epochs=NUMBER,
        )
        check_kinds(self, kernel=str, guests=(tuple, list), damon=DamonSpec, compression=CompressionSpec)
        check_kinds(self, huge_pages=HugePageSpec)
        check_kinds(self, clock=(ClockSpec, type(None)), calibration=Calibration)
        if strangers := [guest for guest in self.guests if not isinstance(guest, GuestSpec)]:
            raise UserError(f"HostSpec: guests has {strangers[0]!r:.80}, not a GuestSpec")
        if late := [guest for guest in self.guests if max(guest.arrives, guest.leaves) > self.ticks]:
            raise UserError(
                f"guest {late[0].name!r:.80} arrives in tick {late[0].arrives} and leaves in tick {late[0].leaves} of "
                f"{self.ticks}: give the host more ticks, or the guest leaves = 0, to stay to the end"
            )
        pages = sum(guest.memory_pages + (guest.page_cache.pages if guest.page_cache else 0) for guest in self.guests)
        if pages / self.sample >= MAX_HOST_PAGES:
            raise UserError(
                f"the guests of a host have up to {pages:,} pages; at most {MAX_HOST_PAGES:,} are simulated: "
                "give it fewer or smaller guests, or sample them"
            )


@dataclass(frozen=True)
class GuestResult:
    """What one guest went through; ``counters`` has every name of hostsim.counters.counters.COUNTERS.

    ``access_hash``: uint64 over the guest's whole access stream (page, level, read or write).
    ``step_pages``: for each step of the policy, the number of pages that it acted on. ``gauges``: figures that can't be
    added up, hostsim.counters.timing.GAUGES. ``ci95``: half the widths of the 95 % intervals of
    hostsim.counters.columns.HEADLINE counters, from sampling alone. ``latencies``: how many batches took how long.
    ``oom_tick``, ``oom_reason``: when and why the OOM killer killed it (hostsim.mm.oom_kill.OOM_REASONS); -1 and "":
    it lives.
    """

    name: str
    nested: bool
    access_hash: int
    counters: dict[str, int]
    step_pages: tuple[int, ...]
    gauges: dict[str, float] = field(default_factory=no_gauges)
    ci95: dict[str, float] = field(default_factory=no_ci95)
    latencies: tuple[int, ...] = ()
    oom_tick: int = -1
    oom_reason: str = ""


@dataclass(frozen=True)
class Epoch:
    """How a host stood at the end of a tick: its counters since the start, its gauges, and its free pages.

    ``free_pages``: 0 where the host's memory isn't limited. ``guests``: those that have come, and neither left nor were
    killed; ``guest_pages``: the memory that they were given.
    """

    tick: int
    counters: dict[str, int]
    gauges: dict[str, float]
    free_pages: int
    guests: int
    guest_pages: int


@dataclass(frozen=True)
class HostResult:
    """The guests' results, in the order of the spec, and the host's own gauges, intervals and epochs."""

    guests: tuple[GuestResult, ...]
    gauges: dict[str, float] = field(default_factory=no_gauges)
    ci95: dict[str, float] = field(default_factory=no_ci95)
    epochs: tuple[Epoch, ...] = ()

    def totals(self) -> dict[str, int]:
        """Every counter, summed over the guests."""
        names = self.guests[0].counters
        return {name: sum(guest.counters[name] for guest in self.guests) for name in names}
