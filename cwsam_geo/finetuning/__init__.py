"""``cwsam-geo finetune``: labelled scenes to a model of a region."""
