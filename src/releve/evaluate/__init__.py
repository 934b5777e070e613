"""Score a run on its held-out folds, beside reference models, with intervals and by groups."""
