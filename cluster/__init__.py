"""Many hosts: study plan, executors, results, report and the command line."""
