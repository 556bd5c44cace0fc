"""Every policy against a table written by hand, in every state of a page and its VM, at every site and for every call.

The table is decisions.txt beside this file; its head says how to read it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from coldfleet.hostsim.engine.state import CALLS, FAILED, FLUSHES, LOCKS, PRIMARY, SHADOW, SHADOW_MAPPED, TDP, Machine
from coldfleet.hostsim.memory.host_memory import HostMemory
from coldfleet.policies import POLICIES, Lock, Site, get_policy
from tests.hostsim.one_word import ask_word, consult_word, new_word, set_bits, under

PAGE = 1 << 37  # any bit of the word
SITES = {"walk": Site.WALK, "look": Site.LOOK_AROUND, "evict": Site.EVICT}
OPS = ("clear", "test", "clear fast", "test fast")


@dataclass(frozen=True)
class Row:
    condition: str
    young: str
    cleared: str
    spent: str
    calls: tuple[int, int]
    looks: str = "0"


@dataclass
class State:
    """One state of the table: letters are true or not."""

    p: bool
    t: bool
    s: bool
    mapped: bool
    ever: bool
    now: bool
    tdp: bool
    letters: dict[str, bool] = field(init=False)

    def __post_init__(self) -> None:
        e, n = self.ever or not self.tdp, self.now or not self.tdp
        self.letters = {"P": self.p, "T": self.t and self.tdp, "S": self.s, "D": self.tdp, "E": e, "N": n, "1": True}

    def fits(self, row: Row) -> bool:
        words = [] if row.condition == "*" else row.condition.split()
        return all(self.letters[word.strip("!")] != word.startswith("!") for word in words)

    def says(self, expression: str) -> bool:
        return any(self.letters.get(letter, False) for letter in expression.split("|"))


ALL_STATES = [State(*bits) for bits in itertools.product((False, True), repeat=7)]


def read_table() -> dict[str, dict[str, list[Row]]]:
    """The rows of each policy and site, "scan" taken for both walk and look."""
    table: dict[str, dict[str, list[Row]]] = {}
    names: list[str] = []
    for line in (Path(__file__).parent / "decisions.txt").read_text().splitlines():
        if line.startswith("["):
            names = [name.strip() for name in line.strip("[]").split(",")]
            table.update({name: {} for name in names})
        elif line and not line.startswith("#"):
            site, condition, *rest = (cell.strip() for cell in line.split(" | "))
            young, cleared, spent, calls, *looks = rest
            made, failed = map(int, calls.split())
            row = Row(condition, young, cleared, spent, (made, failed), *looks)
            for name, where in itertools.product(names, ("walk", "look") if site == "scan" else (site,)):
                table[name].setdefault(where, []).append(row)
    return table


TABLE = read_table()


@pytest.fixture(scope="module")
def one_word() -> HostMemory:
    return new_word()


def test_every_policy_is_in_the_table() -> None:
    assert TABLE.keys() == POLICIES.keys()
    assert all({*SITES, "clear", "test"} <= sites.keys() for sites in TABLE.values())


def decide(memory: HostMemory, name: str, state: State) -> Machine:
    m = under(memory, get_policy(name), ever=state.ever, now=state.now, tdp=state.tdp)
    set_bits(m, p=PAGE * state.p, t=PAGE * state.t, s=PAGE * state.s, mapped=PAGE * state.mapped)
    return m


def check(m: Machine, row: Row, state: State, site: Site, young_by_kvm: bool) -> None:
    """What is left and what was spent are the row's."""
    cleared = row.cleared.replace("T", "T" if state.tdp else "")
    for letter, column, before in (("P", PRIMARY, state.p), ("T", TDP, state.t), ("S", SHADOW, state.s)):
        assert int(m.bits[0, column]) == PAGE * (before and letter not in cleared), (state, letter)
    assert int(m.bits[0, SHADOW_MAPPED]) == PAGE * state.mapped
    counted = m.sites[0, site]
    assert (counted[CALLS], counted[FAILED]) == row.calls, state
    spent = Counter(row.spent)
    assert counted[FLUSHES] == spent["F"] * young_by_kvm, state
    assert counted[LOCKS + Lock.MMU_WRITE] == spent["W"], state
    assert counted[LOCKS + Lock.RCU] == spent["r"] * state.tdp + spent["R"], state
    assert counted[LOCKS + Lock.RMAP] == spent["b"] * state.mapped, state
    assert counted[LOCKS + Lock.MMU_READ] == 0
    assert m.sites[0].sum() == counted.sum()


@pytest.mark.parametrize("where", SITES)
@pytest.mark.parametrize("name", POLICIES)
def test_a_site_decides_as_the_table_says(one_word: HostMemory, name: str, where: str) -> None:
    for state in ALL_STATES:
        row = next(row for row in TABLE[name][where] if state.fits(row))
        m = decide(one_word, name, state)
        young, looks = ask_word(m, PAGE, SITES[where])
        assert young == PAGE * state.says(row.young), (state, row)
        if where == "evict":
            assert looks == PAGE * state.says(row.looks), (state, row)
        says = State(False, state.t, state.s, state.mapped, state.ever, state.now, state.tdp).says(row.young)
        check(m, row, state, SITES[where], says)


@pytest.mark.parametrize(("name", "op"), [(name, op) for name in POLICIES for op in OPS if op in TABLE[name]])
def test_a_call_answers_as_the_table_says(one_word: HostMemory, name: str, op: str) -> None:
    for state in ALL_STATES:
        row = next(row for row in TABLE[name][op] if state.fits(row))
        m = decide(one_word, name, state)
        young, _, failed = consult_word(m, PAGE, clear="clear" in op, fast_only="fast" in op)
        assert young == PAGE * state.says(row.young), (state, row)
        assert failed == PAGE * row.calls[1], (state, row)
        check(m, row, state, Site.EVICT, False)
