"""Answers from runs: comparisons, capacity, maps of policies, ablations, claims."""
