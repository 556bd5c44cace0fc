"""Kernels as records of named features: how each version of Linux differs in what a simulation sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FEATURES = np.dtype([("reserved", np.int64)], align=True)


@dataclass(frozen=True)
class Kernel:
    """One kernel: its name in studies and recordings, the exact build it was judged on, and its features."""

    name: str
    release: str
    policy: str
    kvm_marks: int

    def encode(self) -> npt.NDArray[np.void]:
        """The features as one record for the compiled kernels."""
        return np.zeros(1, FEATURES)


KERNELS: dict[str, Kernel] = {
    kernel.name: kernel for kernel in (Kernel("6.12", "6.12.107+deb13-amd64", policy="locked-6.12", kvm_marks=2),)
}
