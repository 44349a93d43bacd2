"""Map coordinates of pixel corners, and areas of rings."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.crs import CRS

from cwsam_geo.errors import CwsamGeoError, UsageError
from cwsam_geo.io.geolocation import (
    Geolocation,
    is_local,
    metres_per_unit,
    name_of,
    no_way,
    transformer_between,
)
from cwsam_geo.io.vectors.chains import Ints, offsets_of

Floats = NDArray[np.float64]

_KNOT = 16
_EDGE = 64
"""Longest edge, in pixels, that may stay straight when it is bent into another CRS."""


class Placement:
    """From pixel corners to the map.

    Args:
        location: Where the raster's pixels lie.
        target: CRS of the output, or None for the raster's own.

    Attributes:
        crs: CRS of the output, or None.
        area_unit: ``m2``, or ``None`` without CRS: then areas are in squared map units, which
            are pixels where there is no geotransform either.

    Raises:
        UsageError: There is a target, but the raster has no CRS or there is no way from it.
    """

    def __init__(self, location: Geolocation, target: CRS | None = None) -> None:
        if target is not None and location.crs is None:
            raise UsageError(
                f"{location.label}: has no CRS, so its polygons cannot be brought to "
                f"{name_of(target)}; georeference the raster, or leave out --t-srs"
            )
        why = no_way(location.crs, target) if target and location.crs else None
        if why:
            raise UsageError(f"{location.label}: {why}; {_other_way(location)}")
        self._location = location
        self.crs = target or location.crs
        self.area_unit = "m2" if location.crs is not None else None
        self._knots = _knots(location) if location.bent else None
        self._unit = 1.0
        self._equal_area: pyproj.Transformer | None = None
        self._moved: pyproj.Transformer | None = None
        self._centre = 0.0
        if location.crs is not None:
            source = pyproj.CRS.from_wkt(location.crs.to_wkt())
            self._unit = metres_per_unit(source)
            if source.is_geographic or _lies_about_area(source):
                self._equal_area = _to_equal_area(source)
            if target is not None and target != location.crs:
                self._moved = transformer_between(location.crs, target)
                self._centre = self._middle_longitude(target)
        self.bends = self._moved is not None or location.bent

    @property
    def reverse(self) -> bool:
        """Whether rings must be turned around to run counterclockwise on the map."""
        corner = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
        middle = self._location.grid.width / 2, self._location.grid.height / 2
        x, y = self.in_own_crs(corner[0] + middle[0], corner[1] + middle[1])
        return bool((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0]) < 0)

    def in_own_crs(self, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Coordinates in the raster's CRS."""
        if self._knots is None:
            return self._location.to_map(cols, rows)
        return _between(self._knots, cols, rows)

    def on_map(self, x: Floats, y: Floats) -> Floats:
        """Coordinates in the output's CRS of coordinates in the raster's, shape (N, 2).

        Longitudes run on across the date line, so that no ring is torn apart.

        Raises:
            CwsamGeoError: Some place has no coordinates there.
        """
        if self._moved is None:
            return np.column_stack([x, y])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            points = np.column_stack(self._moved.transform(x, y))
        if not np.isfinite(points).all():
            raise CwsamGeoError(
                f"{self._location.label}: parts of it have no coordinates in {name_of(self.crs)}; "
                "choose another --t-srs"
            )
        if self.crs is not None and self.crs.is_geographic:
            points[:, 0] += 360 * np.round((self._centre - points[:, 0]) / 360)
        return points

    def ring_areas(self, x: Floats, y: Floats, offsets: Ints) -> Floats:
        """Signed areas of closed rings given in the raster's CRS; see ``area_unit``.

        In the plane of a projected CRS; on the ellipsoid for a geographic one and for
        projections that do not keep areas even roughly (Mercator).
        """
        if len(offsets) == 1:
            return np.zeros(0)
        if self._equal_area is not None:
            x, y = self._equal_area.transform(x, y)
        first = np.repeat(offsets[:-1], np.diff(offsets))
        # From the ring's first vertex: map coordinates are large, and their products larger.
        x, y = x - x[first], y - y[first]
        cross = np.zeros(len(x))
        cross[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]
        cross[offsets[1:] - 1] = 0.0
        return np.asarray(np.add.reduceat(cross, offsets[:-1]) / 2 * self._unit**2)

    def pixel_areas(self, rows: Floats) -> Floats:
        """Area of the pixel in the middle of each row; see ``area_unit``."""
        col = self._location.grid.width // 2
        across = np.array([0.0, 1.0, 1.0, 0.0, 0.0]) + col
        down = np.array([0.0, 0.0, 1.0, 1.0, 0.0])
        cols = np.broadcast_to(across, (len(rows), 5)).ravel()
        x, y = self.in_own_crs(cols, (rows[:, None] + down).ravel())
        return np.abs(self.ring_areas(x, y, np.arange(len(rows) + 1) * 5))

    def pixel_side(self) -> float:
        """Side of a pixel in the middle of the output, in units of its CRS."""
        grid = self._location.grid
        cols, rows = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
        points = self.on_map(*self.in_own_crs(cols + grid.width // 2, rows + grid.height // 2))
        return float(np.hypot(*(points[1:] - points[0]).T).min())

    def _middle_longitude(self, target: CRS) -> float:
        if self._moved is None or not target.is_geographic:
            return 0.0
        grid = self._location.grid
        x, y = self.in_own_crs(np.array([grid.width / 2]), np.array([grid.height / 2]))
        middle = float(self._moved.transform(x, y)[0][0])
        return middle if np.isfinite(middle) else 0.0


def _other_way(location: Geolocation) -> str:
    if location.crs is None or not is_local(location.crs):
        return "choose another CRS (--t-srs)"
    return (
        "assign the true CRS first (gdal_edit.py -a_srs), or write *.gpkg, *.fgb or *.parquet in "
        "its own coordinates"
    )


def densified(points: NDArray[Any], offsets: Ints) -> tuple[Floats, Ints]:
    """Lines with further vertices on edges longer than ``_EDGE`` pixels.

    Args:
        points: Vertices, shape (N, 2).
        offsets: Where each line starts, shape (A + 1,).
    """
    steps = np.zeros(len(points))
    steps[:-1] = np.hypot(*np.diff(points.astype(np.float64), axis=0).T)
    steps[offsets[1:] - 1] = 0
    count = np.maximum(np.ceil(steps / _EDGE), 1).astype(np.int64)
    if count.max(initial=1) == 1:
        return points.astype(np.float64), offsets
    places = offsets_of(count)
    vertex = np.repeat(np.arange(len(points)), count)
    share = (np.arange(places[-1]) - places[vertex]) / count[vertex]
    start = points[vertex].astype(np.float64)
    stop = points[np.minimum(vertex + 1, len(points) - 1)]
    return start + share[:, None] * (stop - start), places[offsets]


def _lies_about_area(crs: pyproj.CRS) -> bool:
    """Mercator and its like: a square metre on the map is not one on the ground, by far."""
    operation = crs.coordinate_operation
    return (
        operation is not None
        and any(
            word in operation.method_name.lower()
            for word in ("mercator", "equidistant cylindrical")
        )
        and "transverse" not in operation.method_name.lower()
    )


def _to_equal_area(source: pyproj.CRS) -> pyproj.Transformer:
    geodetic = source.geodetic_crs or source
    ellipsoid = geodetic.ellipsoid
    cylinder = pyproj.CRS.from_proj4(
        f"+proj=cea +over +a={ellipsoid.semi_major_metre} +b={ellipsoid.semi_minor_metre} +units=m"
    )
    return pyproj.Transformer.from_crs(source, cylinder, always_xy=True)


def _knots(location: Geolocation) -> Floats:
    """Map coordinates on a lattice of pixel corners, shape (2, rows, cols)."""
    grid = location.grid
    cols, rows = np.meshgrid(
        np.arange(0.0, grid.width + _KNOT, _KNOT), np.arange(0.0, grid.height + _KNOT, _KNOT)
    )
    return np.stack(location.to_map(cols, rows))


def _between(knots: Floats, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
    i, j = (rows // _KNOT).astype(np.int64), (cols // _KNOT).astype(np.int64)
    i, j = np.minimum(i, knots.shape[1] - 2), np.minimum(j, knots.shape[2] - 2)
    down, along = rows / _KNOT - i, cols / _KNOT - j

    def at(values: Floats) -> Floats:
        upper = values[i, j] * (1 - along) + values[i, j + 1] * along
        lower = values[i + 1, j] * (1 - along) + values[i + 1, j + 1] * along
        return np.asarray(upper * (1 - down) + lower * down)

    return at(knots[0]), at(knots[1])
