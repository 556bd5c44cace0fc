"""What any fault of a host meets, whichever VM it is of: how much longer a fault takes while other CPUs fault too.

Gunther's scalability law, with the machine's sockets in it. In a part of it a fault keeps all others out, so beside
n - 1 others it takes n - 1 such parts more (sigma): its page is zeroed with the bandwidth that a socket has, comes out
of the buddy allocator under the zone's lock, and is charged to a memcg. The cache lines that all of these faults write
travel between their CPUs (kappa, coherency): from the second socket on each of those parts is longer, by the share of
the CPUs that aren't in the first. The published rows don't show that, so it is 0 unless a calibration says otherwise.

:class:`hostsim.spec.calibration.Calibration` has the figures. The zone's lock is fitted; the published rows don't tell
zeroing and charging from it, so those are given.
"""

from __future__ import annotations

from coldfleet.hostsim.engine.jit import compiled
from coldfleet.hostsim.spec.calibration import Calibration
from coldfleet.hostsim.spec.units import PAGE_BYTES

CHARGE_BATCH = 64  # pages that a CPU charges to a memcg at once: MEMCG_CHARGE_BATCH, include/linux/memcontrol.h
CPUS_PER_SOCKET = 24  # assumed: the letter with the published rows doesn't name the machine


def fault_ns(faulting_vcpus: float, calibration: Calibration) -> float:
    """ns of a TDP fault while so many vCPUs of the host are in one, this one included; without waiting for mmu_lock.

    ``faulting_vcpus``: from 1 on; a mean over time needn't be a whole number.
    """
    serial = sum(serial_ns(calibration).values())
    return contended_ns(calibration.fault_ns, serial, calibration.coherency_ns, faulting_vcpus)


@compiled
def contended_ns(alone_ns: float, serial_ns: float, coherency_ns: float, cpus: float) -> float:
    """The law: what takes ``alone_ns`` for a CPU alone, while so many do it."""
    return alone_ns + (cpus - 1) * (serial_ns + coherency_ns * remote_share(cpus))


def serial_ns(calibration: Calibration) -> dict[str, float]:
    """ns of a fault in which it keeps all others out, by what it does then; a batch's time is shared by its pages."""
    return {
        "zeroing": PAGE_BYTES / calibration.zero_bytes_per_s * 1e9,
        "zone lock": calibration.zone_lock_ns,
        "memcg charge": calibration.charge_ns / CHARGE_BATCH,
    }


@compiled
def remote_share(cpus: float) -> float:
    """The share of so many busy CPUs that aren't in the first socket."""
    return max(0.0, 1 - CPUS_PER_SOCKET / cpus)
