"""Videos to frames by actors: `hcl extract`; videos that are opened or shown."""
