"""Training: losses, regimes, one epoch, validation, optimisers, memory."""
