"""Use Ray: connections, actors, progress, signals, metrics, and workarounds for gaps of Ray."""
