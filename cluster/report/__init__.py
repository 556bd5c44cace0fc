"""A sweep as one HTML file that needs nothing else, and its pictures."""
