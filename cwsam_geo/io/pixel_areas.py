"""True ground areas of pixels, whatever the projection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyproj
from numpy.typing import NDArray

from cwsam_geo.grid import Window
from cwsam_geo.io.geolocation import Geolocation, metres_per_unit

Floats = NDArray[np.float64]

_CELL_METRES = 1000.0
_CELL_PIXELS = 16


class PixelAreas:
    """Areas of a grid's pixels on the ellipsoid.

    A degree of longitude shrinks towards the poles, and a metre of UTM or Web Mercator is not a
    metre on the ground. Pixels are measured in an equal-area projection: in degrees row by row,
    which is exact, else on a lattice of cells of at most 16 pixels and about 1 km a side. A local
    CRS has no ellipsoid: its plane is taken for the ground.

    Args:
        location: The grid.

    Attributes:
        unit: ``m2``, or ``pixels`` where the grid has no CRS: each counts 1.
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
            )
            return np.broadcast_to(rows, shape)
        row_edges = self._edges(window.row, window.bottom)
        col_edges = self._edges(window.col, window.right)
        heights, widths = np.diff(row_edges), np.diff(col_edges)
        each = self._quads(row_edges, col_edges) / (heights[:, None] * widths)
        return each.repeat(heights.astype(int), 0).repeat(widths.astype(int), 1)

    def _edges(self, start: int, stop: int) -> Floats:
        return np.append(np.arange(start, stop, self._cell), stop).astype(np.float64)

    def _quads(self, row_edges: Floats, col_edges: Floats) -> Floats:
        """Areas of the cells between edges, shape (rows - 1, cols - 1), in square metres."""
        x, y = self._to_ground(*self._location.to_map(*np.meshgrid(col_edges, row_edges)))
        dx, dy = x[1:, 1:] - x[:-1, :-1], y[1:, 1:] - y[:-1, :-1]
        ex, ey = x[1:, :-1] - x[:-1, 1:], y[1:, :-1] - y[:-1, 1:]
        areas = np.abs(dx * ey - dy * ex) / 2
        return np.where(np.isfinite(areas), areas, 0.0)


def _ground(
    crs: pyproj.CRS, by_row: bool, middle_x: Floats, middle_y: Floats
) -> Callable[[Floats, Floats], tuple[Floats, Floats]]:
    """From coordinates in a CRS to metres on a plane where areas are those on the ground."""
    degrees = crs.geodetic_crs
    if degrees is None:
        metres = metres_per_unit(crs)
        return lambda x, y: (x * metres, y * metres)
    to_degrees = pyproj.Transformer.from_crs(crs, degrees, always_xy=True)
    lon, lat = to_degrees.transform(middle_x, middle_y)
    ellipsoid = degrees.ellipsoid
    size = f"+a={ellipsoid.semi_major_metre} +b={ellipsoid.semi_minor_metre} +units=m"
    kind = "cea +over" if by_row else f"laea +lat_0={lat[0]} +lon_0={lon[0]}"
    equal_area = pyproj.Proj(f"+proj={kind} {size}")

    def to_ground(x: Floats, y: Floats) -> tuple[Floats, Floats]:
        moved_x, moved_y = equal_area(*to_degrees.transform(x, y))
        return np.asarray(moved_x), np.asarray(moved_y)

    return to_ground
