"""A Sentinel-1 scene simulator: a landscape, and what a C-band radar would see of it."""
