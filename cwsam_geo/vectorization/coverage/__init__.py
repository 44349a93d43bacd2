"""Class rasters to polygons that fit together, in memory that does not grow with the scene.

The raster is read in strips. Each strip gives pieces of the boundaries between regions; pieces are
joined across strips to arcs, which run from node to node (where three or more regions meet) or
around an island. A region is complete once a strip ends without it: its arcs are put together to
rings, written, and forgotten. Every arc is simplified or smoothed once and serves the regions on
both of its sides, so that neighbours share their vertices.
"""
