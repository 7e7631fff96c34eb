"""Tables: accuracies, comparisons, ablations, published figures, lists of runs."""
