"""Time on a host: vCPUs, kernel threads, the CPUs that they share, and pressure."""
