"""``cwsam-geo vectorize``: a class raster to polygons."""
