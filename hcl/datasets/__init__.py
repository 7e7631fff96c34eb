"""Named data sets, one YAML each; `hcl.catalogue` reads them."""
