"""Named experiments, one YAML file each; `hcl.resolve` reads them."""
