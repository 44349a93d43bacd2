"""Part of a scene as a source of its own: by bounds, or by the polygons of a file."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio.features
from numpy.typing import NDArray

from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.grid import SceneGrid, Window

if TYPE_CHECKING:
    from cwsam_geo.io.source import Source

_NEAR = 1e-6
"""Fraction of a pixel by which bounds may miss a pixel edge and still mean it."""


class CroppedSource:
    """A window of a source; where polygons are given, what lies outside them is nodata.

    A pixel belongs to the polygons when its centre lies inside, as ``gdalwarp -cutline`` has it.

    Args:
        source: The whole scene.
        window: The part, inside the scene.
        shapes: Polygons in the scene's CRS, or none for the whole window.
    """

    def __init__(self, source: Source, window: Window, shapes: Sequence[Any] = ()) -> None:
        self._source, self._window, self._shapes = source, window, shapes
        self.grid = source.grid.crop(window)
        self.names = source.names
        self.label = source.label
        self.hints = source.hints
        self.complex = source.complex

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Values (N, h, w) and valid (h, w) of a window of the part."""
        values, valid = self._source.read(window.shift(self._window.row, self._window.col))
        if self._shapes:
            inside = rasterio.features.geometry_mask(
                self._shapes,
                out_shape=valid.shape,
                transform=self.grid.crop(window).transform,
                invert=True,
            )
            valid = valid & inside
        return values, valid

    def close(self) -> None:
        """Closes the whole scene."""
        self._source.close()


def window_of_bounds(
    grid: SceneGrid, bounds: tuple[float, float, float, float], label: str
) -> Window:
    """The pixels that touch a rectangle in the scene's CRS.

    Args:
        grid: The scene's grid, also a rotated one.
        bounds: West, south, east, north.
        label: The scene's name, for messages.

    Raises:
        UsageError: The rectangle is empty or lies outside the scene.
        SceneError: The scene has no transform.
    """
    west, south, east, north = bounds
    if not (west < east and south < north):
        raise UsageError(f"bounds {bounds}: give west south east north, in that order")
    _need_transform(grid, label)
    back = ~grid.transform
    corners = [back * (x, y) for x in (west, east) for y in (south, north)]
    cols, rows = zip(*corners, strict=True)
    left, top = math.floor(min(cols) + _NEAR), math.floor(min(rows) + _NEAR)
    right, bottom = math.ceil(max(cols) - _NEAR), math.ceil(max(rows) - _NEAR)
    window = Window(top, left, bottom - top, right - left).intersect(grid.window)
    if window.empty:
        west, south, east, north = rasterio.transform.array_bounds(
            grid.height, grid.width, grid.transform
        )
        raise UsageError(
            f"bounds {bounds} lie outside {label}, which spans {west:g} {south:g} {east:g} "
            f"{north:g} in {grid.crs.to_string() if grid.crs else 'its own coordinates'}"
        )
    return window


def crop_to_bounds(source: Source, bounds: tuple[float, float, float, float]) -> CroppedSource:
    """The part of a scene within west, south, east, north of its CRS.

    Raises:
        UsageError: See ``window_of_bounds``.
        SceneError: See ``window_of_bounds``.
    """
    return CroppedSource(source, window_of_bounds(source.grid, bounds, source.label))


def crop_to_aoi(source: Source, aoi: str | os.PathLike[str]) -> CroppedSource:
    """The part of a scene within the polygons of a vector file of any CRS.

    Raises:
        UsageError: The file has no polygons, no CRS, or lies outside the scene.
        SceneError: The scene has no transform or CRS.
    """
    shapes = _polygons(source, aoi)
    boxes = np.array([s.bounds for s in shapes])
    bounds = (*boxes[:, :2].min(0), *boxes[:, 2:].max(0))
    try:
        window = window_of_bounds(source.grid, bounds, source.label)
    except UsageError as error:
        raise UsageError(f"{aoi}: {error}") from None
    return CroppedSource(source, window, shapes)


def _polygons(source: Source, aoi: str | os.PathLike[str]) -> list[Any]:
    import geopandas

    _need_transform(source.grid, source.label)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = geopandas.read_parquet if str(aoi).endswith("parquet") else geopandas.read_file
            frame = read(aoi)
    except Exception as error:
        raise UsageError(f"{aoi}: cannot be read as a vector file: {error}") from None
    if source.grid.crs is not None:
        if frame.crs is None:
            raise UsageError(
                f"{aoi}: has no CRS, so it cannot be placed on the scene; set its CRS first"
            )
        frame = frame.to_crs(source.grid.crs.to_wkt())
    elif frame.crs is not None:
        raise SceneError(f"{source.label}: has no CRS, so the polygons of {aoi} cannot be placed")
    shapes = [
        s for s in frame.geometry if s is not None and s.area > 0 and "Polygon" in s.geom_type
    ]
    if not shapes:
        raise UsageError(f"{aoi}: has no polygons")
    return shapes


def _need_transform(grid: SceneGrid, label: str) -> None:
    if grid.gcps or not grid.georeferenced:
        raise SceneError(
            f"{label}: has no geotransform, so it cannot be cut by map coordinates; "
            "warp it first (gdalwarp), or cut it by pixels (gdal_translate -srcwin)"
        )
