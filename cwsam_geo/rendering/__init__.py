"""Small pictures of large rasters, as arrays: the scene stretched, classes in their colours.

``scene_view`` and ``class_view`` reduce a raster to a few hundred pixels a side in its own pixel
geometry. ``stretch`` turns backscatter into grey or false colours, ``frame`` lays views on a grid
that is upright and square on the ground. Nothing here draws text or opens a window.
"""
