"""Traces of memory accesses, and measured heat: read from the formats of other tools, kept as Parquet, measured."""
