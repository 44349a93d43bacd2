"""Numbers around a picture: ticks along its edges, and the length of its scale bar."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.crs import CRS

from cwsam_geo.io.geolocation import is_local, transformed
from cwsam_geo.pictures.options import Coordinates
from cwsam_geo.rendering.frame import Frame

Floats = NDArray[np.float64]

_SAMPLES = 257
"""Points along an edge at which coordinates are computed; ticks are interpolated between them."""


@dataclass(frozen=True)
class Tick:
    """A number beside an edge.

    Attributes:
        at: Pixels from the left or from the top.
        text: The number.
    """

    at: float
    text: str


@dataclass(frozen=True)
class Ticks:
    """Ticks along the lower and the left edge."""

    bottom: tuple[Tick, ...] = ()
    left: tuple[Tick, ...] = ()


@dataclass(frozen=True)
class ScaleBar:
    """A scale bar.

    Attributes:
        pixels: Its length in pixels of the frame.
        text: Its length on the ground.
    """

    pixels: float
    text: str


def scale_bar(frame: Frame, longest: float) -> ScaleBar:
    """The longest scale bar of 1, 2 or 5 times a power of ten that fits.

    The bar holds in the middle of the frame. Where the scale differs visibly from there to the
    upper or lower edge, the text says so.

    Args:
        frame: The frame.
        longest: Most pixels of the bar.
    """
    if frame.metres_per_pixel is None:
        length = nice_below(longest)
        return ScaleBar(length, f"{length:g} px")
    metres = nice_below(longest * frame.metres_per_pixel)
    text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    if metres < 1:
        text = f"{100 * metres:g} cm" if metres >= 0.01 else f"{1000 * metres:g} mm"
    where = " in the middle" if frame.uneven > 1.02 else ""
    return ScaleBar(metres / frame.metres_per_pixel, text + where)


def nice_below(value: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is at most ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    # Rounding may put 9.999... where 10 was meant.
    return next(n * power for n in (10, 5, 2, 1) if n * power <= value * (1 + 1e-9))


def ticks_of(frame: Frame, kind: Coordinates, across: int, down: int) -> Ticks:
    """Ticks along the edges of a frame.

    Longitudes stand along the lower edge and latitudes along the left one, where their lines meet
    the edge: lines of longitude and latitude are not parallel to the edges of a projected map.

    Args:
        frame: The frame.
        kind: Which coordinates.
        across: Most ticks along the lower edge.
        down: Most ticks along the left edge.
    """
    if kind == "none":
        return Ticks()
    height, width = frame.grid.height, frame.grid.width
    cols, rows = np.linspace(0, width, _SAMPLES), np.linspace(0, height, _SAMPLES)
    bottom = frame.location.to_map(cols, np.full(_SAMPLES, float(height)))
    left = frame.location.to_map(np.zeros(_SAMPLES), rows)
    crs = frame.location.crs
    degrees = None if crs is None or is_local(crs) else _degrees_of(crs)
    if degrees is not None and (kind == "degrees" or degrees == crs):
        bottom, left = (transformed(*edge, crs, degrees) for edge in (bottom, left))
        return Ticks(
            _along(cols, np.unwrap(bottom[0], period=360), across, _longitude),
            _along(rows, left[1], down, _latitude),
        )
    return Ticks(_along(cols, bottom[0], across, _plain), _along(rows, left[1], down, _plain))


def _degrees_of(crs: CRS) -> CRS | None:
    geodetic = pyproj.CRS.from_wkt(crs.to_wkt()).geodetic_crs
    return None if geodetic is None else CRS.from_wkt(geodetic.to_wkt())


def _along(
    places: Floats, values: Floats, most: int, text: Callable[[float, int], str]
) -> tuple[Tick, ...]:
    """Ticks where ``values`` along an edge are multiples of a round step, at most ``most``."""
    good = np.isfinite(values)
    if good.sum() < 2 or most < 1:
        return ()
    places, values = places[good], values[good]
    span = float(values.max() - values.min())
    if span <= 0 or not math.isfinite(span):
        return ()
    # The inverse of 1, 2 or 5 times a power of ten is one, too.
    for share in (most, 1.5 * most, 2 * most):
        ticks = _at_multiples(places, values, 1 / nice_below(share / span), text)
        if len(ticks) > 1:
            break
    return ticks


def _at_multiples(
    places: Floats, values: Floats, step: float, text: Callable[[float, int], str]
) -> tuple[Tick, ...]:
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = []
    first, last = math.ceil(values.min() / step - 1e-9), math.floor(values.max() / step + 1e-9)
    for multiple in range(first, last + 1):
        away = values - multiple * step
        crossings = np.flatnonzero((away[:-1] <= 0) != (away[1:] <= 0))
        for i in crossings[:1].tolist():
            share = away[i] / (away[i] - away[i + 1])
            at = float(places[i] + share * (places[i + 1] - places[i]))
            ticks.append(Tick(at, text(multiple * step, digits)))
    return tuple(ticks)


def _longitude(value: float, digits: int) -> str:
    value = (value + 180) % 360 - 180
    side = "" if abs(value) in (0, 180) else "E" if value > 0 else "W"
    return f"{abs(value):.{digits}f}°{side}"


def _latitude(value: float, digits: int) -> str:
    return f"{abs(value):.{digits}f}°{'N' if value > 0 else 'S' if value < 0 else ''}"


def _plain(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"
