"""The map grid for a scene: north-up, in the CRS that the user names or that fits the place."""

from __future__ import annotations

import math

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.io.geolocation import (
    Geolocation,
    crs_name,
    is_local,
    pixel_window,
    transformed,
    why_not_transformable,
)
from cwsam_geo.io.knots import knots
from cwsam_geo.io.proj_data import crs_of

Floats = NDArray[np.float64]

AUTO = "auto"
"""Stands for the CRS that fits the place, instead of the name of one."""

_DEGREES = CRS.from_epsg(4326)

_UTM_LATITUDES = (-80.0, 84.0)
"""Degrees between which the zones of UTM lie."""

_UPS = (5042, 5041)
"""EPSG codes of the universal polar stereographic CRSs (easting first), south and north."""

_NEAR_ROUND = 0.03
"""A pixel size that the user has not chosen gets one significant digit if that changes it by less
than this share, and else two: 10 m for the 9.94 m of a Sentinel-1 pixel in UPS."""

_TOLERANCE = 1e-3
"""Pixels by which a scene may reach beyond its map: coordinates are rounded."""

_TORN = 20
"""Steps on the map between neighbours of a lattice over the scene are less than this many times as
long as the others, unless the CRS is torn within the scene or has a pole there. A degree of
longitude at 5 degrees from a pole is a tenth of one at the equator."""

_LATTICE = 65
"""Places along each side of this lattice."""

_FINEST, _COARSEST = 20, 200
"""A pixel size that is smaller or larger than the scene's by more than these factors is taken for a
mistake, such as metres instead of degrees."""

_LONGEST = 2**31 - 1
"""Longest side of a raster in pixels that GDAL can write."""


