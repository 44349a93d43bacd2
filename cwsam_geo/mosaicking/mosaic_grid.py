"""The grid of a mosaic, and where each map lies on it.

Maps whose pixels coincide are copied. Any other map would have to be moved by a part of a pixel, so
the user chooses a grid for it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import calculate_default_transform

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.io.geolocation import crs_name, locate
from cwsam_geo.io.map_grid import same_unit
from cwsam_geo.io.raster_file import environment, grid_of, open_dataset
from cwsam_geo.mosaicking.layers import Layer

_TOLERANCE = 0.01
"""Pixels by which corners of maps on one grid of pixels may differ: files round coordinates."""

_LONGEST = 2**31 - 1
"""Longest side of a raster in pixels that GDAL can write."""


def aligned_grid(layers: Sequence[Layer]) -> tuple[SceneGrid, list[Window]]:
    """The smallest grid that covers maps whose pixels coincide, and the window of each map.

    Raises:
        SceneError: The pixels do not coincide. The message says why, and what to do.
    """
    first = layers[0]
    _check_placed(first)
    windows = [_window(layer, first) for layer in layers]
    top, left = min(w.row for w in windows), min(w.col for w in windows)
    height = max(w.bottom for w in windows) - top
    width = max(w.right for w in windows) - left
    _check_size(height, width)
    transform = first.grid.transform * Affine.translation(left, top)
    grid = SceneGrid(height, width, transform, first.grid.crs, dtype="uint8")
    return grid, [w.shift(-top, -left) for w in windows]


def chosen_grid(layers: Sequence[Layer], crs: str, resolution: float | None) -> SceneGrid:
    """A north-up grid in another CRS that covers all maps.

    Its pixels coincide with those of the first map that is in this CRS and has their size; else
    they begin at multiples of their size.

    Raises:
        UsageError: The CRS is unknown.
        SceneError: A map has no place in the CRS.
    """
    target = _crs(crs)
    size = resolution or _pixel_size(layers[0].grid, target)
    bounds = [_bounds(layer, target) for layer in layers]
    x, y = next((origin for g in layers if (origin := _origin(g.grid, target, size))), (0.0, 0.0))
    west = x + math.floor((min(b[0] for b in bounds) - x) / size + _TOLERANCE) * size
    north = y + math.ceil((max(b[3] for b in bounds) - y) / size - _TOLERANCE) * size
    width = math.ceil((max(b[2] for b in bounds) - west) / size - _TOLERANCE)
    height = math.ceil((north - min(b[1] for b in bounds)) / size - _TOLERANCE)
    _check_size(height, width)
    transform = Affine(size, 0, west, 0, -size, north)
    return SceneGrid(max(1, height), max(1, width), transform, target, dtype="uint8")


def grid_like(path: str | os.PathLike[str]) -> SceneGrid:
    """The grid of another raster.

    Raises:
        SceneError: It cannot be read, or has no geotransform.
    """
    with open_dataset(path) as dataset:
        found = grid_of(dataset)
    if found.gcps or not found.georeferenced or found.crs is None:
        raise SceneError(f"{path}: has no geotransform with a CRS, so it is no grid for a mosaic")
    return SceneGrid(found.height, found.width, found.transform, found.crs, dtype="uint8")


def _check_placed(layer: Layer) -> None:
    if layer.grid.gcps:
        raise SceneError(
            f"{layer.path}: is placed by control points; choose the CRS of the mosaic (--t-srs), "
            "and the map is resampled to it"
        )
    if not layer.grid.georeferenced:
        raise SceneError(f"{layer.path}: lies nowhere; georeference the map first")


def _window(layer: Layer, first: Layer) -> Window:
    """Pixels of a map in the grid of the first one, by whole pixels."""
    grid, own = first.grid, layer.grid
    _check_placed(layer)
    if own.crs != grid.crs:
        raise SceneError(
            f"{layer.path}: is in {crs_name(own.crs)}, but {first.path} is in "
            f"{crs_name(grid.crs)}; choose the CRS of the mosaic (--t-srs {_code(grid.crs)}): maps "
            "in another one are then resampled (nearest neighbour)"
        )
    to_pixels = ~grid.transform * own.transform
    corners = np.array([(0, 0), (own.width, 0), (0, own.height), (own.width, own.height)])
    placed = np.array([to_pixels * corner for corner in corners])  # (4, 2): column, row
    col, row = (round(v) for v in placed[0])
    apart = float(np.abs(placed - corners - (col, row)).max())
    if apart > _TOLERANCE:
        raise SceneError(
            f"{layer.path}: {_shift(own, grid, apart, first)}, and no pixel is moved unasked; to "
            f"resample (nearest neighbour), choose a grid: --t-srs {_code(grid.crs)} covers all "
            "maps, --like FILE has that of FILE"
        )
    return Window(row, col, own.height, own.width)


def _shift(own: SceneGrid, grid: SceneGrid, apart: float, first: Layer) -> str:
    """How the pixels of a map differ from those of the first one, in words."""
    mine, theirs = (
        (math.hypot(t.a, t.d), math.hypot(t.b, t.e)) for t in (own.transform, grid.transform)
    )
    if not np.allclose(mine, theirs, rtol=1e-6):
        return f"its pixels are not those of {first.path}: {mine[0]:g} wide against {theirs[0]:g}"
    if apart < 1:
        return f"its pixels lie {apart:.2g} of a pixel beside those of {first.path}"
    return f"its pixels are turned against those of {first.path}"


def _check_size(height: int, width: int) -> None:
    if max(height, width) > _LONGEST:
        raise SceneError(
            f"the mosaic would have {width} x {height} px, more than a raster can have; are all "
            "maps where they belong?"
        )


def _crs(text: str) -> CRS:
    try:
        with environment(remote=False):
            return CRS.from_user_input(text)
    except (CRSError, ValueError):
        raise UsageError(f"--t-srs {text}: is no CRS that PROJ knows, such as EPSG:32633") from None


def _code(crs: CRS | None) -> str:
    name = crs_name(crs)
    return name if crs and name.startswith("EPSG:") else "CRS"


def _pixel_size(grid: SceneGrid, crs: CRS) -> float:
    """Pixel size of a grid in a CRS; converted where the units of both CRSs differ."""
    own = grid.crs
    if own and not grid.gcps and same_unit(own, crs):
        return math.hypot(grid.transform.a, grid.transform.d)
    source: dict[str, object] = (
        {"gcps": grid.gcps}
        if grid.gcps
        else dict(zip(("left", "bottom", "right", "top"), _outline(grid), strict=True))
    )
    with environment(remote=False):
        transform, _, _ = calculate_default_transform(
            grid.gcp_crs if grid.gcps else own, crs, grid.width, grid.height, **source
        )
    return float(transform.a)


def _outline(grid: SceneGrid) -> tuple[float, float, float, float]:
    return locate(grid, "map").bounds_in(None)


def _bounds(layer: Layer, crs: CRS) -> tuple[float, float, float, float]:
    place = locate(layer.grid, str(layer.path))
    if not place.placed or place.crs is None:
        raise SceneError(f"{layer.path}: has no place with a CRS; georeference the map first")
    bounds = place.bounds_in(crs)
    if not np.isfinite(bounds).all():
        raise SceneError(f"{layer.path}: has no place in {crs_name(crs)}; choose another --t-srs")
    return bounds


def _origin(grid: SceneGrid, crs: CRS, size: float) -> tuple[float, float] | None:
    """Corner of a grid's first pixel, if the grid is north-up in a CRS with pixels of this size."""
    t = grid.transform
    upright = t.b == t.d == 0 and math.isclose(t.a, size) and math.isclose(t.e, -size)
    return (t.c, t.f) if upright and grid.crs == crs and grid.georeferenced else None
