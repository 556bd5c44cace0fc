"""What compiled code is made of: arrays of pages, kernel features, random numbers, numba."""
