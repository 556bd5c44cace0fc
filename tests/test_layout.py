"""The rooms of the project: which packages there are, in which direction imports run between them; groups of tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("cluster", "hostsim", "policies")
ORDER = {
    "cluster": "commands report inspection validation answers execution results study stats",
    "hostsim": "host sampling clock replay published swap monitors workload trace memory mm kvm costs engine spec "
    "counters",
}
"""Of each room, its packages and the modules beside them: each imports only those behind it."""

RAY = {"ray_cluster.py", "ray_executor.py", "ray_jobs.py", "ray_nodes.py"}


def imports(file: Path) -> Iterator[tuple[str, ...]]:
    """The modules of ours that a file imports, without "coldfleet", those inside functions and for types included."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "coldfleet":
            base = tuple(node.module.split(".")[1:])
            yield from ((*base, alias.name) for alias in node.names)  # which may be a module ...
            if len(base) > 1:
                yield base  # ... or come from one
        elif isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")[1:]) for alias in node.names if alias.name.startswith("coldfleet."))


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_rooms_below(room: str) -> None:
    above = ROOMS[: ROOMS.index(room)]
    found = [f"{file}: {'.'.join(name)}" for file in sources(room) for name in imports(file) if name[0] in above]
    assert not found


@pytest.mark.parametrize("room", ORDER)
def test_packages_import_only_packages_below(room: str) -> None:
    order = ORDER[room].split()
    wrong = []
    for file in sources(room):
        inside = file.relative_to(ROOT / room).with_suffix("").parts
        if inside == ("__init__",):
            continue
        for name in imports(file):
            if name[0] == room and len(name) > 1 and order.index(name[1]) < order.index(inside[0]):
                wrong.append(f"{file.relative_to(ROOT)}: {'.'.join(name)}")
    assert not wrong


@pytest.mark.parametrize("room", ORDER)
def test_every_package_has_its_place_in_the_order(room: str) -> None:
    packages = {file.relative_to(ROOT / room).with_suffix("").parts[0] for file in sources(room)} - {"__init__"}
    assert packages == set(ORDER[room].split())


@pytest.mark.parametrize("room", ROOMS)
def test_no_modules_import_each_other_in_a_circle(room: str) -> None:
    known = {(room, *file.relative_to(ROOT / room).with_suffix("").parts): file for file in sources(room)}
    graph = {module: {name for name in imports(file) if name in known} for module, file in known.items()}
    while leaves := {module for module, imported in graph.items() if not imported & graph.keys()}:
        graph = {module: imported for module, imported in graph.items() if module not in leaves}
    assert not graph


def test_ray_stays_in_a_few_files() -> None:
    def names_ray(file: Path) -> bool:
        text = file.read_text()
        return "import ray" in text or 'import_module("ray' in text

    assert {file.name for room in ROOMS for file in sources(room) if names_ray(file)} == RAY


@pytest.mark.xdist_group("a group")
def test_tests_that_share_something_run_in_one_process(request: pytest.FixtureRequest) -> None:
    """pytest-xdist forms groups by what it adds to the ids of tests; else each process would start a Ray of its own."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("tests run in one process, or --dist is not loadgroup")
    assert request.node.nodeid.endswith("@a group")
