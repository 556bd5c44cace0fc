"""What work costs: constants with their sources, mmu_lock, and how a host scales."""
