"""The stream of accesses of a guest, by the kind of its workload."""

from __future__ import annotations

from coldfleet.hostsim.spec.host_spec import GuestSpec
from coldfleet.hostsim.workload.stack_stream import StackStream
from coldfleet.hostsim.workload.streams import GuestStream, MemoryStream
from coldfleet.hostsim.workload.trace_stream import TraceStream


def make_stream(spec: GuestSpec, *, paced: bool, seed: int, replicate: int, host: int, guest: int) -> MemoryStream:
    """What a guest without recorded accesses does to its memory. ``paced``: on a clock, a trace keeps its bursts.

    ``guest``: its guest word (hostsim.engine.streams). Raises :class:`UserError` for a trace that can't be followed.
    """
    who = {"seed": seed, "replicate": replicate, "host": host, "guest": guest}
    if spec.workload.kind in ("trace", "clone"):
        return TraceStream(spec, paced=paced, **who)
    if spec.workload.kind == "stack":
        return StackStream(spec, **who)
    return GuestStream(spec, **who)
