"""Evaluate checkpoints: `hcl evaluate`, `hcl fuse` and `hcl explain`."""
