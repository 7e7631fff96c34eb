"""Choose the next trial of a study, and stop trials early: samplers and pruners of Optuna."""
