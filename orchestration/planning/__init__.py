"""Plan experiments: what a folder of videos allows, what it costs, and what would be refused."""
