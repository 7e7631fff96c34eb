"""Clusters: jobs, `hcl doctor`, what nodes have, what work costs."""
