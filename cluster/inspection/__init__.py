"""A run looked at closely: the life of one page, a trace of what reclaim did."""
