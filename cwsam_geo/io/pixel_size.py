"""The size of a scene's pixels on the ground."""

from __future__ import annotations

import numpy as np
import pyproj

from cwsam_geo.core.pixel_size import PixelSize
from cwsam_geo.io.geolocation import Geolocation, metres_per_unit

_SPAN = 16.0
"""Pixels over which a side is measured, at most. Splines between control points are not exact
enough for a single pixel."""


def pixel_size_of(location: Geolocation) -> PixelSize | None:
    """Measures the sides of the pixel in a scene's middle along the ellipsoid.

    A degree of longitude is shorter near the poles, and a metre of Web Mercator is not a metre on
    the ground.

    Returns:
        Metres along a row and along a column; None without a CRS, or where it has no place there.
    """
    if location.crs is None or not location.placed:
        return None
    grid = location.grid
    across, down = min(_SPAN, grid.width), min(_SPAN, grid.height)
    # The ends of a line along a row and of one along a column, which cross in the middle
    cols = grid.width / 2 + np.array([-across, across, 0, 0]) / 2
    rows = grid.height / 2 + np.array([0, 0, -down, down]) / 2
    x, y = location.to_map(cols, rows)
    crs = pyproj.CRS.from_wkt(location.crs.to_wkt())
    degrees = crs.geodetic_crs
    if degrees is None:  # a local CRS: its plane is the ground
        metres = metres_per_unit(crs)
        lengths = metres * np.hypot(np.diff(x)[::2], np.diff(y)[::2])
    else:
        lon, lat = pyproj.Transformer.from_crs(crs, degrees, always_xy=True).transform(x, y)
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            return None
        geod = degrees.get_geod()
        if geod is None:
            return None
        lengths = np.asarray(geod.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])[2])
    sides = lengths / np.array([across, down])
    if not (np.isfinite(sides).all() and (sides > 0).all()):
        return None
    return float(sides[0]), float(sides[1])
