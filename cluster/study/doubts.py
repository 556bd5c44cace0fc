"""What a study asks for where the recordings say that the simulator is weak: docs/truth.md has the figures."""

from __future__ import annotations

from coldfleet.cluster.study.plan import Plan

OVER_RECLAIMING = "6.18"  # the first kernel whose guests do
UNRECORDED_WRITES = "7.3"  # no recording of it has file pages that have to be written


def doubts(plan: Plan) -> list[str]:
    """A line for each combination of values in a study whose results real kernels don't bear out well."""
    lines = []
    scenarios = [str(text) for text in plan.values("scenario")]
    kernels = {str(name).split()[0] for name in plan.values("kernel")}
    limited = "limit" in plan.values("reclaim.mode")
    if limited and OVER_RECLAIMING in kernels and any(_has_vm(text) for text in scenarios):
        lines.append(
            f'kernel {OVER_RECLAIMING} with reclaim.mode = "limit": its guests reclaim more than they have to, in one '
            "of two ways, and the simulator knows one of them (docs/truth.md)"
        )
    if limited and any("process" in text and _has_vm(text) for text in scenarios):
        lines.append(
            "a process beside a guest under one limit: a difference of a few pages grows, and recordings are often "
            "outside the kernels' own range (docs/truth.md)"
        )
    if UNRECORDED_WRITES in kernels and _writes_files(plan):
        lines.append(
            f"kernel {UNRECORDED_WRITES} with files that are written: its recordings have files that are read, and "
            "what it does with pages that have to be written follows its public description (docs/truth.md)"
        )
    return lines


def _writes_files(plan: Plan) -> bool:
    """Whether a guest writes to a file through the page cache."""
    classes = [f"fleet.guest.{name}" for name in plan.cell(0).spec.fleet.guest] or ["guest"]
    return any(any(plan.values(f"{each}.page_cache.write_share")) for each in classes)


def _has_vm(scenario: str) -> bool:
    """Whether it has a guest; so has a study without a scenario."""
    return not scenario or any(not guest.strip().startswith("process") for guest in scenario.split(","))
