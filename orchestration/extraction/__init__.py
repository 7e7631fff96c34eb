"""Extract frames from videos with actors: `hcl extract`; also open and show videos."""
