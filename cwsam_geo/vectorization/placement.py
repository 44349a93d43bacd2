"""Map coordinates of pixel corners, and areas of rings."""

from __future__ import annotations

import warnings

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from cwsam_geo.errors import CwsamGeoError, UsageError
from cwsam_geo.io.geolocation import (
    Geolocation,
    crs_name,
    is_local,
    transformer_between,
    why_not_transformable,
)
from cwsam_geo.io.pixel_areas import PixelAreas
from cwsam_geo.io.proj_data import crs_of
from cwsam_geo.vectorization.coverage.chains import Ints
from cwsam_geo.vectorization.options import VectorizeOptions

_WGS84 = CRS.from_epsg(4326)

Floats = NDArray[np.float64]


class Placement:
    """Transforms pixel corners to map coordinates and measures areas.

    Args:
        location: Georeferencing of the raster.
        target: CRS of the output, or None for the raster's.

    Attributes:
        crs: CRS of the output, or None.
        area_unit: ``m2``, on the ellipsoid; None where the raster has no CRS. Areas are then in
            squared units of the geotransform, or in pixels where there is no geotransform either.
        bends: Straight pixel edges become curves on the map.

    Raises:
        UsageError: The raster has no CRS, or its CRS cannot be transformed to the target.
    """

    def __init__(self, location: Geolocation, target: CRS | None = None) -> None:
        if target is not None and location.crs is None:
            raise UsageError(
                f"{location.label}: has no CRS, so its polygons cannot be transformed to "
                f"{crs_name(target)}; georeference the raster, or leave out --t-srs"
            )
        why = why_not_transformable(location.crs, target) if target and location.crs else None
        if why:
            raise UsageError(f"{location.label}: {why}; {_other_way(location)}")
        self._location = location
        self.crs = target or location.crs
        self.area_unit = "m2" if location.crs is not None else None
        self._fast = location.approximated()
        self._areas = PixelAreas(location)
        # Without a CRS, areas are in squared units of the geotransform.
        self._unit = 1.0 if location.crs else abs(float(location.grid.transform.determinant))
        self._moved: pyproj.Transformer | None = None
        self._centre = 0.0
        if location.crs is not None and target is not None and target != location.crs:
            self._moved = transformer_between(location.crs, target)
            self._centre = self._middle_longitude(target)
        self.bends = self._moved is not None or not location.straight

    @property
    def reverse(self) -> bool:
        """Whether rings must be turned around to run counterclockwise on the map."""
        # Sign of the cross product of a step along the row and a step down the column
        corner = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
        middle = self._location.grid.width / 2, self._location.grid.height / 2
        x, y = self.in_own_crs(corner[0] + middle[0], corner[1] + middle[1])
        return bool((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0]) < 0)

    def in_own_crs(self, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Coordinates in the raster's CRS."""
        return self._fast.to_map(cols, rows)

    def on_map(self, x: Floats, y: Floats) -> Floats:
        """Transforms coordinates in the raster's CRS to the output's, shape (N, 2).

        Longitudes may pass 180 degrees, so that a ring across the antimeridian stays whole.

        Raises:
            CwsamGeoError: A point has no coordinates in the output's CRS.
        """
        if self._moved is None:
            return np.column_stack([x, y])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            points = np.column_stack(self._moved.transform(x, y))
        if not np.isfinite(points).all():
            raise CwsamGeoError(
                f"{self._location.label}: parts of it have no coordinates in {crs_name(self.crs)}; "
                "choose another --t-srs"
            )
        if self.crs is not None and self.crs.is_geographic:
            # Full turns bring every point to within 180 degrees of the scene's centre.
            points[:, 0] += 360 * np.round((self._centre - points[:, 0]) / 360)
        return points

    def ring_areas(self, cols: Floats, rows: Floats, offsets: Ints) -> Floats:
        """Areas of closed rings in pixel coordinates, shape (R,); see ``area_unit``.

        With a CRS these are areas on the ellipsoid, as in the reports of ``evaluate``.

        Args:
            cols: Columns of the vertices, shape (N,).
            rows: Rows of the vertices, shape (N,).
            offsets: Index of each ring's first vertex, and N, shape (R + 1,).
        """
        return self._areas.of_rings(cols, rows, offsets) * self._unit

    def pixel_areas(self, rows: Floats) -> Floats:
        """Area of the middle pixel of each row, shape (N,); see ``area_unit``."""
        middle = np.full(len(rows), self._location.grid.width / 2)
        return self._areas.at(middle, rows + 0.5) * self._unit

    def pixel_side(self) -> float:
        """Shorter side of the scene's middle pixel, in units of the output's CRS."""
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


def target_crs(location: Geolocation, options: VectorizeOptions, kind: str) -> CRS | None:
    """CRS to which polygons are transformed; None to keep the raster's.

    Args:
        location: Georeferencing of the raster.
        options: Options whose ``t_srs`` counts.
        kind: Format of the output; GeoJSON and KML are always in WGS84.

    Raises:
        UsageError: ``t_srs`` is not the CRS of a map, or the format does not allow it.
    """
    target: CRS | None = None
    if options.t_srs is not None:
        try:
            target = crs_of(options.t_srs)
        except CRSError:
            raise UsageError(
                f"--t-srs {options.t_srs!r}: is no CRS; give for example EPSG:4326"
            ) from None
        if target != location.crs and not (target.is_projected or target.is_geographic):
            raise UsageError(
                f"--t-srs {options.t_srs!r}: is no CRS of a map (projected, or longitude and "
                "latitude); give for example EPSG:4326"
            )
    if kind in ("GeoJSON", "KML"):
        if kind == "KML" and location.crs is None:
            raise UsageError(
                f"{location.label}: has no CRS, but KML needs longitudes and latitudes; "
                "georeference the raster, or write *.gpkg"
            )
        if target is not None and target != _WGS84:
            raise UsageError(
                f"{kind} is always in WGS84, not {crs_name(target)}; leave out --t-srs, "
                "or write *.gpkg"
            )
        return _WGS84 if location.crs is not None else None
    return target
