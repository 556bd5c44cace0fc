"""Simulates fleets of hypervisor hosts, page by page: how they find cold guest memory, and what that costs."""
