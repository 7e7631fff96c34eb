"""A run of training: `hcl train`, and what a worker does."""
