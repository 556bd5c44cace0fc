"""Means, differences and their confidence intervals."""
