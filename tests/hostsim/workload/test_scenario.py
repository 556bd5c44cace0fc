"""Scenarios: guests as the recordings had them, without a recording. Where there is one, the numbers are the same."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.engine.state import ACCESS_PAGE, ACCESS_WRITE
from coldfleet.hostsim.host import simulate_host
from coldfleet.hostsim.replay.observe import COUNTERS
from coldfleet.hostsim.replay.recording import Recording, read_recording
from coldfleet.hostsim.replay.replay import access_lists, first_writes, slots_of
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec, RecordedWorkload
from coldfleet.hostsim.workload.scenario import (
    KINDS,
    WORKLOADS,
    RecordedStream,
    ScenarioGuest,
    parse_scenario,
    recorder_seed,
)

RECORDINGS = Path(__file__).parents[2] / "recordings"
SCENES = [
    path
    for path in sorted(RECORDINGS.glob("*.gz"))
    if not re.search("_thost|_tvm|_vm_.*_limit|duolow|min[0-9]", path.name)
]
"""Those that a scenario can say: no huge pages, no protection, nothing that KVM's caches are charged late."""
KINDS_OF = {"host": "process", "mix": "nested"}  # our names for the recordings' kinds
MODES = {"reclaim": "proactive", "debugfs": "debugfs"}


def study_of(recording: Recording, path: Path) -> Plan:
    """The study that says what a recording did."""
    header = recording.header
    options = (" write" if header.writes else "") + (" ident" if header.layout == "ident" else "")
    mix = "mix-" if header.guests[0].mixed else ""
    guests = [f"{KINDS_OF.get(guest.kind, guest.kind)} {mix}{guest.workload}{options}" for guest in header.guests]
    path.write_text(f"""\
policy = "kernel"
kernel = "{header.kernel}"
scenario = "{", ".join(guests)}"
seed = {header.guests[0].seed}
replicates = 1
ticks = {header.rounds}
overcommit = {len(guests) * header.pages / header.target!r}
fleet = {{ hosts = 1, guests_per_host = {len(guests)} }}
guest = {{ memory = "{header.pages} pages", accesses_per_tick = {header.accesses} }}
reclaim.mode = "{MODES[header.mode]}"
reclaim.lru = "{"mglru" if header.lru_gen else "classic"}"
""")
    return read_study(path)


@pytest.mark.parametrize("path", SCENES, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_a_scene_equals_its_recording(path: Path, tmp_path: Path) -> None:
    recording = read_recording(path)
    usual = [KINDS[KINDS_OF.get(guest.kind, guest.kind)].own_pages for guest in recording.header.guests]
    if [slot.own_pages for slot in slots_of(recording)] != usual:
        pytest.skip("the VMM had a page more than usual")
    run = study_of(recording, tmp_path / "study.toml").run(0)
    result = simulate_host(build_hosts(run)[0], run.cell.policy, seed=run.cell.seed, replicate=0, host=0)
    for number, guest in enumerate(result.guests):
        own = [step for step in recording.steps if step["ev"] != "parent" and recording.guest_of(step) == number]
        assert guest.counters["resident_pages"] == own[-1]["res"]
        for name in COUNTERS:
            assert guest.counters[name] == own[-1]["st"].get(name, 0) - own[0]["st"].get(name, 0), name
        last_of_tick = {step["r"]: step["res"] for step in own}
        assert guest.counters["resident_page_ticks"] == sum(last_of_tick.values()) - last_of_tick[0]


def stream(kind: str, workload: RecordedWorkload, seed: int = 1, guest: int = 0, host: int = 0) -> RecordedStream:
    spec = GuestSpec("", 640, accesses_per_tick=100, kind=kind)
    return RecordedStream(spec, workload, ticks=3, seed=seed, replicate=0, host=host, guest=guest)


@pytest.mark.parametrize("pattern", ["k6.12_nested_hotcold_debugfs_r1", "k6.18_duovm_hotcold-hotcold_reclaim_r2"])
def test_streams_are_the_recorders_lists(pattern: str) -> None:
    header = read_recording(RECORDINGS / f"{pattern}.jsonl.gz").header
    for number, guest in enumerate(header.guests):
        kind = KINDS_OF.get(guest.kind, guest.kind)
        load = RecordedWorkload(guest.workload)
        spec = GuestSpec("", header.pages, accesses_per_tick=header.accesses, kind=kind)
        made = RecordedStream(spec, load, ticks=header.rounds, seed=1, replicate=0, host=0, guest=number)
        assert np.array_equal(made.populate(0), first_writes(header, guest))
        for tick, listed in enumerate(access_lists(header, guest), 1):
            assert len(made.populate(tick)) == 0
            assert np.array_equal(made.draw(tick) & np.uint32(ACCESS_PAGE), listed)


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("kind", KINDS)
def test_only_a_nested_guest_has_an_l2(kind: str, workload: str) -> None:
    made = stream(kind, RecordedWorkload(workload, writes=True))
    accesses = np.concatenate([made.populate(0), made.draw(1), made.draw(2)])
    by_l2 = (accesses >> 31).mean()
    mixed = workload.startswith("mix-")
    assert 0.1 < by_l2 < 0.5 if kind == "nested" and mixed else by_l2 == (kind == "nested")
    assert np.all(accesses & np.uint32(ACCESS_WRITE))
    assert sorted(accesses[:640] & np.uint32(ACCESS_PAGE)) == list(range(640))


def test_other_seeds_guests_and_hosts_make_other_accesses() -> None:
    load = RecordedWorkload("zipf")
    streams = [stream("vm", load), stream("vm", load, seed=2), stream("vm", load, guest=1), stream("vm", load, host=1)]
    assert len({made.draw(1).tobytes() for made in streams}) == len(streams)
    assert stream("process", load).draw(1).tobytes() == stream("vm", load).draw(1).tobytes()
    assert [recorder_seed(1, 0, 0, guest) for guest in (0, 1)] == [1, 101]  # the recordings' duos
    assert recorder_seed(2**63 - 1, 99_999, 2**20 - 1, 999) < 2**64


def test_a_scene_is_read_guest_by_guest() -> None:
    assert parse_scenario("") == ()
    assert parse_scenario(" vm  hotcold,process scan ident write") == (
        ScenarioGuest("vm", "hotcold"),
        ScenarioGuest("process", "scan", ("write", "ident")),
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("vm", "'vm' is not a guest: write its kind and its workload"),
        ("vm hotcold,", "'' is not a guest"),
        ("vmm hotcold", "unknown kind of guest 'vmm' in 'vmm hotcold': did you mean \"vm\"?"),
        ("vm hotcld", "unknown workload 'hotcld' in 'vm hotcld': did you mean \"hotcold\"?"),
        ("vm hotcold writes", "unknown option 'writes' in 'vm hotcold writes': did you mean \"write\"?"),
        ("container zipf", "unknown kind of guest 'container' in 'container zipf': one of process, vm"),
    ],
)
def test_what_is_no_scene_is_refused(text: str, why: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_scenario(text)
    assert str(refused.value).startswith(why)
