"""Named data sets, one YAML each; `hcl.datasets.cards` reads them."""
