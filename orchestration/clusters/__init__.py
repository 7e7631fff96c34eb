"""Work with clusters: jobs, `hcl doctor`, facts of nodes, costs of work."""
