"""Train a run: the `hcl train` command, and the code of a worker."""