def place_crs(longitude: float, latitude: float, polar: tuple[int, int] = _UPS) -> CRS:
    """The CRS that fits a place: its zone of UTM, or UPS near the poles.

    Args:
        longitude: Degrees, also beyond 180.
        latitude: Degrees.
        polar: EPSG codes of the CRSs near the south and the north pole.
    """
    if not _UTM_LATITUDES[0] <= latitude <= _UTM_LATITUDES[1]:
        return CRS.from_epsg(polar[latitude > 0])
    zone = int((longitude + 180) % 360 // 6) + 1
    return CRS.from_epsg((32600 if latitude >= 0 else 32700) + zone)


def chosen_crs(text: str, location: Geolocation) -> CRS:
    """The CRS that the user names, or with ``auto`` the one that fits the middle of a scene.

    Raises:
        UsageError: The text is no CRS of a map, or nothing leads there from the scene's CRS.
        SceneError: The scene has no place on Earth.
    """
    _check_on_earth(location)
    if text == AUTO:
        grid = location.grid
        middle = location.to_map(np.array([grid.width / 2]), np.array([grid.height / 2]))
        lon, lat = transformed(*middle, location.crs, _DEGREES)
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            raise SceneError(
                f"{location.label}: its middle has no longitude and latitude; name a CRS with "
                "--t-srs"
            )
        return place_crs(float(lon[0]), float(lat[0]))
    try:
        crs = crs_of(text)
    except CRSError:
        raise UsageError(
            f"--t-srs {text}: is no CRS that PROJ knows; give auto, or one such as EPSG:32633"
        ) from None
    if not (crs.is_projected or crs.is_geographic):
        raise UsageError(
            f"--t-srs {text}: is no CRS of a map (projected, or longitude and latitude); give "
            "auto, or one such as EPSG:32633"
        )
    assert location.crs is not None
    why = why_not_transformable(location.crs, crs)
    if why:
        raise UsageError(f"{location.label}: {why}; choose another --t-srs")
    return crs


def map_grid(location: Geolocation, crs: CRS, resolution: float | None = None) -> SceneGrid:
    """The smallest north-up grid in a CRS that covers a scene.

    Its pixels begin at multiples of their size, so that maps of neighbouring scenes fit together.
    Without a resolution, a north-up scene in this CRS keeps its grid.

    Args:
        resolution: Side of a pixel in units of the CRS; None for about that of the scene's pixels.

    Raises:
        SceneError: The scene has no place in the CRS, or a torn one.
        UsageError: The resolution is far from that of the scene.
    """
    grid = location.grid
    t = grid.transform
    if location.upright and t.a > 0 > t.e and grid.crs == crs and resolution is None:
        return SceneGrid(grid.height, grid.width, t, crs, dtype="uint8")
    _check_whole(location, crs)
    own = _pixel_size(location, crs)
    size = resolution or own
    if not own / _FINEST <= size <= own * _COARSEST:
        raise UsageError(
            f"--res {size:g}: pixels of {location.label} have a side of about {own:.2g} in units "
            f"of {crs_name(crs)}; give a size that is not more than {_FINEST} times smaller or "
            f"{_COARSEST} times larger"
        )
    west, south, east, north = bounds_on_map(location, crs, grid.window)
    left, top = math.floor(west / size + _TOLERANCE), math.ceil(north / size - _TOLERANCE)
    width = math.ceil(east / size - _TOLERANCE) - left
    height = top - math.floor(south / size + _TOLERANCE)
    if max(height, width) > _LONGEST:
        raise UsageError(
            f"--res {size:g}: the map would have {width:,} x {height:,} px, more than a raster can "
            "have; give a larger one"
        )
    transform = Affine(size, 0, left * size, 0, -size, top * size)
    return SceneGrid(max(1, height), max(1, width), transform, crs, dtype="uint8")


def window_on_map(location: Geolocation, onto: Geolocation, part: Window) -> Window:
    """The smallest window of a map grid that covers a part of a scene.

    Args:
        location: Where the whole scene lies.
        onto: The map grid of the whole scene.
        part: The part, in pixels of the scene.
    """
    if part == location.grid.window:
        return onto.grid.window
    west, south, east, north = bounds_on_map(location, onto.crs, part)
    cols, rows = onto.to_pixels(np.array([west, east]), np.array([north, south]))
    (left, right), (top, bottom) = cols, rows
    near = _TOLERANCE
    return pixel_window((left + near, top + near, right - near, bottom - near), onto.grid)


def bounds_on_map(
    location: Geolocation, crs: CRS | None, part: Window
) -> tuple[float, float, float, float]:
    """West, south, east, north of a part of a scene in a CRS.

    Unlike ``Geolocation.bounds_in``, this follows edges that relief has bent.
    """
    along = np.minimum(knots(part.col, part.width), part.right)
    down = np.minimum(knots(part.row, part.height), part.bottom)
    sides = [np.full(len(down), float(col)) for col in (part.col, part.right)]
    ends = [np.full(len(along), float(row)) for row in (part.row, part.bottom)]
    cols, rows = np.concatenate([along, along, *sides]), np.concatenate([*ends, down, down])
    x, y = transformed(*location.to_map(cols, rows), location.crs, crs)
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _check_on_earth(location: Geolocation) -> None:
    label = location.label
    if not location.placed and location.grid.rpcs is not None:
        raise SceneError(
            f"{label}: is placed by RPCs only, which need the height of the ground; orthorectify "
            "it first (gdalwarp -rpc -to RPC_DEM=dem.tif), or leave out --t-srs"
        )
    if not location.placed:
        raise SceneError(
            f"{label}: has no georeferencing, so it cannot be laid on a map; give the "
            "georeferenced original, or leave out --t-srs"
        )
    if location.crs is None or is_local(location.crs):
        what = "no CRS" if location.crs is None else "a local CRS, which is tied to no place"
        raise SceneError(
            f"{label}: has {what}, so it cannot be laid on a map; assign its CRS first "
            "(gdal_edit.py -a_srs EPSG:...), or leave out --t-srs"
        )


def _check_whole(location: Geolocation, crs: CRS) -> None:
    """Refuses a CRS that is torn within the scene: at 180 degrees, at a pole, or at its edge."""
    grid = location.grid
    lattice = (np.linspace(0, n, _LATTICE) for n in (grid.width, grid.height))
    x, y = transformed(*location.to_map(*np.meshgrid(*lattice)), location.crs, crs)
    advice = "choose another --t-srs, such as auto"
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise SceneError(
            f"{location.label}: parts of it have no coordinates in {crs_name(crs)}; {advice}"
        )
    torn = bool(crs.is_geographic and np.abs(x).max() > 180)
    for axis in (0, 1):
        steps = np.hypot(np.diff(x, axis=axis), np.diff(y, axis=axis))
        middle = float(np.median(steps))
        if not middle > 0:
            raise SceneError(
                f"{location.label}: its control points lie on a line, so it cannot be laid on a "
                "map; leave out --t-srs"
            )
        torn |= bool(steps.max() > _TORN * middle)
    if torn:
        raise SceneError(
            f"{location.label}: crosses 180 degrees or a pole, where {crs_name(crs)} is torn; "
            f"{advice}"
        )


def _pixel_size(location: Geolocation, crs: CRS) -> float:
    """Side of a square pixel with the mean area of the scene's pixels, in units of a CRS."""
    grid, t = location.grid, location.grid.transform
    if location.straight and location.crs is not None and same_unit(location.crs, crs):
        sides = math.hypot(t.a, t.d), math.hypot(t.b, t.e)
        if math.isclose(*sides, rel_tol=1e-6):
            return sides[0]
    x, y = transformed(*location.outline(), location.crs, crs)
    x, y = x - x[0], y - y[0]  # products of small numbers are more exact
    area = abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
    side = math.sqrt(float(area) / (grid.height * grid.width))
    one, two = (float(f"{side:.{digits}g}") for digits in (1, 2))
    return one if math.isclose(one, side, rel_tol=_NEAR_ROUND) else two


def same_unit(a: CRS, b: CRS) -> bool:
    """Whether two CRSs are both in degrees, or both in the same unit of length."""
    if a.is_geographic or b.is_geographic:
        return bool(a.is_geographic and b.is_geographic)
    return bool(a.linear_units_factor == b.linear_units_factor)
