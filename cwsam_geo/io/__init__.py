"""Reading scenes, writing rasters and vectors."""
