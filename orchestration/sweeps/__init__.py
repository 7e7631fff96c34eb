"""Studies: the `hcl sweep` command, its ledger, the sources of trials and their runner."""
