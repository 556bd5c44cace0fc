"""Access monitors beside MGLRU: idle page tracking, khugepaged, DAMON."""
