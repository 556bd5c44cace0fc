"""Swap devices: zram, and devices that are written asynchronously."""
