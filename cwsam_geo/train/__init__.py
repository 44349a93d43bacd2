"""Training: labelled scenes to a model bundle."""
