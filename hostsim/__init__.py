"""One hypervisor host: pages, MMUs, notifier chain, MGLRU, swap, guests. Never imports Ray."""

if __name__ == "hostsim":  # a second name would load every module twice
    raise ImportError("hostsim is a part of coldfleet: import coldfleet.hostsim")
