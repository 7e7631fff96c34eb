"""Train a model: losses, regimes, epochs, validation, optimisers, memory."""
