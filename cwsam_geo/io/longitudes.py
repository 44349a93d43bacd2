"""Shapes in degrees: longitudes that differ by 360 degrees are the same meridian."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

Bounds = tuple[float, float, float, float]

_TURN = 360.0
"""Degrees of longitude in a full turn."""

_TURNS = (0.0, -_TURN, _TURN)


def turned(shapes: NDArray[Any], bounds: Bounds) -> NDArray[Any]:
    """Moves shapes by 360 degrees of longitude where that makes them overlap some bounds.

    A polygon may overlap the bounds both in its place and when moved: a polygon of the whole
    world does, where the bounds cross the antimeridian. It becomes a multipolygon of its copies.

    Args:
        shapes: Shapely geometries in degrees, shape (N,).
        bounds: West, south, east, north in degrees; west may be below -180, east above 180.

    Returns:
        Shapes, shape (N,). A shape is unchanged if it does not overlap the bounds after a move.
    """
    west, _, east, _ = bounds
    left, _, right, _ = np.atleast_2d(shapely.bounds(shapes)).T
    # (3, N): whether a shape overlaps the bounds when moved by each of _TURNS.
    overlaps = np.stack([(left + t <= east) & (right + t >= west) for t in _TURNS])
    # A moved shape must do more than touch the bounds, or else a polygon of the whole world would
    # be copied for a scene that ends at 180 degrees.
    overlaps[1:] &= np.stack([(left + t < east) & (right + t > west) for t in _TURNS[1:]])
    moving = np.flatnonzero(overlaps[1:].any(axis=0))
    if not len(moving):
        return shapes
    result = shapes.copy()
    for i in moving:
        turns = [t for t, there in zip(_TURNS, overlaps[:, i], strict=True) if there]
        copies = [_moved(shapes[i], t) for t in turns]
        several_polygons = shapely.get_dimensions(shapes[i]) == 2 and len(copies) > 1
        result[i] = (
            shapely.multipolygons(shapely.get_parts(copies)) if several_polygons else copies[0]
        )
    return result


def rejoined(shapes: NDArray[Any]) -> NDArray[Any]:
    """Repairs shapes that a projection to degrees has torn at the antimeridian.

    Such a shape has vertices near -180 and near 180 degrees and none in between. Its western
    vertices are moved by 360 degrees.

    Args:
        shapes: Shapely geometries in degrees, shape (N,).
    """
    left, _, right, _ = np.atleast_2d(shapely.bounds(shapes)).T
    wide = np.flatnonzero(right - left > _TURN / 2)
    result = shapes.copy() if len(wide) else shapes
    for i in wide:
        # A shape is torn, rather than just wide, if one gap exceeds half a turn.
        x = np.sort(shapely.get_coordinates(shapes[i])[:, 0])
        widest = int(np.diff(x).argmax())
        if x[widest + 1] - x[widest] > _TURN / 2:
            result[i] = _moved(shapes[i], _TURN, below=float(x[widest + 1]))
    return result


def box_and_turns(bounds: Bounds, extent: Bounds | None) -> Any:
    """A rectangle in degrees and its copies 360 degrees away that overlap an extent, as one shape.

    Args:
        bounds: West, south, east, north of the rectangle.
        extent: West, south, east, north of the file to be read, or None if unknown.
    """
    west, south, east, north = bounds
    if east - west >= _TURN:
        return shapely.box(west - _TURN, south, east + _TURN, north)
    left, right = (extent[0], extent[2]) if extent else (-np.inf, np.inf)
    turns = [t for t in _TURNS[1:] if west + t < right and east + t > left]
    # Without copies the result is a plain rectangle, for which a file's spatial index is used.
    boxes = [shapely.box(west + t, south, east + t, north) for t in (0.0, *turns)]
    return shapely.multipolygons(boxes) if turns else boxes[0]


def _moved(shape: Any, turn: float, below: float = np.inf) -> Any:
    """The shape with all longitudes smaller than ``below`` moved by ``turn`` degrees."""
    if turn == 0:
        return shape

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        points[:, 0] += np.where(points[:, 0] < below, turn, 0.0)
        return points

    return shapely.transform(shape, move)
