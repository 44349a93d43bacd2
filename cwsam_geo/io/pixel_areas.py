"""Ground areas of pixels and polygons on the ellipsoid; the only source of areas in the package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyproj
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.io.geolocation import Geolocation, metres_per_unit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FIRST_CELLS = 16
"""Cells along each side of the coarsest lattice of knots."""

_TOLERANCE = 1e-6
"""A lattice is fine enough if its areas differ by at most this fraction from one half as fine.

Its own error is then about a quarter of this.
"""

_MOST_KNOTS = 1 << 18
_MOST_SPLINE_KNOTS = 1 << 15
"""Largest numbers of knots in a lattice. The first takes 2 MB, and about 2 s of transformations;
smooth grids need only a few thousand knots.

The second is for splines between control points. They are slow, and have a kink at each control
point that no lattice can follow; the area of a Sentinel-1 scene is exact to 1e-5 with it.
"""

_PROBE = 1 / 8
_PROBE_METRES = 100.0
_SPLINE_PROBE = 16.0
"""Largest side of the square that is measured around a knot, in pixels and in metres.

It is small, so that its sides are straight on the ground, and none crosses a pole. Splines between
control points are computed less exactly than transformations, so a larger square, of up to 16
pixels, is measured there.
"""

_EDGES_AT_ONCE = 1 << 17
"""Edges of polygons that are integrated at once, which bounds the memory of the intermediates."""

_EDGE_PARTS = 16
"""Edges are integrated in parts of at most this share of the grid's height."""


