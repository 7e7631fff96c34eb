"""Build tables: accuracies, comparisons, ablations, published figures, lists of runs."""
