"""coldfleet compact: few large files instead of many small ones."""

from __future__ import annotations

from coldfleet.cluster.commands.execution import Directory


def compact(directory: Directory) -> int:
    """Put the parts of a sweep's results together into few large ones.

    A long sweep leaves thousands of small files, which are slow to read. The rows stay the same. Parts that no receipt
    needs go away. Not while a sweep is writing there: local directories are guarded by a lock, object stores aren't.

    \b
    Examples:
      coldfleet compact results/fast_only
    """
    from coldfleet.cluster.commands import output
    from coldfleet.cluster.results.compact import compact as merge_parts
    from coldfleet.cluster.results.results import Results
    from coldfleet.cluster.results.storage import open_storage

    storage = open_storage(directory)
    Results.open(storage)  # says so if it isn't a sweep's
    before, after = merge_parts(storage)
    output.print_text(f"{storage}: {before} parts are now {after}")
    return 0
