"""Many hosts: study plan, executors, results, report and the command line."""

if __name__ == "cluster":  # a second name would load every module twice
    raise ImportError("cluster is a part of coldfleet: import coldfleet.cluster")
