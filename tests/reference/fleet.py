"""A fleet over time, plain and slow: looks at every moment at which something happens, and counts from scratch.

It knows a host by the list of those who are on it, and asks of each guest anew what is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False)
class Vm:
    """A guest: from when to when it wants to live, s; None: from before everything, or on and on."""

    name: str
    memory: int
    vcpus: int
    start: float | None
    end: float | None
    priority: int = 0
    order: int = 0


@dataclass
class Out:
    """Hosts that are out of service."""

    hosts: range
    at: float
    empty: float
    back: float | None


@dataclass
class Told:
    """What happened: (time, guest, host) of arrivals, (time, guest) of departures, (time, guest, why) of refusals."""

    arrivals: list[tuple[float, str, int]] = field(default_factory=list)
    departures: list[tuple[float, str]] = field(default_factory=list)
    refusals: list[tuple[float, str, str]] = field(default_factory=list)


class Fleet:
    """Hosts with so much memory and so many vCPUs each, and the guests that there are."""

    def __init__(self, hosts: list[tuple[float, float]], vms: list[Vm], outs: list[Out], rule: str) -> None:
        self.hosts, self.vms, self.outs, self.rule = hosts, vms, outs, rule
        self.on: list[list[Vm]] = [[] for _ in hosts]
        self.told = Told()
        self.order = 0

    def run(self, until: float) -> Told:
        comes: dict[float, list[Vm]] = {}
        for vm in self.vms:
            if vm.start is None:
                self.try_to_place(vm, -1.0)
        for start, vm in sorted(((vm.start, vm) for vm in self.vms if vm.start is not None), key=lambda each: each[0]):
            comes.setdefault(max(start, 0.0), []).append(vm)
        moments = {*comes, *(vm.end for vm in self.vms if vm.end is not None), *(out.empty for out in self.outs)}
        for now in sorted(moment for moment in moments if 0 <= moment <= until):
            for vm in [vm for host in self.on for vm in host if vm.end == now]:
                self.remove(vm, now)
            for out in self.outs:
                if out.empty == now:
                    lost = [vm for number in out.hosts for vm in self.on[number]]
                    for vm in lost:
                        self.remove(vm, now)
                    for vm in sorted(lost, key=lambda vm: (vm.priority, vm.order)):
                        self.try_to_place(vm, now)
            for vm in sorted(comes.get(now, []), key=lambda vm: vm.priority):
                self.try_to_place(vm, now)
        return self.told

    def remove(self, vm: Vm, now: float) -> None:
        for host in self.on:
            if vm in host:
                host.remove(vm)
        self.told.departures.append((now, vm.name))

    def try_to_place(self, vm: Vm, now: float) -> None:
        serving = [n for n in range(len(self.hosts)) if not self.is_out(n, now)]
        memory = {n: self.hosts[n][0] - sum(other.memory for other in self.on[n]) for n in serving}
        vcpus = {n: self.hosts[n][1] - sum(other.vcpus for other in self.on[n]) for n in serving}
        fits = [n for n in serving if vm.memory <= memory[n] and vm.vcpus <= vcpus[n]]
        if fits:
            if self.rule == "best-fit":
                fits.sort(key=lambda n: memory[n])
            elif self.rule == "worst-fit":
                fits.sort(key=lambda n: -memory[n])
            self.order += 1
            vm.order = self.order
            self.on[fits[0]].append(vm)
            self.told.arrivals.append((now, vm.name, fits[0]))
            return
        some_memory = any(vm.memory <= memory[n] for n in serving)
        some_vcpus = any(vm.vcpus <= vcpus[n] for n in serving)
        why = "outage" if not serving else "memory" if not some_memory else "both" if some_vcpus else "vcpus"
        self.told.refusals.append((now, vm.name, why))

    def is_out(self, host: int, now: float) -> bool:
        return any(host in out.hosts and out.at <= now and (out.back is None or now < out.back) for out in self.outs)
