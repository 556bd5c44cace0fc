"""What guests access: streams of accesses, scenarios, the schedules of the recordings."""
