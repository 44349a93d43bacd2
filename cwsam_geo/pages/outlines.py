"""Outlines of polygons as a layer of a report's map."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cwsam_geo.errors import UsageError
from cwsam_geo.io.geolocation import Geolocation
from cwsam_geo.io.vector_file import read_area
from cwsam_geo.pages.layers import Layer

_SCALE = 4
"""Steps of a pixel to which corners are rounded: finer than the eye sees at any zoom."""

_MOST_CORNERS = 120_000
"""Corners of all outlines: about 1 MB, and what a browser still moves smoothly."""


def outline_layer(path: str | os.PathLike[str], location: Geolocation, layer: Layer) -> Layer:
    """A layer of polygons' outlines.

    If the outlines have too many corners, they are simplified, and polygons that then vanish are
    left out; the layer's caption says so.

    Args:
        path: A vector file of polygons in any CRS.
        location: The map's grid.
        layer: The layer without its content.

    Raises:
        UsageError: The file has no polygons, or cannot be laid over the map.
    """
    try:
        shapes = read_area(path, location)
    except UsageError as error:
        # The message is for --aoi.
        text = str(error).replace("an area of interest is made of polygons", "give polygons")
        raise UsageError(text) from None
    fitted, tolerance = _fitted(shapes)
    caption = ""
    if tolerance:
        left_out = len(shapes) - len(fitted)
        caption = f"{layer.name}: outlines are simplified to {tolerance:g} pixels"
        caption += f"; {left_out:,} small polygons are left out." if left_out else "."
    rings = [_steps(shapely.get_coordinates(ring)) for ring in _rings(fitted)]
    more = {**layer.more, "scale": _SCALE}
    return replace(layer, rings=[r for r in rings if len(r) > 2], caption=caption, more=more)


def _fitted(shapes: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Shapes with few enough corners, and the tolerance in pixels that this took."""
    fitted, tolerance = shapes, 0.0
    while shapely.get_num_coordinates(fitted).sum() > _MOST_CORNERS:
        tolerance = 2 * tolerance or 0.5
        fitted = shapes[shapely.area(shapes) >= tolerance**2]
        fitted = shapely.simplify(fitted, tolerance, preserve_topology=False)
        fitted = fitted[~shapely.is_empty(fitted)]
    return fitted, tolerance


def _rings(shapes: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(shapely.get_rings(shapely.get_parts(shapes)))


def _steps(corners: NDArray[np.float64]) -> list[int]:
    """Corners as columns and rows in steps, each a difference to the one before."""
    places = np.rint(corners * _SCALE).astype(np.int64)
    steps = np.diff(places, axis=0, prepend=np.zeros((1, 2), np.int64))
    # Corners that fall together are one; the first is no difference.
    kept: NDArray[np.bool_] = np.asarray(steps.any(axis=1))
    kept[0] = True
    flat: list[int] = steps[kept].ravel().tolist()
    return flat
