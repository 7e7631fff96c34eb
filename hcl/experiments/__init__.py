"""Hold the named experiments, one YAML file each; `hcl.config.resolve` reads them."""
