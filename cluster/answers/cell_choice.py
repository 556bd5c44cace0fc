"""Which cell of a study is meant: by its id, or by the values that it has."""

from __future__ import annotations

from collections.abc import Mapping

from coldfleet.cluster.answers.question import read_setting
from coldfleet.cluster.results.summary import as_read
from coldfleet.cluster.study.model import as_amount
from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.values import Scalar
from coldfleet.hostsim.spec.errors import UserError, nearest

_SHOWN = 3  # cells in a message
_SHORT = 6  # characters of an id, if they are enough


def find_cell(plan: Plan, beginning: str = "", at: Mapping[str, Scalar] | None = None) -> int:
    """The number of the cell whose id begins so, and that has these values of keys, by name or its end.

    Neither has to be given where a study has one cell. Raises UserError, with a few of the cells that there are, unless
    it is just one.
    """
    wanted = dict(read_setting(f"{name}={value}", plan) for name, value in (at or {}).items())
    settings = " and ".join(f"{path} = {as_read(path, value)}" for path, value in wanted.items())
    for path, value in wanted.items():
        known = [as_amount(path, each) for each in plan.values(path)]
        if value not in known:
            shown = as_read(path, value)
            raise UserError(f"no cell has {path} = {shown}{nearest(shown, (as_read(path, each) for each in known))}")
    varied = {path: value for path, value in wanted.items() if path in plan.varied}
    numbers = [
        number
        for number, cell_id in enumerate(plan.cell_ids)
        if cell_id.startswith(beginning)
        and (
            not varied
            or varied.items() <= {path: as_amount(path, v) for path, v in plan.varying(number).items()}.items()
        )
    ]
    if len(numbers) == 1:
        return numbers[0]
    if numbers:
        what = " and ".join(filter(None, (f"an id that begins with {beginning!r}" if beginning else "", settings)))
        having = f"{len(numbers):,} of them have {what}" if what else f"{plan.name} has {len(numbers):,}"
        raise UserError(f"choose one cell, by its id or by --at KEY=VALUE: {having}: {_some(plan, numbers)}")
    what = f"{beginning!r}" + (f" with {settings}" if settings else "") if beginning else f"with {settings}"
    every = range(plan.cell_count)
    raise UserError(f"no cell {what} among the {plan.cell_count:,} of {plan.name}: there are {_some(plan, every)}")


def _some(plan: Plan, numbers: list[int] | range) -> str:
    """The first of these cells: their ids, and what they have of the keys that vary."""
    length = _SHORT if len({cell_id[:_SHORT] for cell_id in plan.cell_ids}) == plan.cell_count else None
    shown = []
    for number in numbers[:_SHOWN]:
        values = ", ".join(f"{path}={value}" for path, value in plan.varying(number).items())
        shown.append(f"{plan.cell_ids[number][:length]} ({values})")
    return ", ".join(shown) + (", ..." if len(numbers) > _SHOWN else "")
