"""``cwsam-geo evaluate``: a map and a reference to an accuracy assessment.

``overlay`` opens the map, the reference and the area of interest on the map's grid. A reference
raster is resampled and polygons are rasterised window by window (``io.reference``), and ``pixels``
counts the pairs of reference value and map code; for a sample of points, ``points`` counts them by
stratum (``strata``). Only then ``class_match`` says which class each value is (the rule is
``core.class_values``), merges classes and drops ignored ones: the counts become a confusion matrix
of K classes, rows for the reference and columns for the map. ``core.metrics`` makes scores and
estimates of it, ``result`` keeps them, and ``report`` writes them.
"""
