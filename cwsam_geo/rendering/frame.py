"""The frame of a picture: an upright grid whose pixels are square on the ground."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.io.geolocation import Geolocation, locate, metres_per_unit
from cwsam_geo.io.pixel_lookup import nearest_pixels
from cwsam_geo.rendering.coarse import coarse_grid, coarse_shape

_ROWS = 128
"""Rows of the frame that are looked up at once, which bounds the memory of coordinates."""


@dataclass(frozen=True)
class Frame:
    """An upright grid in the CRS of a raster.

    Its pixels are square on the ground in the middle of the frame. A degree of longitude is
    shorter than one of latitude, so pixels in degrees are wider than they are high.

    Attributes:
        grid: The grid; that of the picture itself if the raster is not georeferenced.
        location: Its georeferencing.
        metres_per_pixel: Size of a pixel in the middle on the ground; None if that is unknown.
        north: Direction of true north in the middle, in degrees clockwise from the top; None if
            that is unknown.
        uneven: Largest ratio between the sizes of two pixels on the ground, along the frame's
            vertical middle line; 1 if all are alike.
    """

    grid: SceneGrid
    location: Geolocation
    metres_per_pixel: float | None
    north: float | None
    uneven: float

    def lay(
        self, values: NDArray[Any], grid: SceneGrid, label: str
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Lays an array on the frame: each pixel takes the value at its centre.

        Args:
            values: Shape (..., H, W) on ``grid``.
            grid: The array's grid, in any CRS.
            label: The grid's name in messages.

        Returns:
            Values on the frame, shape (..., h, w), 0 outside the array; and True inside it, shape
            (h, w).

        Raises:
            UsageError: The grid cannot be placed on the frame.
        """
        shape = self.grid.height, self.grid.width
        same = grid.transform == self.grid.transform and grid.crs == self.grid.crs
        if same and not grid.gcps and values.shape[-2:] == shape:
            return values, np.ones(shape, bool)
        rows, cols, inside = picked(grid, self.grid, label)
        laid = np.zeros((*values.shape[:-2], *shape), values.dtype)
        laid[..., inside] = values[..., rows[inside], cols[inside]]
        return laid, inside


