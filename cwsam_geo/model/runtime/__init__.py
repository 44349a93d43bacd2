"""A loaded model at work: raw tiles in, decided bytes out."""
