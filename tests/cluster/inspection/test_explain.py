"""A page's life from the results of a sweep: the same run again, bit for bit, and what became of a page in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coldfleet.cluster.execution.executor import SerialExecutor
from coldfleet.cluster.execution.sweep import sweep
from coldfleet.cluster.execution.work import guest_rows
from coldfleet.cluster.inspection.explain import choose, explain, rerun_host, stored_guests
from coldfleet.cluster.inspection.judgement import fates, judge
from coldfleet.cluster.results.results import Results
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.engine.state import ACCESS_L2, ACCESS_PAGE
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.hostsim.memory.watch import Instant, PageWatch
from coldfleet.hostsim.spec.errors import UserError
from tests.cluster.conftest import STUDY, Said

Command = Callable[..., Said]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("explain")
    (folder / "small.toml").write_text(STUDY)
    return sweep(read_study(folder / "small.toml"), folder / "out", SerialExecutor())


def nested_cell(plan: Plan) -> str:
    return plan.cell_ids[5]  # six-steps, all guests nested


def test_tells_the_life_of_a_page(swept: Results, coldfleet: Command, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    said = coldfleet("explain", swept.storage, nested_cell(swept.plan), "--replicate", 1, "--host", 0, "--trace", trace)
    assert said.code == 0
    assert "bit for bit" in said.out
    assert "evictions of pages that L2 touched last" in said.out
    assert "mapped for the first time" in said.out
    assert "evicted from generation" in said.out
    events = json.loads(trace.read_text())["traceEvents"]
    assert {"M", "X", "i", "C"} == {event["ph"] for event in events}
    assert {"aging", "eviction", "locks"} <= {event["name"] for event in events}
    times = [event["ts"] for event in events if event["ph"] != "M"]
    assert times == sorted(times)
    assert times[-1] < 5 * 1_000_000  # ticks 0 to 4
    assert any("eviction asked: " in event["name"] for event in events if event.get("cat") == "ask")
    stolen = sum(event["args"].get("pgsteal", 0) for event in events if event["name"] == "eviction")
    rows = swept.table("guests", ["cell_id", "replicate", "host", "pgsteal"]).to_pylist()
    who = (nested_cell(swept.plan), 1, 0)
    assert stolen == sum(row["pgsteal"] for row in rows if (row["cell_id"], row["replicate"], row["host"]) == who)


def test_a_page_of_a_timed_run_has_a_life_too(tmp_path: Path, coldfleet: Command) -> None:
    study = tmp_path / "timed.toml"
    study.write_text(STUDY.replace("[grid]", '[clock]\nmode = "timed"\ntick = "1 ms"\n[grid]'))
    swept = sweep(read_study(study), tmp_path / "out", SerialExecutor())
    run = swept.plan.run(5)
    behind = swept.table("cells", ["cell_id", "behind_ticks"]).to_pylist()
    assert max(row["behind_ticks"] for row in behind if row["cell_id"] == run.cell.cell_id) > 0
    (found,) = explain(swept, [run])
    assert found.judged
    assert [touch.when for touch in found.life.touches] == sorted(touch.when for touch in found.life.touches)
    assert coldfleet("explain", swept.storage, run.cell.cell_id).code == 0


def test_json_has_everything(swept: Results, coldfleet: Command) -> None:
    said = coldfleet("explain", swept.storage, nested_cell(swept.plan), "--guest", 1, "--page", "0x10", "--json")
    life = json.loads(said.out)
    assert (life["guest"], life["page"], life["why"]) == (1, 16, "as given")
    assert life["touches"][0]["when"] == {"tick": 0, "access": 16}
    evictions = [moment for moment in life["moments"] if moment["before"]["present"] > moment["after"]["present"]]
    assert len(evictions) == len(life["evictions"])


def test_evictions_are_judged_by_what_lru_would_have_done(swept: Results) -> None:
    run = swept.plan.run(5)
    (found,) = explain(swept, [run], host=0)
    limit = found.judged[0].limit_pages
    watch = watched(swept, found.guest, found.life.page)
    drawn = [(tick, n, int(a) & ACCESS_PAGE) for tick, accesses in watch.drawn for n, a in enumerate(accesses)]
    recent: dict[int, None] = {}  # the pages, least recently touched first
    in_lru: list[bool] = []  # at each touch of the page but the first: LRU would have had it
    for _, _, page in drawn:
        if page == found.life.page and page in recent:
            in_lru.append(list(recent)[::-1].index(page) < limit)
        recent.pop(page, None)
        recent[page] = None
    whens = [touch.when for touch in found.life.touches]
    for eviction in found.judged:
        if eviction.next_touch is None:
            assert eviction.right
        else:
            assert eviction.right == (not in_lru[whens.index(eviction.next_touch) - 1])
    assert judge(watch.lives[found.life.page], watch, limit) == found.judged
    assert choose([watch], limit) == (found.life.page, found.why)


def test_fates_are_those_of_all_evictions(swept: Results) -> None:
    watch = watched(swept, 1, 0)
    per_tick = 2048  # as the study says
    accesses = [(tick + n / per_tick, int(a)) for tick, drawn in watch.drawn[1:] for n, a in enumerate(drawn)]
    populated = {int(a) & ACCESS_PAGE: int(a) for _, drawn in watch.drawn[:1] for a in drawn}
    waits: dict[bool, list[float]] = {False: [], True: []}
    for eviction in watch.evictions:
        if eviction.when.tick:
            now = eviction.when.tick + eviction.when.access / per_tick
            touches = [(when, a) for when, a in accesses if a & ACCESS_PAGE == eviction.page]
            last = [a for when, a in touches if when < now] or [populated[eviction.page]]
            waits[bool(last[-1] & ACCESS_L2)].append(
                min((when for when, _ in touches if when >= now), default=99) - now
            )
    found = fates(watch)
    assert {each.by_l2: each.evictions for each in found} == {level: len(some) for level, some in waits.items()}
    for each in found:
        some = sorted(waits[each.by_l2])
        middle = some[(len(some) - 1) // 2]
        assert each.wanted_ticks == (pytest.approx(middle) if middle < 50 else None)
        assert each.wanted_in_a_tick == pytest.approx(sum(wait < 1 for wait in some) / len(some))
        assert 0 < each.idle_ticks < 5


def test_a_guest_that_lost_nothing_has_no_fates(swept: Results) -> None:
    watch = watched(swept, 0, 0)
    watch.evictions.clear()
    assert fates(watch) == []


def watched(results: Results, guest: int, page: int) -> PageWatch:
    return rerun_host(results, results.plan.run(5), 0, lambda *a, **o: PageWatch(guest, [page], *a, **o))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--host", 9], "no host 9: the fleet has 0 to 1"), (["--guest", 5], "no guest 5"),
     (["--page", "2000"], "no page 2000: the guest has 0 to 1023"), (["--page", "x"], "write 1234 or 0x4d2"),
     (["--replicate", 7], "the study has 0 to 2"), (["--trace", "/nowhere/t.json"], "/nowhere/t.json")],
)  # fmt: skip
def test_what_there_is_not_is_one_line(
    arguments: list[object], expected: str, swept: Results, coldfleet: Command
) -> None:
    said = coldfleet("explain", swept.storage, nested_cell(swept.plan), *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err


def test_rows_of_another_simulator_are_refused(swept: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*arguments: Any) -> list[dict[str, Any]]:
        return [{**row, "pgmajfault": row["pgmajfault"] + 1} for row in guest_rows(*arguments)]

    monkeypatch.setattr("coldfleet.cluster.inspection.explain.guest_rows", other)
    with pytest.raises(UserError, match="another version of the simulator: guest 0 has pgmajfault"):
        rerun_host(swept, swept.plan.run(0), 0, HostMemory)


def test_every_answer_is_there_with_the_truth(swept: Results) -> None:
    """What each site was told of every page of a guest adds up to what the sites counted, wrong answers too."""
    rows = stored_guests(swept, swept.plan.run(5), 0)
    watch = rerun_host(swept, swept.plan.run(5), 0, lambda *a, **o: PageWatch(1, range(1024), *a, **o))
    asks = [ask for life in watch.lives.values() for ask in life.asks]
    for site in ("walk", "look_around", "evict"):
        told = [ask for ask in asks if ask.site == site]
        assert told
        assert sum(ask.young for ask in told) == rows[1][f"young_{site}"]
        assert sum(ask.touched and not ask.young for ask in told) == rows[1][f"missed_young_{site}"]
        assert sum(ask.young and not ask.touched for ask in told) == rows[1][f"false_young_{site}"]
    assert sum(ask.touched for ask in asks if not ask.site) == rows[1]["missed_young_skipped"]
    for life in watch.lives.values():
        touches = [touch.when for touch in life.touches]
        before = Instant(-1, 0)
        for ask in life.asks:
            if ask.when > before:  # of several asks in one operation only the first can be told from outside
                assert ask.touched <= any(when < ask.when for when in touches)
            before = ask.when


def test_two_policies_side_by_side(swept: Results, coldfleet: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = nested_cell(swept.plan)
    data = json.loads(coldfleet("explain", swept.storage, cell, "--against", "evict-only", "--json").out)
    assert (data["policy"], data["against"]["policy"]) == ("six-steps", "evict-only")
    assert data["touches"] == data["against"]["touches"], "the same page, touched at the same times"
    assert data["moments"] != data["against"]["moments"]
    for columns in (80, 100):
        monkeypatch.setenv("COLUMNS", str(columns))
        said = coldfleet("explain", swept.storage, cell, "--against", "evict-only")
        head = next(line for line in said.out.splitlines() if line.startswith("tick "))
        assert head.split() == ["tick", "touched", "six-steps", "evict-only"]
        assert max(map(len, said.out.splitlines())) <= columns


def test_two_cells_are_compared_by_a_guest_with_the_same_accesses_in_both(swept: Results, coldfleet: Command) -> None:
    plan = swept.plan
    none, half, every = plan.cell_ids[3:]  # six-steps, with a nested_ratio of 0, 0.5 and 1
    of_none, of_half = ([row["access_hash"] for row in stored_guests(swept, plan.run(n), None)] for n in (3, 4))
    alike = [a == b for a, b in zip(of_none, of_half, strict=True)]
    assert 0 < sum(alike) < len(alike), "some guests are nested in the one cell only"
    said = coldfleet("explain", swept.storage, none, "--against", "nested_ratio=0.5")
    assert said.code == 0, said.err
    assert "nested_ratio=0.5" in said.out
    rows = stored_guests(swept, plan.run(3), None)
    for row, same in zip(rows, alike, strict=True):
        who = ("--host", row["host"], "--guest", row["guest"])
        said = coldfleet("explain", swept.storage, none, "--against", "nested_ratio=0.5", *who)
        assert (said.code == 0) is same
        if not same:
            first = rows[alike.index(True)]
            assert said.err == (
                f"coldfleet: guest {row['guest']} of host {row['host']} makes other accesses in cell {half}: "
                f"choose --host {first['host']} --guest {first['guest']}\n"
            )
    said = coldfleet("explain", swept.storage, every, "--against", "nested_ratio=0")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"coldfleet: every guest makes other accesses in cell {none}: choose a key that leaves accesses as they are, "
        "such as policy\n"
    )


@pytest.mark.parametrize(
    ("against", "expected"),
    [("six-steps", "that is the cell's own policy"), ("evict-onyl", "did you mean 'evict-only'?"),
     ("kernel=6.1", "the study has one kernel only: it varies policy, nested_ratio"),
     ("nested_ratio=0.7", "no cell has that nested_ratio"), ("kernl=6.1", "did you mean 'kernel'")],
)  # fmt: skip
def test_what_it_cannot_be_compared_with_is_one_line(
    against: str, expected: str, swept: Results, coldfleet: Command
) -> None:
    said = coldfleet("explain", swept.storage, nested_cell(swept.plan), "--against", against)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert expected in said.err


def test_the_page_is_one_that_shows_the_difference(swept: Results) -> None:
    runs = [swept.plan.run(5), swept.plan.run(2)]
    found = explain(swept, runs)
    host, guest = found[0].host, found[0].guest
    watches = [rerun_host(swept, run, host, lambda *a, **o: PageWatch(guest, range(1024), *a, **o)) for run in runs]
    back = [
        {
            page: sum(moment.faulted_in and moment.before.swapped for moment in life.moments)
            for page, life in each.items()
        }
        for each in (watch.lives for watch in watches)
    ]
    differences = {page: abs(back[0][page] - back[1][page]) for page in back[0]}
    assert differences[found[0].life.page] == max(differences.values()) > 0
    rows = [stored_guests(swept, run, None) for run in runs]
    apart = [abs(a["pgmajfault"] - b["pgmajfault"]) for a, b in zip(*rows, strict=True)]
    chosen = next(n for n, row in enumerate(rows[0]) if (row["host"], row["guest"]) == (host, guest))
    assert apart[chosen] == max(apart)
