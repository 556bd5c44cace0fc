"""The simulator held against recordings of kernels and published measurements."""
