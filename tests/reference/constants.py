"""Sizes and limits of MGLRU that the model needs (specification, section 1)."""

ANON, FILE = 0, 1
MIN_NR_GENS = 2
MAX_NR_GENS = 4
MAX_NR_TIERS = 4
LRU_REFS_MAX = 3  # the two-bit references field
MIN_LRU_BATCH = 64  # isolation batch, look-around window, noise floor of the PID controller
MAX_LRU_BATCH = 4096  # pages looked at under one hold of the LRU lock
PTRS_PER_PTE = 512  # pages under one leaf page table (2 MiB)
SUITABLE_TO_SCAN = 8  # a table is dense when young * 8 >= total
DEF_PRIORITY = 12
SWAP_CLUSTER_MAX = 32
MEMCG_CHARGE_BATCH = 64
MAX_RECLAIM_RETRIES = 16
FIRST_MAX_SEQ = 3  # a fresh lruvec lists generations 0..3
MAX_SWAPPINESS = 200
FAULT_AROUND_PAGES = 16  # fault_around_bytes, 64 KiB
