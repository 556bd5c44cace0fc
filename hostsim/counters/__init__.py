"""The counters of a run, each with its unit and meaning."""
