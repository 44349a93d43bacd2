"""``cwsam-geo predict``: a scene to a class raster."""
