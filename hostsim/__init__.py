"""One hypervisor host: pages, MMUs, notifier chain, MGLRU, swap, guests. Never imports Ray."""
