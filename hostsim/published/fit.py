"""Fits the figures of hostsim.spec.calibration to published rows: least squares over the logarithms of all of them.

One set of figures for all rows, no figure for one row. The result depends on the rows only, and on the figures that
aren't fitted, which are the defaults. The defaults of those that are fitted are such a fit too, made once, and are not
where a fit starts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from coldfleet.hostsim.published.access_tracking import run_benchmark
from coldfleet.hostsim.published.rows import PublishedRow
from coldfleet.hostsim.spec.calibration import DEFAULT, Calibration
from coldfleet.hostsim.spec.errors import UserError

DIGITS = 4  # of a fitted figure that are kept
_START = {
    "fault_ns": 3500.0,
    "zone_lock_ns": 250.0,
    "read_hold_ns": 350.0,
    "lock_transfer_ns": 350.0,
    "aging_page_ns": 150.0,
    "pass_start_ns": 1e5,
}
"""The figures that are fitted, and where the search for each begins: round numbers, of the right order."""

_RANGE = 20.0  # each figure may become so many times larger or smaller
_MOST_HELD = 0.99  # of a fault
_ENOUGH = 1e-5  # relative change of the errors or figures at which the search ends
_MAX_TRIALS = 100  # the published rows take 7
MAX_FIT_S = 300.0
_STEP = 1e-3  # relative: the model is solved by iteration, a smaller one would measure that


def fit_seconds(rows: Sequence[PublishedRow]) -> float:
    """About how long a fit takes, in s: measured. Who waits for whom takes the square of the vCPUs to find out."""
    return 2.0 + 0.15 * len(rows) + sum(2e-3 * row.vcpus**2 for row in rows if row.policy_name == "locked")


def rows_to_fit(rows: Sequence[PublishedRow], hold_out: Collection[int] = ()) -> list[PublishedRow]:
    """The rows without those with the vCPU counts held out.

    Raises UserError if fewer figures are measured than there are to fit, or the fit would take longer than MAX_FIT_S.
    """
    used = [row for row in rows if row.vcpus not in hold_out]
    measured = sum(1 if row.aging_pass_s is None else 2 for row in used)
    if measured < len(_START):
        raise UserError(f"{measured} measurements can't determine {len(_START)} figures: give more rows")
    if (seconds := fit_seconds(used)) > MAX_FIT_S:
        raise UserError(f"the fit would take about {seconds:,.0f} s: give fewer rows, or hold out those of many vCPUs")
    return used


def fit(rows: Sequence[PublishedRow], hold_out: Collection[int] = ()) -> Calibration:
    """The figures that fit the rows best, but for those with the vCPU counts held out.

    Raises UserError as :func:`rows_to_fit` does, and if no figures fit.
    """
    from scipy.optimize import least_squares

    used = rows_to_fit(rows, hold_out)

    def errors(powers: npt.NDArray[np.float64]) -> list[float]:
        tried = replace(DEFAULT, **_figures(powers))
        return [error for row in used for error in log_errors(row, tried)]

    start = np.log(list(_START.values()))
    reach = math.log(_RANGE)
    found = least_squares(
        errors,
        start,
        bounds=(start - reach, start + reach),
        diff_step=_STEP,
        ftol=_ENOUGH,
        xtol=_ENOUGH,
        max_nfev=_MAX_TRIALS,
    )
    if not found.success:
        raise UserError(f"no figures fit these rows in {_MAX_TRIALS} trials: are they of one machine?")
    return replace(DEFAULT, **{name: float(f"{value:.{DIGITS}g}") for name, value in _figures(found.x).items()})


def _figures(powers: npt.NDArray[np.float64]) -> dict[str, float]:
    """What they are the logarithms of; the lock is held for less than the fault takes."""
    figures: dict[str, float] = dict(zip(_START, np.exp(powers).tolist(), strict=True))
    figures["read_hold_ns"] = min(figures["read_hold_ns"], _MOST_HELD * figures["fault_ns"])
    return figures


def log_errors(row: PublishedRow, calibration: Calibration) -> list[float]:
    """ln(simulated / published) of the wall time and, if there was aging, of the pass."""
    simulated = run_benchmark(row.vcpus, row.policy, calibration)
    errors = [math.log(simulated.vcpu_wall_s / row.vcpu_wall_s)]
    if row.aging_pass_s is not None and simulated.aging_pass_s is not None:
        errors.append(math.log(simulated.aging_pass_s / row.aging_pass_s))
    return errors
