"""The panels of a picture: scene, map, polygons, reference and agreement, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cwsam_geo.core.legend import LegendEntry

NOTHING = "#e9e9e7"
"""Colour of pixels without data."""

Picture = NDArray[np.uint8]
"""Red, green, blue and opacity, shape (h, w, 4), uint8."""


@dataclass(frozen=True)
class Outlines:
    """Polygons to draw, in pixels of the frame.

    Attributes:
        shapes: Shapely polygons, shape (N,).
        colors: ``#rrggbb`` of each polygon, or None for outlines only.
        opacity: Opacity of the colours.
    """

    shapes: NDArray[Any]
    colors: tuple[str, ...] | None
    opacity: float


@dataclass(frozen=True)
class Panel:
    """One of the pictures that stand beside each other.

    Attributes:
        title: Line above it.
        layers: Pictures on the frame, the lowest first.
        outlines: Polygons above them.
    """

    title: str
    layers: tuple[Picture, ...]
    outlines: Outlines | None = None


@dataclass(frozen=True)
class Key:
    """One entry of the legend."""

    text: str
    color: str


@dataclass(frozen=True)
class Contents:
    """Everything that a picture shows.

    Attributes:
        panels: The panels, from left to right.
        keys: The legend.
        notes: Lines in small print below.
    """

    panels: tuple[Panel, ...]
    keys: tuple[Key, ...] = ()
    notes: tuple[str, ...] = field(default=())


def opaque(rgb: NDArray[np.uint8], valid: NDArray[np.bool_]) -> Picture:
    """Adds opacity to a picture (h, w, 3): it is transparent where not valid."""
    return np.dstack([rgb, np.where(valid, np.uint8(255), np.uint8(0))])


def faded(picture: Picture, opacity: float) -> Picture:
    """The same picture, more transparent."""
    out = picture.copy()
    out[..., 3] = np.rint(out[..., 3] * opacity).astype(np.uint8)
    return out


def keys_of(entries: Sequence[LegendEntry]) -> tuple[Key, ...]:
    """The legend of some classes."""
    return tuple(Key(e.name, e.color) for e in entries)


def visible(shapes: NDArray[Any], pixels_per_unit: float) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Polygons simplified to a quarter of a pixel of the picture; smaller ones are left out.

    Args:
        shapes: Polygons, in pixels of the frame.
        pixels_per_unit: Pixels of the picture in one pixel of the frame.

    Returns:
        The polygons, and their indexes in ``shapes``.
    """
    tolerance = 0.25 / pixels_per_unit
    large = np.flatnonzero(shapely.area(shapes) >= tolerance**2)
    simple = shapely.simplify(shapes[large], tolerance, preserve_topology=False)
    kept = ~(shapely.is_empty(simple) | shapely.is_missing(simple))
    return simple[kept], large[kept]
