"""What happens with a given probability in a VM: a contended lock, a race. The same in every process, in every order.

Each guest has its own sequence of Philox blocks, keyed by (study seed, replicate, host, guest) and numbered by what
was drawn before for this guest.
"""

from __future__ import annotations

import numpy as np

from coldfleet.hostsim.engine.jit import inlined
from coldfleet.hostsim.engine.philox import philox
from coldfleet.hostsim.engine.state import Machine

CERTAIN = 1 << 32  # a probability of 1
_STREAM = np.uint64(0xFFFFFFFE)  # the "tick" of these numbers; hostsim.workload.streams has the others


@inlined
def happens(m: Machine, g: int, probability: int) -> bool:
    """Whether an event of this probability (CERTAIN: 1) happens now."""
    vm = m.vms[g]
    vm.draws += 1
    number, _, _, _ = philox(vm.key, np.uint64(vm.draws & 0xFFFFFFFF), _STREAM, np.uint64(vm.host), np.uint64(vm.guest))
    return number < np.uint64(probability)  # type: ignore[return-value]
