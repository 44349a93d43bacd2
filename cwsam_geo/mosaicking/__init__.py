"""Puts neighbouring maps together.

maps -> layers (what each is, and whether they agree) -> mosaic_grid (where their pixels go)
 -> blend of the overlaps, block by block -> raster; or vrt (references to the maps)
"""
