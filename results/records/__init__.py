"""Write and read the records of runs, evaluations and studies on disk."""
