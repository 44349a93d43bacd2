"""True ground areas of pixels in any projection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyproj
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.io.geolocation import Geolocation, metres_per_unit

Floats = NDArray[np.float64]

_CELL_METRES = 1000.0
_CELL_PIXELS = 16
"""Largest side of a cell whose pixels are taken to have equal areas, in metres and in pixels."""


class PixelAreas:
    """Areas of a grid's pixels on the ellipsoid.

    A degree of longitude is shorter near the poles, and a metre of UTM or Web Mercator is not a
    metre on the ground. Pixel corners are therefore projected to an equal-area projection. On
    grids in degrees all pixels of a row have the same area. On other grids, pixels share the area
    of a cell of at most 16 pixels and about 1 km a side. A local CRS has no ellipsoid, so areas
    are those in its plane.

    Args:
        location: Georeferencing of the grid.

    Attributes:
        unit: ``m2``, or ``pixels`` if the grid has no CRS: each pixel then has the area 1.
    """

    def __init__(self, location: Geolocation) -> None:
        self._location = location
        placed = location.crs is not None and (location.bent or location.grid.georeferenced)
        self.unit = "m2" if placed else "pixels"
        if location.crs is None or not placed:
            return
        crs = pyproj.CRS.from_wkt(location.crs.to_wkt())
        transform = location.grid.transform
        upright = transform.b == 0 and transform.d == 0 and not location.bent
        self._by_row = crs.is_geographic and upright
        grid = location.grid
        x, y = location.to_map(np.array([grid.width / 2]), np.array([grid.height / 2]))
        self._to_ground = _ground(crs, self._by_row, x, y)
        # The pixel in the middle of the grid says how many pixels make a cell.
        middle = self._quads(grid.height / 2 + np.arange(2.0), grid.width / 2 + np.arange(2.0))
        side = float(np.sqrt(middle[0, 0]))
        self._cell = int(np.clip(_CELL_METRES / side, 1, _CELL_PIXELS)) if side > 0 else 1

    def of(self, window: Window) -> Floats:
        """Area of each pixel of a window, shape (h, w), float64, in ``unit``."""
        shape = window.height, window.width
        if self.unit == "pixels":
            return np.ones(shape)
        if self._by_row:
            rows = self._quads(
                np.arange(window.row, window.bottom + 1.0), window.col + np.arange(2.0)
            )  # (h, 1)
            return np.broadcast_to(rows, shape)
        # Measure cells, then give each of their pixels an equal share.
        row_edges = self._edges(window.row, window.bottom)
        col_edges = self._edges(window.col, window.right)
        heights, widths = np.diff(row_edges), np.diff(col_edges)
        pixel_areas = self._quads(row_edges, col_edges) / (heights[:, None] * widths)
        return pixel_areas.repeat(heights.astype(int), 0).repeat(widths.astype(int), 1)

    def _edges(self, start: int, stop: int) -> Floats:
        return np.append(np.arange(start, stop, self._cell), stop).astype(np.float64)

    def _quads(self, row_edges: Floats, col_edges: Floats) -> Floats:
        """Areas in square metres of the cells between edges.

        R row edges and C column edges give R - 1 x C - 1 areas.
        """
        x, y = self._to_ground(*self._location.to_map(*np.meshgrid(col_edges, row_edges)))
        # The area of a quadrilateral is half the cross product of its diagonals d and e.
        dx, dy = x[1:, 1:] - x[:-1, :-1], y[1:, 1:] - y[:-1, :-1]
        ex, ey = x[1:, :-1] - x[:-1, 1:], y[1:, :-1] - y[:-1, 1:]
        areas = np.abs(dx * ey - dy * ex) / 2
        return np.where(np.isfinite(areas), areas, 0.0)


def _ground(
    crs: pyproj.CRS, by_row: bool, middle_x: Floats, middle_y: Floats
) -> Callable[[Floats, Floats], tuple[Floats, Floats]]:
    """A function from coordinates in a CRS to metres in an equal-area projection.

    The projection is cylindrical for areas by row, and else azimuthal around the middle of the
    scene.
    """
    degrees = crs.geodetic_crs
    if degrees is None:  # a local CRS
        metres = metres_per_unit(crs)
        return lambda x, y: (x * metres, y * metres)
    to_degrees = pyproj.Transformer.from_crs(crs, degrees, always_xy=True)
    lon, lat = to_degrees.transform(middle_x, middle_y)
    ellipsoid = degrees.ellipsoid
    size = f"+a={ellipsoid.semi_major_metre} +b={ellipsoid.semi_minor_metre} +units=m"
    # "+over" keeps longitudes beyond 180 degrees where they are.
    kind = "cea +over" if by_row else f"laea +lat_0={lat[0]} +lon_0={lon[0]}"
    equal_area = pyproj.Proj(f"+proj={kind} {size}")

    def to_ground(x: Floats, y: Floats) -> tuple[Floats, Floats]:
        moved_x, moved_y = equal_area(*to_degrees.transform(x, y))
        return np.asarray(moved_x), np.asarray(moved_y)

    return to_ground
