"""Finds the pixels of one grid in another, whatever CRS and control points the two have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.io.geolocation import Geolocation, transformed
from cwsam_geo.io.knots import between_knots, knots


def pixel_centres(
    window: Window, onto: Geolocation, own: Geolocation
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns and rows, each (h, w), in raster ``own``, of a window's pixel centres on ``onto``.

    The transformation is evaluated at knots only.
    """
    # The knots: pixels of the window's grid -> its CRS -> the raster's CRS -> the raster's pixels.
    knot_cols, knot_rows = np.meshgrid(
        knots(window.col + 0.5, window.width), knots(window.row + 0.5, window.height)
    )
    x, y = transformed(*onto.to_map(knot_cols, knot_rows), onto.crs, own.crs)
    rows, cols = np.arange(float(window.height))[:, np.newaxis], np.arange(float(window.width))
    with np.errstate(invalid="ignore"):
        own_cols, own_rows = own.to_pixels(x, y)
        return between_knots(own_cols, rows, cols), between_knots(own_rows, rows, cols)
