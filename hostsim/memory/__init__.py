"""A host's memory: the guests' pages, their accesses, and the truth about them."""
