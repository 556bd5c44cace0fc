"""Kernel memory that counts towards memory.max, as the limit recordings need it.

Besides one page per leaf page table, charged when its 2 MiB region is first touched.
"""

from __future__ import annotations

from typing import NamedTuple


class KernelMemory(NamedTuple):
    """Pages: charged before populate, and later, when table number ``at_table`` is reached."""

    before: int
    later: int
    at_table: int = 20


HOST = KernelMemory(4, 0)
GUESTS = {
    ("6.1", "vm"): KernelMemory(94, 38),
    ("6.1", "mixvm"): KernelMemory(94, 38),
    ("6.12", "vm"): KernelMemory(91, 37),
    ("6.12", "shadow"): KernelMemory(180, 73),
    ("6.12", "nested"): KernelMemory(182, 37),
    ("6.12", "mixvm"): KernelMemory(91, 37),
    ("6.16", "vm"): KernelMemory(91, 38),
    ("6.18", "vm"): KernelMemory(83, 38),
    ("6.18", "mixvm"): KernelMemory(83, 38),
    ("6.18", "nested"): KernelMemory(182, 38),
}


def kernel_memory(kernel: str, label: str) -> KernelMemory:
    return GUESTS.get((kernel, label), HOST)
