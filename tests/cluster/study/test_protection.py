"""Studies of protected guests: what is refused at the door, and how the keys reach the hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldfleet.cluster.study.fleet import build_hosts
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError
from coldfleet.hostsim.spec.host_spec import GuestSpec

HEAD = """\
ticks = 2
replicates = 1
policy = "kernel"
overcommit = 2.0
fleet.hosts = 1
guest.memory = "4 MiB"
"""
ALIKE = HEAD + "fleet.guests_per_host = 2\n"
CLASSES = HEAD + 'fleet.guest.spared = { count = 1, memory_min = "2 MiB" }\nfleet.guest.other = { count = 1 }\n'
HOST = 'reclaim.mode = "host"\n'


def guests_of(path: Path, text: str) -> list[GuestSpec]:
    path.write_text(text)
    return [guest for host in build_hosts(read_study(path).run(0)) for guest in host.guests]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("guest.memory_min = 512", 'memory_min: 512 has no unit: write "512 MiB" or "512 pages"'),
        (HOST + 'guest.memory_min = "5 MiB"', "memory_min 5 MiB is more than the guest's 4 MiB"),
        (HOST + 'guest.memory_low = "5 MiB"', "memory_low 5 MiB is more than the guest's 4 MiB"),
        ('guest.memory_high = "5 MiB"', "memory_high 5 MiB is more than the guest's 4 MiB"),
        (
            HOST + 'guest.memory_high = "1 MiB"\nguest.memory_low = "1 MiB"',
            "memory_high 1 MiB is not above memory_low 1 MiB: a guest would reclaim what is to be left to it",
        ),
        (
            'guest.memory_min = "1 MiB"',
            'guest.memory_min holds against reclaim of the host, and in reclaim.mode "limit" each guest is reclaimed',
        ),
        ('guest.memory_lov = "1 MiB"', "memory_lov.*did you mean.*memory_low"),
    ],
)
def test_what_cannot_be_is_refused(lines: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        guests_of(tmp_path / "s.toml", ALIKE + lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CLASSES + 'scenario = "vm scan, vm zipf"\n', r"says all of its guests: .* leave \[fleet.guest.NAME\] out"),
        (
            ALIKE + 'scenario = "vm scan, vm zipf"\nguest.page_cache.memory = "1 MiB"',
            r"use no file: leave \[guest.page_cache\] out, or leave scenario out and give guests beside page cache",
        ),
    ],
)
def test_what_a_scenario_has_not_is_said_with_what_to_do(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        guests_of(tmp_path / "s.toml", text)


def test_the_keys_reach_guests_that_are_alike(tmp_path: Path) -> None:
    lines = HOST + 'guest.memory_min = "1 MiB"\nguest.memory_low = "2 MiB"\nguest.memory_high = "3 MiB"'
    found = {
        (each.min_pages, each.low_pages, each.high_pages) for each in guests_of(tmp_path / "s.toml", ALIKE + lines)
    }
    assert found == {(256, 512, 768)}


def test_classes_have_their_own_or_what_the_guest_table_says(tmp_path: Path) -> None:
    found = {
        each.name.split("-")[0]: (each.min_pages, each.low_pages)
        for each in guests_of(tmp_path / "s.toml", CLASSES + HOST + 'guest.memory_low = "1 MiB"')
    }
    assert found == {"spared": (512, 256), "other": (0, 256)}


def test_a_class_is_named_where_its_protection_would_do_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fleet\.guest\.spared\.memory_min holds against reclaim of the host"):
        guests_of(tmp_path / "s.toml", CLASSES)


def test_a_scenario_of_several_guests_has_a_memcg_above_them(tmp_path: Path) -> None:
    scenario = 'scenario = "vm hotcold, process scan"\n' + ALIKE + 'guest.memory_low = "1 MiB"\n'
    assert [each.low_pages for each in guests_of(tmp_path / "s.toml", scenario)] == [256, 256]
