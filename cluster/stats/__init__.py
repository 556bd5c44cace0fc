"""Metrics; means, differences and their confidence intervals."""
