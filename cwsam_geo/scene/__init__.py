"""A SAR input, understood: from a path to values that a model can read.

``locations`` finds the rasters behind a path (a file, a product, an archive, a container), and
``files`` opens them as one scene on one grid. ``band_names`` and ``band_match`` say which band is
which. ``sampling`` reads windows all over the scene for ``statistics``. From these and the
metadata, ``reading`` decides units, nodata and zeros once for the whole scene, with ``units``,
``fill`` and ``edge``; ``plausibility`` and ``distribution`` warn of what looks wrong. From then
on a ``source`` answers one question only: the values of a window, and which of them are valid.
"""
