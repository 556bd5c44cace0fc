"""Simulates fleets of hypervisor hosts, page by page: how they find cold guest memory, and what that costs.

What is in ``__all__`` is public, and described in docs/api.md; the sub-packages are not. Names are imported when they
are first used, so that ``import coldfleet`` takes a few milliseconds.

    import coldfleet

    results = coldfleet.sweep("configs/quickstart.toml", progress=True)
    print(coldfleet.summary(results).to_pandas())
"""

from __future__ import annotations

__all__ = [
    "Bottleneck",
    "CapacityAnswer",
    "Cell",
    "ClockSpec",
    "ComparedMetric",
    "ComparisonAnswer",
    "CompressionSpec",
    "CurvePoint",
    "DataFile",
    "GuestResult",
    "GuestSpec",
    "HeatSummary",
    "HostResult",
    "HostSpec",
    "HugePageSpec",
    "ImportProgress",
    "MapAnswer",
    "MapPoint",
    "MapRegion",
    "NestedSpec",
    "PageCacheSpec",
    "Plan",
    "Policy",
    "PolicyCapacity",
    "PolicyError",
    "ReplayAnswer",
    "Reporter",
    "Results",
    "Run",
    "SearchAnswer",
    "SearchedSetting",
    "StepDifference",
    "StoppedError",
    "StudySource",
    "Trace",
    "TraceSummary",
    "UserError",
    "VmSpec",
    "WorkloadSpec",
    "__version__",
    "capacity",
    "compare",
    "get_policy",
    "import_trace",
    "list_policies",
    "policy_map",
    "read_study",
    "record_trace",
    "replay",
    "run_query",
    "search",
    "simulate_host",
    "summarize_trace",
    "summary",
    "sweep",
]

_HOMES = {
    "coldfleet.cluster.study.reader": "StudySource read_study",
    "coldfleet.cluster.study.plan": "Cell Plan Run",
    "coldfleet.cluster.execution.sweep": "sweep",
    "coldfleet.cluster.execution.interrupt": "StoppedError",
    "coldfleet.cluster.execution.progress": "Reporter",
    "coldfleet.cluster.results.results": "Results",
    "coldfleet.cluster.results.summary": "summary",
    "coldfleet.cluster.results.query": "run_query",
    "coldfleet.cluster.answers.study_comparison": "ComparedMetric ComparisonAnswer compare",
    "coldfleet.cluster.answers.capacity_answer": "Bottleneck CapacityAnswer PolicyCapacity",
    "coldfleet.cluster.answers.study_capacity": "capacity",
    "coldfleet.cluster.answers.study_map": "MapAnswer MapPoint MapRegion policy_map",
    "coldfleet.cluster.answers.study_search": "SearchAnswer SearchedSetting search",
    "coldfleet.cluster.validation.replays": "ReplayAnswer StepDifference replay",
    "coldfleet.host": "list_policies simulate_host",
    "coldfleet.hostsim.spec.host_spec": "ClockSpec CompressionSpec DataFile GuestResult GuestSpec HostResult HostSpec "
    "NestedSpec PageCacheSpec VmSpec WorkloadSpec",
    "coldfleet.hostsim.spec.huge_spec": "HugePageSpec",
    "coldfleet.hostsim.spec.errors": "UserError",
    "coldfleet.hostsim.trace.importing": "ImportProgress import_trace",
    "coldfleet.hostsim.trace.record": "record_trace",
    "coldfleet.hostsim.trace.table": "Trace",
    "coldfleet.hostsim.trace.summary": "CurvePoint TraceSummary",
    "coldfleet.hostsim.trace.heat": "HeatSummary",
    "coldfleet.hostsim.trace.summarize": "summarize_trace",
    "coldfleet.policies": "Policy PolicyError get_policy",
}
"""Of each module, the public names that it defines."""

TYPE_CHECKING = False  # type checkers take it for true; importing typing would take longer than all the rest
if TYPE_CHECKING:
    from coldfleet.cluster.answers.capacity_answer import Bottleneck, CapacityAnswer, PolicyCapacity
    from coldfleet.cluster.answers.study_capacity import capacity
    from coldfleet.cluster.answers.study_comparison import ComparedMetric, ComparisonAnswer, compare
    from coldfleet.cluster.answers.study_map import MapAnswer, MapPoint, MapRegion, policy_map
    from coldfleet.cluster.answers.study_search import SearchAnswer, SearchedSetting, search
    from coldfleet.cluster.execution.interrupt import StoppedError
    from coldfleet.cluster.execution.progress import Reporter
    from coldfleet.cluster.execution.sweep import sweep
    from coldfleet.cluster.results.query import run_query
    from coldfleet.cluster.results.results import Results
    from coldfleet.cluster.results.summary import summary
    from coldfleet.cluster.study.plan import Cell, Plan, Run
    from coldfleet.cluster.study.reader import StudySource, read_study
    from coldfleet.cluster.validation.replays import ReplayAnswer, StepDifference, replay
    from coldfleet.host import list_policies, simulate_host
    from coldfleet.hostsim.spec.errors import UserError
    from coldfleet.hostsim.spec.host_spec import (
        ClockSpec,
        CompressionSpec,
        DataFile,
        GuestResult,
        GuestSpec,
        HostResult,
        HostSpec,
        NestedSpec,
        PageCacheSpec,
        VmSpec,
        WorkloadSpec,
    )
    from coldfleet.hostsim.spec.huge_spec import HugePageSpec
    from coldfleet.hostsim.trace.heat import HeatSummary
    from coldfleet.hostsim.trace.importing import ImportProgress, import_trace
    from coldfleet.hostsim.trace.record import record_trace
    from coldfleet.hostsim.trace.summarize import summarize_trace
    from coldfleet.hostsim.trace.summary import CurvePoint, TraceSummary
    from coldfleet.hostsim.trace.table import Trace
    from coldfleet.policies import Policy, PolicyError, get_policy

    __version__: str
else:

    def __getattr__(name: str) -> object:
        """A public name, on its first use (PEP 562)."""
        from importlib import import_module

        if name == "__version__":
            from importlib.metadata import PackageNotFoundError, version

            try:
                value: object = version("coldfleet")
            except PackageNotFoundError:  # run from its sources
                value = "0+unknown"
        else:
            home = next((module for module, names in _HOMES.items() if name in names.split()), None)
            if home is None:
                raise AttributeError(f"module 'coldfleet' has no attribute {name!r}")
            value = getattr(import_module(home), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
