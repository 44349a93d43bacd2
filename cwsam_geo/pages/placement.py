"""Where the pixels of a map lie, in plain values for the page's script."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.crs import CRS

from cwsam_geo.io.geolocation import (
    AffinePlace,
    Geolocation,
    crs_name,
    is_local,
    metres_per_unit,
    transformed,
)

Floats = NDArray[np.float64]

_DEGREES = CRS.from_epsg(4326)

_KNOTS = (5, 9, 17, 33, 65)
"""Knots along each side that are tried: halves of each other."""

_TOLERANCE = 0.1
"""Pixels that longitude and latitude between knots may be wrong by."""

_METRES_PER_DEGREE = 111_195.0

_UPRIGHT = math.tan(math.radians(5))
"""Tangent of the angle by which north may differ from the upward direction of a picture."""

_SQUARE = 0.02
"""Pixels whose sides differ by less on the ground are drawn as squares, which keeps them crisp."""


def placement(location: Geolocation) -> dict[str, Any]:
    """Coordinates of the pixels of a grid.

    Returns:
        ``crs``, the CRS's name or None; ``transform``, six numbers or None; ``degrees``, whether
        the transform gives longitude and latitude; ``metres``, the unit of a local CRS, or None;
        ``lon`` and ``lat``, knots over the grid, or None; ``about``, whether values between the
        knots are approximate; ``aspect``, width by height of a pixel on the ground; ``decimals``
        and ``digits``, decimals to print of coordinates and of degrees.
    """
    grid, crs = location.grid, location.crs
    affine = isinstance(location, AffinePlace) and location.placed
    degrees = bool(affine and crs and crs.is_geographic)
    local = bool(crs and is_local(crs))
    place: dict[str, Any] = {
        "crs": crs_name(crs) if crs else None,
        "transform": list(grid.transform)[:6] if affine else None,
        "degrees": degrees,
        "metres": metres_per_unit(pyproj.CRS.from_wkt(crs.to_wkt())) if crs and local else None,
        "lon": None,
        "lat": None,
        "about": False,
    }
    knots = None if crs is None or local or not location.placed else _knots(location, degrees)
    if knots is not None:
        lon, lat, about = knots
        place |= {"about": about and not degrees}
        if not degrees:
            place |= {"lon": _rounded(lon), "lat": _rounded(lat)}
    sides = pixel_sides(location)
    ratio = sides[0] / sides[1] if sides else 1.0
    place["aspect"] = 1.0 if abs(ratio - 1) < _SQUARE else ratio
    place["decimals"] = _decimals(_map_pixel(location)) if affine else 0
    place["digits"] = _decimals(min(sides) / _METRES_PER_DEGREE) if sides else 5
    return place


def north_is_up(location: Geolocation) -> bool:
    """Whether north is at the top of the grid, up to a few degrees."""
    crs = location.crs
    if crs is None or is_local(crs) or not location.placed:
        return False
    found = _degrees(location, 3)
    if found is None:
        return False
    lon, lat = found
    # From the middle of the lower side to that of the upper one.
    north = float(lat[0, 1] - lat[2, 1])
    east = float((lon[0, 1] - lon[2, 1]) * np.cos(np.radians(lat[1, 1])))
    return north > 0 and abs(east) <= _UPRIGHT * north


def _knots(location: Geolocation, degrees: bool) -> tuple[Floats, Floats, bool] | None:
    """Longitudes and latitudes at knots; None where the CRS gives none.

    As many knots as make the error between them small; else the most, and True.
    """
    coarse: tuple[Floats, Floats] | None = None
    for count in _KNOTS:
        fine = _degrees(location, count)
        if fine is None:
            return None
        if degrees:  # the transform gives the coordinates
            return *fine, False
        if coarse is not None:
            error = max(np.abs(_refined(a) - b).max() for a, b in zip(coarse, fine, strict=True))
            # The error falls with the square of the distance between knots.
            if error / 4 <= _TOLERANCE * _step(fine, location, count):
                return *fine, False
        coarse = fine
    assert coarse is not None
    return *coarse, True


def _degrees(location: Geolocation, count: int) -> tuple[Floats, Floats] | None:
    grid = location.grid
    where = np.meshgrid(np.linspace(0, grid.width, count), np.linspace(0, grid.height, count))
    lon, lat = transformed(*location.to_map(*where), location.crs, _DEGREES)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None
    # Longitudes go on beyond 180 degrees where the map crosses the antimeridian.
    lon = np.unwrap(np.unwrap(lon, period=360, axis=1), period=360, axis=0)
    return lon, lat


def _step(knots: tuple[Floats, Floats], location: Geolocation, count: int) -> float:
    """Degrees of a pixel: the smaller side in the middle of the knots."""
    lon, lat = knots
    m = count // 2
    grid = location.grid
    across = math.hypot(lon[m, m] - lon[m, m - 1], lat[m, m] - lat[m, m - 1])
    down = math.hypot(lon[m, m] - lon[m - 1, m], lat[m, m] - lat[m - 1, m])
    return min(across / grid.width, down / grid.height) * (count - 1)


def _refined(knots: Floats) -> Floats:
    """Twice as many cells along each side, by linear interpolation."""
    for _ in range(2):
        rows = np.repeat(knots, 2, axis=0)[:-1]
        rows[1::2] = (knots[1:] + knots[:-1]) / 2
        knots = rows.T
    return knots


def pixel_sides(location: Geolocation) -> tuple[float, float] | None:
    """Width and height in metres of the pixel in the middle; None without a place on the ground."""
    crs = location.crs
    if crs is None or not location.placed:
        return None
    cols = location.grid.width / 2 + np.array([0.0, 1.0, 0.0])
    rows = location.grid.height / 2 + np.array([0.0, 0.0, 1.0])
    x, y = location.to_map(cols, rows)
    if is_local(crs):
        metres = metres_per_unit(pyproj.CRS.from_wkt(crs.to_wkt()))
        width, height = (metres * math.hypot(x[i] - x[0], y[i] - y[0]) for i in (1, 2))
    else:
        lon, lat = transformed(x, y, crs, _DEGREES)
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            return None
        geod = pyproj.Geod(ellps="WGS84")
        width, height = (geod.inv(lon[0], lat[0], lon[i], lat[i])[2] for i in (1, 2))
    return (width, height) if width > 0 and height > 0 else None


def _map_pixel(location: Geolocation) -> float:
    t = location.grid.transform
    return min(math.hypot(t.a, t.d), math.hypot(t.b, t.e))


def _decimals(size: float) -> int:
    """Decimals that resolve a tenth of a size."""
    return min(8, max(0, math.ceil(1 - math.log10(size)))) if size > 0 else 0


def _rounded(values: Floats) -> list[list[float]]:
    return [[round(v, 8) for v in row] for row in values.tolist()]
