"""Running a plan: batches, executors, Ray, jobs, progress, the sweep itself."""
