"""``cwsam-geo vectorize``: a class raster to polygons.

``vectorize`` opens the raster (``io.class_band`` finds the band of class codes, its nodata and its
class names) and reads it in ``strips``, as unsigned codes with 0 for nodata. ``coverage`` turns the
strips into polygons in pixel coordinates. ``placement`` moves their vertices to map coordinates,
``table`` makes rows with areas and class names of them, and ``formats`` writes the file.
"""
