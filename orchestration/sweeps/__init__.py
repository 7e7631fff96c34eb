"""A study: `hcl sweep`, its ledger, who asks for trials and who runs them."""
