"""Pixel coordinates to map coordinates and back, by geotransform or by control points."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.crs import CRS

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.io.control_points import ControlPoints
from cwsam_geo.io.creation_options import GDAL_FAILURES
from cwsam_geo.io.knots import between_knots, knots
from cwsam_geo.io.longitudes import rejoined, turned

Floats = NDArray[np.float64]

_EDGE_STEPS = 64
"""Parts into which an edge of the grid is divided, because reprojected edges are curved."""

_HALF_TURN = 180
"""Degrees of longitude. A scene that spans more contains a pole or crosses the antimeridian."""


def locate(grid: SceneGrid, label: str) -> Geolocation:
    """Where a grid lies on the map: by its geotransform or, without one, by its control points.

    Args:
        label: The grid's name in messages.

    Raises:
        SceneError: The geotransform is degenerate.
    """
    if grid.transform.is_degenerate:
        raise SceneError(f"{label}: its geotransform is degenerate; georeference it anew")
    # A file may have both. GDAL then uses the geotransform and ignores the control points.
    if grid.gcps and grid.transform.is_identity:
        return GcpPlace(grid, label)
    return AffinePlace(grid, label)


class Geolocation(ABC):
    """Converts between pixel coordinates and map coordinates of a grid; made by ``locate``.

    Pixel coordinates are (column, row), continuous, with (0, 0) at the outer corner of the first
    pixel.

    Attributes:
        crs: CRS of the map coordinates; None without georeferencing.
        placed: Whether the grid has georeferencing.
        straight: Whether pixel edges are straight lines on the map.
        upright: Whether they are parallel to the axes of the map.
    """

    crs: CRS | None
    placed: bool
    straight: bool
    upright: bool

    def __init__(self, grid: SceneGrid, label: str) -> None:
        self.grid, self.label = grid, label

    @abstractmethod
    def to_map(self, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Map coordinates (x, y) in ``crs``, of pixel coordinates of any shape."""

    @abstractmethod
    def to_pixels(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Pixel coordinates (column, row) of map coordinates in ``crs``, of any shape."""

    def approximated(self) -> Geolocation:
        """The same place with a ``to_map`` that is fast for any number of points."""
        return self

    def outline(self) -> tuple[Floats, Floats]:
        """Map coordinates (x, y) of points along the edge of the grid, shape (4 * 65,) each."""
        # Clockwise from the first pixel, as fractions of width and height.
        steps = np.linspace(0, 1, _EDGE_STEPS + 1)
        zero, one = np.zeros_like(steps), np.ones_like(steps)
        cols = np.concatenate([steps, one, steps[::-1], zero]) * self.grid.width
        rows = np.concatenate([zero, steps, one, steps[::-1]]) * self.grid.height
        return self.to_map(cols, rows)

    def bounds_in(self, crs: CRS | None) -> tuple[float, float, float, float]:
        """West, south, east, north of the grid in another CRS; NaN where it has no coordinates."""
        x, y = transformed(*self.outline(), self.crs, crs)
        good = np.isfinite(x) & np.isfinite(y)  # a point may lie outside the other CRS
        if not good.any():
            return (np.nan, np.nan, np.nan, np.nan)
        x, y = x[good], y[good]
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def shapes_to_pixels(self, shapes: NDArray[Any], crs: CRS | None, label: str) -> NDArray[Any]:
        """Converts geometries of a file to pixel coordinates.

        Edges are straight in the file's CRS and may be curved in pixels, so long edges get
        additional vertices first. Geometries in degrees are moved by 360 degrees of longitude
        where only that brings them onto the grid.

        Args:
            shapes: Shapely geometries, shape (N,).
            crs: CRS of the geometries.
            label: The file's name in messages.

        Raises:
            UsageError: See ``check_crs``.
        """
        self.check_crs(crs, label)
        shapes = self._met(shapes, crs)
        if crs != self.crs or not self.straight:
            shapes = self._near(shapes, crs)
            west, south, east, north = self.bounds_in(crs)
            longest = max(east - west, north - south) / _EDGE_STEPS
            # An edge as long as the grid becomes _EDGE_STEPS edges.
            if np.isfinite(longest) and longest > 0:
                shapes = shapely.segmentize(shapes, longest)
        if not self.grid.georeferenced and self.crs is None:
            shapes = _upright(shapes)

        def project(points: Floats) -> Floats:
            return np.column_stack(transformed(points[:, 0], points[:, 1], crs, self.crs))

        def place(points: Floats) -> Floats:
            return np.column_stack(self.to_pixels(points[:, 0], points[:, 1]))

        shapes = shapely.force_2d(shapes)
        if crs != self.crs:
            shapes = shapely.transform(shapes, project)
            if _in_degrees(self.crs):
                shapes = self._met(rejoined(shapes), self.crs)
        placed: NDArray[Any] = shapely.transform(shapes, place)
        return placed

    def _met(self, shapes: NDArray[Any], crs: CRS | None) -> NDArray[Any]:
        """Moves shapes in degrees by 360 degrees of longitude if that brings them onto the grid.

        Shapes in another unit are returned unchanged.
        """
        if not len(shapes) or not _in_degrees(crs):
            return shapes
        bounds = self.bounds_in(crs)
        finite = np.isfinite(bounds).all()
        # If a grid in metres seems to span more than 180 degrees, it crosses the antimeridian or
        # contains a pole. Its bounds in degrees are then useless, and moved shapes would be
        # projected to the same place anyway.
        meaningful = _in_degrees(self.crs) or bounds[2] - bounds[0] <= _HALF_TURN
        return turned(shapes, bounds) if finite and meaningful else shapes

    def _near(self, shapes: NDArray[Any], crs: CRS | None) -> NDArray[Any]:
        """Clips polygons that reach far beyond the grid to its surroundings.

        A place far away may have no coordinates in the grid's CRS, or wrong ones inside the grid:
        a transverse Mercator projection folds the globe.
        """
        west, south, east, north = self.bounds_in(crs)
        dx, dy = east - west, north - south
        if not np.isfinite([dx, dy]).all() or (_in_degrees(crs) and dx > _HALF_TURN):
            return shapes
        # The surroundings: one more width and height of the grid on each side.
        box = west - dx, south - dy, east + dx, north + dy
        edges = shapely.bounds(shapes)
        far = (edges[:, :2] < box[:2]).any(axis=1) | (edges[:, 2:] > box[2:]).any(axis=1)
        far &= shapely.get_dimensions(shapes) == 2
        if not far.any():
            return shapes
        near = shapes.copy()
        # Clipping needs valid polygons.
        solid = shapely.make_valid(shapes[far], method="structure", keep_collapsed=False)
        near[far] = shapely.clip_by_rect(solid, *box)
        return near

    def check_crs(self, crs: CRS | None, label: str) -> None:
        """Checks that the file ``label``, whose CRS is ``crs``, can be placed on the grid.

        Raises:
            UsageError: Only one of file and grid has a CRS, or PROJ has no transformation from
                one CRS to the other.
        """
        if self.crs and not crs:
            raise UsageError(
                f"{label}: has no CRS, but {self.label} has {crs_name(self.crs)}, so the two "
                "cannot be laid over each other; assign the CRS first (rasters: rio edit-info "
                "--like SCENE --all FILE; vectors: ogr2ogr -a_srs)"
            )
        if crs and not self.crs:
            raise UsageError(
                f"{label}: has the CRS {crs_name(crs)}, but {self.label} has none, so the two "
                "cannot be laid over each other; georeference the latter first"
            )
        why = None if crs is None or self.crs is None else why_not_transformable(crs, self.crs)
        if why:
            raise UsageError(
                f"{label}: cannot be laid over {self.label}: {why}; bring both into one CRS first"
            )


class AffinePlace(Geolocation):
    """A grid placed by a geotransform.

    The map coordinates of a grid without georeferencing are its pixel coordinates.
    """

    straight = True

    def __init__(self, grid: SceneGrid, label: str) -> None:
        super().__init__(grid, label)
        self.crs = grid.crs or None
        self.placed = grid.georeferenced
        self.upright = grid.transform.b == 0 and grid.transform.d == 0

    def to_map(self, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Map coordinates by the geotransform."""
        return _apply(self.grid.transform, cols, rows)

    def to_pixels(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Pixel coordinates by the inverse of the geotransform."""
        return _apply(~self.grid.transform, x, y)


class GcpPlace(Geolocation):
    """A grid placed by ground control points.

    Thin-plate splines interpolate between the points, because polynomials are off by hundreds of
    metres in mountains.

    Attributes:
        points: The control points and their splines.
    """

    placed, straight, upright = True, False, False

    def __init__(self, grid: SceneGrid, label: str) -> None:
        super().__init__(grid, label)
        self.crs = grid.gcp_crs or None
        try:
            self.points = ControlPoints(grid.gcps, self.crs)
        except GDAL_FAILURES as error:
            raise SceneError(
                f"{label}: its {len(grid.gcps)} control points do not say where it lies "
                f"({' '.join(str(error).split())}); they may lie on a line, or two of them on one "
                "place: give the georeferenced original"
            ) from None

    def to_map(self, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Map coordinates by the inverse of the splines."""
        return self.points.to_map(cols, rows)

    def to_pixels(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Pixel coordinates by thin-plate splines."""
        return self.points.to_pixels(x, y)

    def approximated(self) -> Geolocation:
        """Interpolates between splines at every 16th pixel corner."""
        return _KnotPlace(self.grid, self.label)


class _KnotPlace(GcpPlace):
    """A grid placed by control points whose splines are evaluated at some pixels only."""

    def __init__(self, grid: SceneGrid, label: str) -> None:
        super().__init__(grid, label)
        where = np.meshgrid(knots(0, grid.width), knots(0, grid.height))
        self._x, self._y = super().to_map(*where)

    def to_map(self, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Map coordinates by bilinear interpolation of the splines."""
        return between_knots(self._x, rows, cols), between_knots(self._y, rows, cols)


def _apply(transform: Affine, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    t = transform
    return t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f


def transformed(
    x: Floats, y: Floats, source: CRS | None, target: CRS | None
) -> tuple[Floats, Floats]:
    """Transforms coordinates of any shape to another CRS, x or longitude first.

    Returns:
        Coordinates x and y; inf where a point has none in the other CRS. They are unchanged if
        either CRS is None.

    Raises:
        SceneError: PROJ has no transformation from one CRS to the other.
    """
    if source == target or source is None or target is None:
        return x, y
    try:
        transformer = transformer_between(source, target)
    except ProjError:
        raise SceneError(
            f"{why_not_transformable(source, target)}; bring all files into one CRS first"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        moved = transformer.transform(x, y)
    return np.asarray(moved[0], np.float64), np.asarray(moved[1], np.float64)


def transformer_between(source: CRS, target: CRS) -> pyproj.Transformer:
    """The transformation from one CRS to another, x or longitude first.

    Raises:
        ProjError: PROJ has no such transformation; ``why_not_transformable`` says why.
    """
    crs = (pyproj.CRS.from_wkt(c.to_wkt()) for c in (source, target))
    return pyproj.Transformer.from_crs(*crs, always_xy=True)


def why_not_transformable(source: CRS, target: CRS) -> str | None:
    """Why coordinates in one CRS cannot be transformed to another; None if they can."""
    if source == target:
        return None
    try:
        transformer_between(source, target)
    except ProjError:
        text = f"there is no transformation from {crs_name(source)} to {crs_name(target)}"
        local = next((c for c in (source, target) if is_local(c)), None)
        return f"{text} ({crs_name(local)} is local, tied to no place on Earth)" if local else text
    return None


def is_local(crs: CRS) -> bool:
    """Whether a CRS is an engineering CRS: a plane that is not tied to a place on Earth."""
    return pyproj.CRS.from_wkt(crs.to_wkt()).geodetic_crs is None


def metres_per_unit(crs: pyproj.CRS) -> float:
    """Length of the unit of a projected or local CRS in metres; 1 for degrees."""
    axis = crs.axis_info[0] if crs.axis_info else None
    return float(axis.unit_conversion_factor) if axis and not crs.is_geographic else 1.0


def _in_degrees(crs: CRS | None) -> bool:
    return bool(crs and crs.is_geographic)


def crs_name(crs: CRS | None) -> str:
    """A short name of a CRS for messages, such as ``EPSG:32633``."""
    if not crs:
        return "no CRS"
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(pyproj.CRS.from_wkt(crs.to_wkt()).name)


def window_around(shapes: NDArray[Any], grid: SceneGrid) -> Window:
    """The smallest window around geometries in pixel coordinates, cut to the grid."""
    if not len(shapes):
        return Window(0, 0, 0, 0)
    left, top, right, bottom = shapely.total_bounds(shapes)
    return pixel_window((left, top, right, bottom), grid)


def pixel_window(bounds: tuple[float, float, float, float], grid: SceneGrid) -> Window:
    """The smallest window around (left, top, right, bottom) in pixel coordinates, cut to the grid.

    The window is empty if a coordinate is not finite.
    """
    left, top, right, bottom = bounds
    if not np.isfinite(bounds).all():
        return Window(0, 0, 0, 0)
    first_col, first_row = max(0, int(np.floor(left))), max(0, int(np.floor(top)))
    last_col, last_row = (
        min(grid.width, int(np.ceil(right))),
        min(grid.height, int(np.ceil(bottom))),
    )
    return Window(first_row, first_col, max(0, last_row - first_row), max(0, last_col - first_col))


def _upright(shapes: NDArray[Any]) -> NDArray[Any]:
    """Mirrors shapes that were drawn in QGIS over a picture without georeferencing.

    QGIS gives row r of such a picture the coordinate y = -r. No pixel has a negative row, so
    negative coordinates cannot mean anything else.
    """
    if not len(shapes):
        return shapes
    _, south, _, north = shapely.total_bounds(shapes)
    if south < 0 and north <= 0:
        return np.asarray(shapely.transform(shapes, lambda p: p * np.array([1.0, -1.0])))
    return shapes
