"""Describe named data sets, one YAML file each; `hcl.datasets.cards` reads them."""
