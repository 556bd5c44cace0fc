"""Recordings of real kernels: read, replayed through the engine, and compared."""
