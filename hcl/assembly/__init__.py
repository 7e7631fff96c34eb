"""Build models, inputs and arguments from a configuration; the packages below this one never see a configuration."""
