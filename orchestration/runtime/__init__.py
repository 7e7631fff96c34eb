"""Ray: connecting, actors, progress, signals, metrics, and gaps of Ray that are closed here."""
