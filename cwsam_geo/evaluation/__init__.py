"""``cwsam-geo evaluate`` compares a map with a reference and measures its accuracy.

``overlay`` opens the map, the reference and the area of interest on the map's grid. A reference
raster is resampled and polygons are rasterised window by window (``io.reference``), and ``pixels``
counts the pairs of reference value and map code. For a sample of points, ``points`` counts the
pairs by stratum (``strata``). After counting, ``class_match`` finds the class of each value (by the
rule in ``core.class_values``), merges classes and drops ignored ones. The result is a confusion
matrix of K classes: rows are the reference, columns the map. ``core.metrics`` computes scores and
estimates from it, ``result`` holds them, and ``report`` writes them.
"""
