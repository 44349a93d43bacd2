"""Shapes in degrees, whose longitudes mean the same a full turn further on."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

Bounds = tuple[float, float, float, float]

_TURN = 360.0
_TURNS = (0.0, -_TURN, _TURN)


def turned(shapes: NDArray[Any], bounds: Bounds) -> NDArray[Any]:
    """The same shapes where their longitudes meet some bounds.

    A polygon may meet them after no turn, a turn or both, as one of the whole world does where
    the bounds reach beyond 180 degrees; it becomes a multipolygon then.

    Args:
        shapes: Shapely geometries in degrees, shape (N,).
        bounds: West, south, east, north in degrees; west may lie below -180, east beyond 180.

    Returns:
        The shapes, shape (N,); those that meet the bounds as they are, or never, are untouched.
    """
    west, _, east, _ = bounds
    left, _, right, _ = np.atleast_2d(shapely.bounds(shapes)).T
    meets = np.stack([(left + t <= east) & (right + t >= west) for t in _TURNS])
    # Whole worlds that only touch at their seam are not meant.
    meets[1:] &= np.stack([(left + t < east) & (right + t > west) for t in _TURNS[1:]])
    again = np.flatnonzero(meets[1:].any(axis=0))
    if not len(again):
        return shapes
    result = shapes.copy()
    for i in again:
        copies = [_moved(shapes[i], t) for t, met in zip(_TURNS, meets[:, i], strict=True) if met]
        solid = shapely.get_dimensions(shapes[i]) == 2 and len(copies) > 1
        result[i] = shapely.multipolygons(shapely.get_parts(copies)) if solid else copies[0]
    return result


def rejoined(shapes: NDArray[Any]) -> NDArray[Any]:
    """Shapes that a projection to degrees has torn at 180 degrees, whole again.

    Their vertices lie at both ends of the longitudes, and none lies in between.

    Args:
        shapes: Shapely geometries in degrees, shape (N,).
    """
    left, _, right, _ = np.atleast_2d(shapely.bounds(shapes)).T
    torn = np.flatnonzero(right - left > _TURN / 2)
    result = shapes.copy() if len(torn) else shapes
    for i in torn:
        x = np.sort(shapely.get_coordinates(shapes[i])[:, 0])
        widest = int(np.diff(x).argmax())
        if x[widest + 1] - x[widest] > _TURN / 2:
            result[i] = _moved(shapes[i], _TURN, below=float(x[widest + 1]))
    return result


def box_and_turns(bounds: Bounds, extent: Bounds | None) -> Any:
    """A rectangle in degrees, and its places a turn away that lie in an extent, as one shape.

    Args:
        bounds: West, south, east, north of the rectangle.
        extent: The same of a file, or None where that is not known.
    """
    west, south, east, north = bounds
    if east - west >= _TURN:
        return shapely.box(west - _TURN, south, east + _TURN, north)
    left, right = (extent[0], extent[2]) if extent else (-np.inf, np.inf)
    turns = [t for t in _TURNS[1:] if west + t < right and east + t > left]
    # A plain rectangle is found by the file's index.
    boxes = [shapely.box(west + t, south, east + t, north) for t in (0.0, *turns)]
    return shapely.multipolygons(boxes) if turns else boxes[0]


def _moved(shape: Any, turn: float, below: float = np.inf) -> Any:
    """The shape with the longitudes below a limit moved by a turn."""
    if turn == 0:
        return shape

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        points[:, 0] += np.where(points[:, 0] < below, turn, 0.0)
        return points

    return shapely.transform(shape, move)
