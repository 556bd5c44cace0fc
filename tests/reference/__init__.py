"""A slow, readable model of MGLRU and KVM aging, to judge the fast engine by.

It follows the written rules one by one, one page object at a time, and shares no code with the engine.
"""

from .host import ReferenceHost
from .kernels import KERNELS, Kernel
from .policies import POLICIES

__all__ = ["KERNELS", "POLICIES", "Kernel", "ReferenceHost"]
