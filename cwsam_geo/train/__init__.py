"""Training: turns labelled scenes into a model bundle."""