class PixelAreas:
    """Areas on the ellipsoid, of a grid's pixels and of polygons in its pixel coordinates.

    A degree of longitude is shorter near the poles, and a metre of UTM or Web Mercator is not a
    metre on the ground. The area of a pixel is therefore measured in an equal-area projection of
    the CRS's ellipsoid, at the knots of a lattice over the grid, and interpolated between them
    bilinearly. The area of a polygon is the integral of the same function, so that a polygon around
    some pixels has the area of these pixels. A local CRS has no ellipsoid, so its areas are those
    in its plane.

    Args:
        location: Georeferencing of the grid.

    Attributes:
        unit: ``m2``, or ``pixels`` if the grid has no CRS: each pixel then has the area 1.
    """

    def __init__(self, location: Geolocation) -> None:
        self._location = location
        grid = location.grid
        self._size = grid.height, grid.width
        placed = location.crs is not None and location.placed
        self.unit = "m2" if placed else "pixels"
        if location.crs is None or not placed:
            self._knots = np.ones((2, 2))
        else:
            crs = pyproj.CRS.from_wkt(location.crs.to_wkt())
            # In degrees, all pixels of a row have the same area.
            by_row = bool(crs.is_geographic and location.upright)
            x, y = location.to_map(np.array([grid.width / 2]), np.array([grid.height / 2]))
            self._to_ground = _ground(crs, by_row, x, y)
            self._probe = _PROBE
            if not location.straight:
                self._probe = max(_PROBE, min(_SPLINE_PROBE, min(self._size) / 64))
            else:
                # The pixel in the middle says how many pixels 100 m are.
                side = float(np.sqrt(self._pixels(2, 2)[1, 1]))
                self._probe = min(_PROBE, _PROBE_METRES / side) if side > 0 else _PROBE
            self._knots = self._lattice(1 if by_row else _FIRST_CELLS)
        rows, cols = self._knots.shape
        # Size of a cell in pixels, and integrals along the rows of knots from column 0
        self._cell = grid.height / (rows - 1), grid.width / (cols - 1)
        halves = (self._knots[:, 1:] + self._knots[:, :-1]) / 2 * self._cell[1]
        self._sums = np.hstack([np.zeros((rows, 1)), np.cumsum(halves, axis=1)])

    def of(self, window: Window) -> Floats:
        """Area of each pixel of a window, shape (h, w), float64, in ``unit``."""
        # If knots are closer together than pixels, average several places in each pixel.
        down, across = (max(1, round(1 / cell)) for cell in self._cell)
        rows = window.row + (np.arange(window.height * down) + 0.5) / down
        cols = window.col + (np.arange(window.width * across) + 0.5) / across
        i, t = _cells(rows, self._cell[0], self._knots.shape[0])
        lines = self._knots[i] * (1 - t[:, None]) + self._knots[i + 1] * t[:, None]
        lines = lines.reshape(window.height, down, -1).mean(axis=1)
        if lines.shape[1] == 2:  # the same along each row
            return np.broadcast_to(lines[:, :1], (window.height, window.width))
        j, u = _cells(cols, self._cell[1], self._knots.shape[1])
        areas = lines[:, j] * (1 - u) + lines[:, j + 1] * u
        return np.asarray(areas.reshape(window.height, window.width, across).mean(axis=2))

    def at(self, cols: Floats, rows: Floats) -> Floats:
        """Area of a pixel at pixel coordinates, shape (N,), in ``unit``."""
        i, t = _cells(rows, self._cell[0], self._knots.shape[0])
        j, u = _cells(cols, self._cell[1], self._knots.shape[1])
        upper = self._knots[i, j] * (1 - u) + self._knots[i, j + 1] * u
        lower = self._knots[i + 1, j] * (1 - u) + self._knots[i + 1, j + 1] * u
        return np.asarray(upper * (1 - t) + lower * t)

    def of_rings(self, cols: Floats, rows: Floats, offsets: Ints) -> Floats:
        """Areas of closed rings, shape (R,), in ``unit``; positive if clockwise in the image.

        Args:
            cols: Columns of the vertices in pixel coordinates, shape (N,).
            rows: Rows of the vertices, shape (N,).
            offsets: Index of each ring's first vertex, and N, shape (R + 1,).
        """
        if len(offsets) == 1:
            return np.zeros(0)
        drops = np.zeros(len(rows))
        drops[:-1] = np.diff(rows)
        drops[offsets[1:] - 1] = 0.0  # no edge from one ring to the next
        integrals = np.zeros(len(rows))
        # By Green's theorem, the area is the integral of P along the ring, with P(col, row) the
        # area of the row from column 0 to col. Edges along a row add nothing.
        edges = np.flatnonzero(drops)
        for start in range(0, len(edges), _EDGES_AT_ONCE):
            some = edges[start : start + _EDGES_AT_ONCE]
            along = cols[some + 1] - cols[some]
            integrals[some] = self._along(cols[some], rows[some], along, drops[some])
        return np.asarray(np.add.reduceat(integrals, offsets[:-1]))

    def _along(self, cols: Floats, rows: Floats, along: Floats, down: Floats) -> Floats:
        """The integral of P (see ``of_rings``) along each edge, given its start and its extent."""
        parts = np.maximum(np.ceil(np.abs(down) * _EDGE_PARTS / self._size[0]), 1).astype(np.int64)
        if parts.max(initial=1) == 1:
            return self._gauss(cols, rows, along, down)
        first = np.concatenate([[0], np.cumsum(parts)[:-1]])
        number = np.arange(parts.sum()) - first.repeat(parts)
        along, down = (along / parts).repeat(parts), (down / parts).repeat(parts)
        cols, rows = cols.repeat(parts) + number * along, rows.repeat(parts) + number * down
        return np.asarray(np.add.reduceat(self._gauss(cols, rows, along, down), first))

    def _gauss(self, cols: Floats, rows: Floats, along: Floats, down: Floats) -> Floats:
        # Gauss's rule with two points is exact within a cell, where P is a cubic polynomial.
        shares = np.array([0.5, 0.5]) + np.array([-0.5, 0.5]) / np.sqrt(3)
        sums = [self._before(cols + s * along, rows + s * down) for s in shares]
        return (sums[0] + sums[1]) / 2 * down

    def _before(self, cols: Floats, rows: Floats) -> Floats:
        """P (see ``of_rings``) at pixel coordinates: area of the row from column 0 to ``cols``."""
        i, t = _cells(rows, self._cell[0], self._knots.shape[0])
        j, u = _cells(cols, self._cell[1], self._knots.shape[1])

        def line(k: Ints) -> Floats:
            left, right = self._knots[k, j], self._knots[k, j + 1]
            return np.asarray(
                self._sums[k, j] + self._cell[1] * u * (left + u / 2 * (right - left))
            )

        return line(i) * (1 - t) + line(i + 1) * t

    def _lattice(self, cells_across: int) -> Floats:
        """Areas of pixels around the knots of a lattice that is fine enough."""
        most = _MOST_KNOTS if self._location.straight else _MOST_SPLINE_KNOTS
        down, across = _FIRST_CELLS, cells_across
        coarse = self._pixels(down, across)
        while True:
            down, across = 2 * down, across if across == 1 else 2 * across
            fine = self._pixels(down, across)
            between = _halved(coarse) if across == 1 else _halved(_halved(coarse).T).T
            close = np.abs(fine - between).max() <= _TOLERANCE * fine.max()
            if close or 4 * fine.size > most:
                return fine
            coarse = fine

    def _pixels(self, down: int, across: int) -> Floats:
        """Areas of a pixel in square metres at the knots of a lattice."""
        rows = np.linspace(0, self._size[0], down + 1)
        cols = np.linspace(0, self._size[1], across + 1)
        middle = np.meshgrid(cols, rows)
        # Corners in the order upper left, upper right, lower right, lower left
        corners = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        half = self._probe / 2
        places = [
            self._to_ground(*self._location.to_map(middle[0] + half * col, middle[1] + half * row))
            for col, row in corners
        ]
        # The area of a quadrilateral is half the cross product of its diagonals d and e.
        with np.errstate(invalid="ignore"):
            dx, dy = places[2][0] - places[0][0], places[2][1] - places[0][1]
            ex, ey = places[3][0] - places[1][0], places[3][1] - places[1][1]
            areas = np.abs(dx * ey - dy * ex) / 2 / self._probe**2
        return np.where(np.isfinite(areas), areas, 0.0)


def _halved(knots: Floats) -> Floats:
    """The lattice with a row of interpolated knots between each two rows."""
    rows = np.repeat(knots, 2, axis=0)[:-1]
    rows[1::2] = (knots[1:] + knots[:-1]) / 2
    return rows


def _cells(places: Floats, size: float, knots: int) -> tuple[Ints, Floats]:
    """Index of the knot before each place, and the fraction of the way to the next knot."""
    before = np.clip((places / size).astype(np.int64), 0, knots - 2)
    return before, places / size - before


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