def picked(
    of: SceneGrid, onto: SceneGrid, label: str
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """The pixels of one grid in which the pixel centres of another lie.

    Args:
        of: The grid whose pixels are picked, in any CRS, also with control points.
        onto: The grid of the result.
        label: Name of the first grid in messages.

    Returns:
        Rows and columns in ``of``, 0 outside it, and True inside it; each of shape (h, w).

    Raises:
        UsageError: The grids cannot be laid over each other.
    """
    target, own = locate(onto, label), locate(of, label)
    target.check_crs(own.crs, label)
    rows, cols = (np.zeros((onto.height, onto.width), np.int32) for _ in range(2))
    inside = np.zeros(rows.shape, bool)
    for start in range(0, onto.height, _ROWS):
        window = Window(start, 0, min(_ROWS, onto.height - start), onto.width)
        of_rows, of_cols, good = nearest_pixels(window, target, own)
        rows[window.slices][good], cols[window.slices][good] = of_rows, of_cols
        inside[window.slices] = good
    return rows, cols, inside


def frame_of(grid: SceneGrid, label: str, size: int) -> Frame:
    """The frame of a raster.

    Args:
        grid: The raster's grid; rotated ones and those with control points are turned upright.
        label: The raster's name in messages.
        size: Most pixels of the frame's longer side. Pixels are never smaller than the raster's.

    Raises:
        SceneError: The geotransform is degenerate.
    """
    location = locate(grid, label)
    if not location.placed:
        shape = coarse_shape(grid.height, grid.width, size)
        plain = coarse_grid(grid, shape)
        return Frame(plain, locate(plain, label), None, None, 1.0)
    x, y = (values[np.isfinite(values)] for values in location.outline())
    west, east, south, north = (float(v) for v in (x.min(), x.max(), y.min(), y.max()))
    ground = _Ground(location, (west + east) / 2, (south + north) / 2)
    wide = ground.wide  # units of x that are as long as one unit of y
    width, height = (east - west) / wide, north - south
    pixel = _finest(grid, location, wide)
    factor = max(1.0, max(width, height) / pixel / size)
    shape = max(1, round(height / pixel / factor)), max(1, round(width / pixel / factor))
    transform = Affine((east - west) / shape[1], 0.0, west, 0.0, -(north - south) / shape[0], north)
    if location.upright and grid.transform.a > 0 > grid.transform.e:
        transform = Affine.translation(west, north) * Affine.scale(transform.a, transform.e)
    upright = SceneGrid(shape[0], shape[1], transform, location.crs, block_shape=shape)
    return Frame(
        upright,
        locate(upright, label),
        ground.metres((north - south) / shape[0]),
        ground.north(),
        ground.uneven(south, north),
    )


def _finest(grid: SceneGrid, location: Geolocation, wide: float) -> float:
    """Smaller side of a pixel in the middle of a raster, in units of y."""
    cols = np.array([0.0, 1.0, 0.0]) + grid.width // 2
    rows = np.array([0.0, 0.0, 1.0]) + grid.height // 2
    x, y = location.to_map(cols, rows)
    sides = np.hypot((x[1:] - x[0]) / wide, y[1:] - y[0])
    sides = sides[np.isfinite(sides) & (sides > 0)]
    return float(sides.min()) if sides.size else 1.0


class _Ground:
    """Lengths and directions on the ground around the middle of a frame."""

    def __init__(self, location: Geolocation, x: float, y: float) -> None:
        self._x, self._y = x, y
        self._degrees: pyproj.Transformer | None = None
        self._geod: pyproj.Geod | None = None
        self._metres_per_unit = 1.0
        self._known = location.crs is not None
        self.wide = 1.0
        if location.crs is None:
            return
        crs = pyproj.CRS.from_wkt(location.crs.to_wkt())
        geodetic = crs.geodetic_crs
        if geodetic is None or geodetic.ellipsoid is None:  # a local CRS
            self._metres_per_unit = metres_per_unit(crs)
            return
        self._geod = crs.get_geod()
        self._degrees = pyproj.Transformer.from_crs(crs, geodetic, always_xy=True)
        if crs.is_geographic:
            step = 1e-4
            along, up = self._length(step, 0.0), self._length(0.0, step)
            self.wide = up / along if along > 0 and math.isfinite(up / along) else 1.0

    def _length(self, dx: float, dy: float, y: float | None = None) -> float:
        """Metres of a step in map units whose middle is the middle of the frame, or at ``y``."""
        y = self._y if y is None else y
        if self._degrees is None or self._geod is None:
            return math.hypot(dx, dy) * self._metres_per_unit
        lon, lat = self._degrees.transform(
            [self._x - dx / 2, self._x + dx / 2], [y - dy / 2, y + dy / 2]
        )
        if not np.isfinite([*lon, *lat]).all():
            return math.nan
        return float(self._geod.inv(lon[0], lat[0], lon[1], lat[1])[2])

    def metres(self, height: float) -> float | None:
        """Metres of ``height`` units of y in the middle; None if that is unknown."""
        length = self._length(0.0, height) if self._known else math.nan
        return length if math.isfinite(length) and length > 0 else None

    def north(self) -> float | None:
        """Direction of true north in the middle, in degrees clockwise from the top."""
        if self._degrees is None or self._geod is None:
            return None
        lon, lat = self._degrees.transform(self._x, self._y)
        if not (math.isfinite(lon) and math.isfinite(lat)):
            return None
        north = self._degrees.transform(lon, min(lat + 1e-4, 90.0), direction="INVERSE")
        dx, dy = (north[0] - self._x) / self.wide, north[1] - self._y
        return math.degrees(math.atan2(dx, dy)) if math.hypot(dx, dy) > 0 else None

    def uneven(self, south: float, north: float) -> float:
        """Largest ratio of the length of one step of x at the bottom, the middle and the top."""
        step = (north - south) / 1024 * self.wide or 1.0
        lengths = [self._length(step, 0.0, y) for y in (south, self._y, north)]
        lengths = [v for v in lengths if math.isfinite(v) and v > 0]
        return max(lengths) / min(lengths) if lengths else 1.0
