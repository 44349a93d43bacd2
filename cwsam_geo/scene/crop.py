"""The part of a scene within bounds or within polygons of a vector file."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.errors import OutsideError, SceneError, UsageError
from cwsam_geo.io.geolocation import crs_name, locate, pixel_window
from cwsam_geo.io.vector_file import burn, read_area

_NEAR = 1e-6
"""Tolerance in pixels: bounds that reach this little into a pixel do not include it.

Bounds are rounded decimal numbers, so they rarely lie exactly on a pixel edge.
"""


@dataclass(frozen=True)
class ScenePart:
    """A rectangle of a scene, or the pixels of it that lie in polygons.

    A pixel lies in a polygon when its centre does, as with ``gdalwarp -cutline``.

    Attributes:
        window: The rectangle, inside the scene.
        shapes: Polygons in pixel coordinates of the whole scene, or None for the whole rectangle.
    """

    window: Window
    shapes: NDArray[Any] | None = None

    def contains(self, window: Window) -> NDArray[np.bool_]:
        """True where a pixel of a window inside ``self.window`` is in the part, shape (h, w)."""
        if self.shapes is None:
            # A view of one value: it takes no memory.
            return np.broadcast_to(np.True_, (window.height, window.width))
        return burn(self.shapes, np.ones(len(self.shapes), np.int32), window) > 0


def window_of_bounds(
    grid: SceneGrid, bounds: tuple[float, float, float, float], label: str
) -> Window:
    """The smallest window that covers a rectangle in the scene's CRS, cut to the scene.

    Args:
        grid: The scene's grid, which may be rotated.
        bounds: West, south, east, north.
        label: The scene's name, for messages.

    Raises:
        UsageError: The rectangle is empty.
        OutsideError: The rectangle lies outside the scene.
        SceneError: The scene has no geotransform.
    """
    west, south, east, north = bounds
    if not (west < east and south < north and all(map(math.isfinite, bounds))):
        raise UsageError(f"bounds {_listed(bounds)}: give west south east north, in that order")
    if grid.gcps:
        raise SceneError(
            f"{label}: is placed by control points, so it cannot be cut by bounds; "
            "give a polygon instead (--aoi)"
        )
    if not grid.georeferenced:
        raise SceneError(
            f"{label}: has no geotransform, so it cannot be cut by map coordinates; "
            "warp it first (gdalwarp), or cut it by pixels (gdal_translate -srcwin)"
        )
    to_pixels = ~grid.transform
    corners = np.array([to_pixels * (x, y) for x in (west, east) for y in (south, north)])
    window = _touched(corners, grid)
    if window.empty:
        raise OutsideError(f"bounds {_listed(bounds)} lie outside {_extent(grid, label)}")
    return window


def part_in_bounds(
    grid: SceneGrid, label: str, bounds: tuple[float, float, float, float]
) -> ScenePart:
    """The part of a scene within west, south, east, north of its CRS.

    Raises:
        UsageError: See ``window_of_bounds``.
        SceneError: See ``window_of_bounds``.
    """
    return ScenePart(window_of_bounds(grid, bounds, label))


def part_in_area(grid: SceneGrid, label: str, aoi: str | os.PathLike[str]) -> ScenePart:
    """The part of a scene within the polygons of a vector file of any CRS.

    Raises:
        UsageError: The file has no polygons or no CRS.
        OutsideError: The polygons lie outside the scene.
        SceneError: The scene's geotransform is degenerate.
    """
    shapes = read_area(aoi, locate(grid, label))
    window = _touched(shapely.get_coordinates(shapes), grid)
    if window.empty:
        raise OutsideError(f"{aoi}: has no polygons on {_extent(grid, label)}")
    return ScenePart(window, shapes)


def _touched(points: NDArray[Any], grid: SceneGrid) -> Window:
    """The smallest window around points in pixel coordinates, shape (N, 2), cut to the grid."""
    if not len(points):
        return Window(0, 0, 0, 0)
    (left, top), (right, bottom) = points.min(0) + _NEAR, points.max(0) - _NEAR
    return pixel_window((left, top, right, bottom), grid)


def _extent(grid: SceneGrid, label: str) -> str:
    location = locate(grid, label)
    where = crs_name(location.crs) if location.crs else "its own coordinates"
    return f"{label}, which spans {_listed(location.bounds_in(None))} in {where}"


def _listed(bounds: tuple[float, float, float, float]) -> str:
    return " ".join(f"{v:.10g}" for v in bounds)
