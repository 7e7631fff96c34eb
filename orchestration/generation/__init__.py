"""Generate data sets with Ray actors: `hcl data metaworld`."""
