"""What a study asks for where the recordings say that the simulator is weak: docs/truth.md has the figures."""

from __future__ import annotations

from coldfleet.cluster.study.plan import Plan

OVER_RECLAIMING = "6.18"  # the first kernel whose guests do


def doubts(plan: Plan) -> list[str]:
    """A line for each combination of values in a study whose results real kernels don't bear out well."""
    lines = []
    scenarios = [str(text) for text in plan.values("scenario")]
    kernels = sorted({str(name).split()[0] for name in plan.values("kernel")} & {OVER_RECLAIMING})
    limited = "limit" in plan.values("reclaim.mode")
    if limited and kernels and any(_has_vm(text) for text in scenarios):
        lines.append(
            f'kernel {kernels[0]} with reclaim.mode = "limit": its guests reclaim more than they have to, in one of '
            "two ways, and the simulator knows one of them (docs/truth.md)"
        )
    if limited and any("process" in text and _has_vm(text) for text in scenarios):
        lines.append(
            "a process beside a guest under one limit: a difference of a few pages grows, and recordings are often "
            "outside the kernels' own range (docs/truth.md)"
        )
    return lines


def _has_vm(scenario: str) -> bool:
    """Whether it has a guest; so has a study without a scenario."""
    return not scenario or any(not guest.strip().startswith("process") for guest in scenario.split(","))
