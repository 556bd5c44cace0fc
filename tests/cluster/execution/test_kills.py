"""Sixty kills at random moments: of the command, its workers, and Ray's own processes, by four signals.

After each the command goes on, or ends in bounded time with a documented exit code and one line. At the end the tables
are those of a sweep that nobody disturbed. ``CHAOS_SEED`` chooses other moments.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from coldfleet.cluster.execution.batching import IN_FLIGHT
from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.interrupt import LOST
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.results.schemas import TABLES
from coldfleet.cluster.results.verify import verify
from coldfleet.cluster.study.reader import read_study

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

KILLS = 60
WITHIN_S = 60.0
DUMPS = ("Traceback", "***", "logging.cc", "core_worker", "rpc_client", "(raylet)")
TARGETS = ("command", "worker", "gcs_server", "raylet")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
STUDY = """\
title = "killed"
seed = 11
replicates = 50
ticks = 40
overcommit = 1.5
nested_ratio = 0.5

[fleet]
hosts = 1
guests_per_host = 4

[guest]
memory = "16 MiB"
accesses_per_tick = 16384

[grid]
policy = ["evict-only", "locked-6.12", "lockless-6.15"]
"""


class Victim:
    """A sweep in a directory that goes on until all is done; then the next, in a new one."""

    def __init__(self, study: Path, place: Path, chance: random.Random) -> None:
        self.study, self.place, self.chance = study, place, chance
        self.done: list[Path] = []
        self.start()

    @property
    def out(self) -> Path:
        return self.place / f"out{len(self.done)}"

    def start(self) -> None:
        begun = (self.out / "study.json").exists()
        what = ["resume", self.out] if begun else ["sweep", self.study, "--out", self.out]
        command = [sys.executable, "-m", "coldfleet", *map(str, what), "--workers", "2"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def receipts(self) -> int:
        journal = self.out / "journal.jsonl"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    def works(self) -> None:
        """Waits for a new receipt; where all is done, goes on with another directory."""
        before, deadline = self.receipts(), time.monotonic() + 180
        while self.receipts() <= before:
            assert time.monotonic() < deadline, "the sweep doesn't move"
            if self.process.poll() is not None:
                self.finish()
                before = 0
            time.sleep(0.05)

    def finish(self) -> None:
        assert self.end() == 0
        self.done.append(self.out)
        self.start()

    def end(self) -> int:
        """Waits for the end of the command, and looks at what it said."""
        out, said = self.process.communicate(timeout=600)
        assert not any(dump in said + out for dump in DUMPS), said + out
        code = self.process.returncode
        if code not in (0, -signal.SIGKILL):
            last = said.splitlines()[-1]
            assert sum(line.startswith("coldfleet: ") for line in said.splitlines()) == 1, said
            assert "continue with: coldfleet resume" in last or "run the same command again" in last
        return code

    def targets(self, kind: str) -> list[int]:
        if kind == "command":
            return [self.process.pid]
        found = []
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    name = "worker" if "HostActor" in child.cmdline()[0] else child.name()
                    found += [child.pid] if name == kind else []
        return found

    def hit(self, kind: str, number: signal.Signals) -> str:
        """Kills, and returns the outcome: the exit code, or that the sweep went on."""
        family = [self.process.pid, *(pid for each in TARGETS for pid in self.targets(each))]
        if not (pids := self.targets(kind)):
            return "was over"
        os.kill(self.chance.choice(pids), number)
        struck, before = time.monotonic(), self.receipts()
        while time.monotonic() - struck < WITHIN_S:
            if self.process.poll() is not None:
                if self.process.returncode == 0:
                    over = self.receipts() - before <= 2 * IN_FLIGHT  # all was done or in flight when it was struck
                    self.finish()
                    return "was over" if over else "went on"
                code = self.end()
                assert _all_gone(family), "processes are left"
                self.start()
                return f"exit {code}"
            survives = kind == "worker" or (kind != "command" and number is signal.SIGINT)
            if survives and time.monotonic() - struck > 3 and self.receipts() > before:
                return "went on"
            time.sleep(0.05)
        raise AssertionError(f"{kind} {number.name}: nothing for {WITHIN_S:.0f} s")


def _all_gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while alive := [pid for pid in pids if psutil.pid_exists(pid)]:
        if time.monotonic() > deadline:
            print("left:", [psutil.Process(pid).cmdline()[:2] for pid in alive])
            return False
        time.sleep(0.1)
    return True


EXPECTED = {
    "command": {
        signal.SIGKILL: "exit -9",
        signal.SIGTERM: "exit 143",
        signal.SIGHUP: "exit 129",
        signal.SIGINT: "exit 130",
    },
    "worker": dict.fromkeys(SIGNALS, "went on"),
    # Ray's own processes leave SIGINT to the command
    "gcs_server": {number: f"exit {LOST}" if number is not signal.SIGINT else "went on" for number in SIGNALS},
    "raylet": {number: f"exit {LOST}" if number is not signal.SIGINT else "went on" for number in SIGNALS},
}
"""How the command ends, or that it doesn't."""


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    study = tmp_path / "killed.toml"
    study.write_text(STUDY)
    victim = Victim(study, tmp_path, random.Random(int(os.environ.get("CHAOS_SEED", "1"))))
    try:
        yield victim
    finally:
        with victim.process:
            victim.process.kill()


def test_sixty_kills_leave_the_same_tables(victim: Victim, tmp_path: Path) -> None:
    whole = sweep(read_study(victim.study), tmp_path / "whole", SerialExecutor())
    ways = list(itertools.islice(itertools.cycle(itertools.product(TARGETS, SIGNALS)), KILLS))
    victim.chance.shuffle(ways)
    outcomes: Counter[tuple[str, str, str]] = Counter()
    for count, (kind, number) in enumerate(ways, 1):
        if kind == "command" and victim.chance.random() < 0.3 and victim.process.poll() is None:
            time.sleep(2 + victim.chance.random() * 6)  # while it starts
        else:
            victim.works()
            time.sleep(victim.chance.random() * 2)
        begun = time.monotonic()
        outcome = victim.hit(kind, number)
        print(f"{count:2} {kind:10} {number.name:7} {outcome}, {time.monotonic() - begun:.1f} s", flush=True)
        if outcome != "was over":
            assert outcome == EXPECTED[kind][number]
        outcomes[kind, number.name, outcome] += 1
    assert victim.end() == 0
    victim.done.append(victim.out)
    for row, times in sorted(outcomes.items()):
        print(*row, times)
    for out in victim.done:
        results = Results.open(out)
        assert list(verify(results)) == []
        for table in TABLES:
            assert results.table(table).equals(whole.table(table), check_metadata=True)
