"""Questions to checkpoints and their answers: `hcl evaluate`, `hcl fuse`, `hcl explain`."""
