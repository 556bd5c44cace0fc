"""Reclaim, in files named as in the mm/ folder of the kernel."""
