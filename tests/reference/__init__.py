"""A slow, readable model of MGLRU and KVM aging, to judge the fast engine by.

It follows the written specification rule by rule, one page object at a time, and is itself judged
by recordings of real kernels (``replay``). It shares no code with the engine.
"""

from .host import ReferenceHost
from .kernels import KERNELS, Kernel
from .policies import POLICIES
from .replay import replay

__all__ = ["KERNELS", "POLICIES", "Kernel", "ReferenceHost", "replay"]
