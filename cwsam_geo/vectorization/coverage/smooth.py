"""Rounding the corners of a coverage arc by arc, without boundaries that touch or cross."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.vectorization.coverage.arcs import Arcs
from cwsam_geo.vectorization.coverage.chains import Flags, Ints, offsets_of
from cwsam_geo.vectorization.coverage.lattice import LiveCorners
from cwsam_geo.vectorization.coverage.simplify import on_frame

REACH = 2.0
"""Longest way from a corner to the ends of its curve, in pixels, unless the tolerance is larger."""

# Reach in pixels at which a triangle never contains another pixel corner.
_SAFE = 0.5

# Curves that reach no further than this, in pixels, are drawn as a straight line.
_SHORT = 0.75

Floats = NDArray[np.float64]


class Smoother:
    """Replaces each corner by a curve inside the triangle that the corner cuts off.

    The curve is the limit of Chaikin's corner cutting, a quadratic Bezier arc. It runs between
    points on the two edges, at most half an edge and ``reach`` from the corner. If the triangle
    contains another vertex, these points move to half a pixel from the corner, where it contains
    none. Triangles without foreign vertices do not overlap, so the curves in them cannot meet.
    Nodes and vertices on the scene's frame stay.

    G. M. Chaikin: An algorithm for high-speed curve generation. Computer Graphics and Image
    Processing 3 (1974).

    Args:
        live: Vertices of all boundaries so far.
        height: Rows of the scene.
        width: Columns of the scene.
        reach: Longest way from a corner to the ends of its curve, in pixels.
    """

    def __init__(self, live: LiveCorners, height: int, width: int, reach: float = REACH) -> None:
        self._live, self._height, self._width, self._reach = live, height, width, reach

    def __call__(self, arcs: Arcs) -> Arcs:
        """The same arcs with rounded corners; ``points`` are float64.

        Args:
            arcs: Whole arcs over pixel corners that are live.
        """
        corners = arcs.points.astype(np.float64)
        fixed, before, after = self._neighbours(arcs)
        moving = np.flatnonzero(~fixed)
        at, a, c = corners[moving], corners[before[moving]], corners[after[moving]]
        into, out = self._legs(at, a, c, arcs.points[moving])
        # Three points for each vertex, shape (N, 3, 2): the ends and the middle of its curve.
        short = np.maximum(_length(into - at), _length(out - at)) <= _SHORT
        middle = np.where(short[:, None], into, (into + 2 * at + out) / 4)
        curves = np.repeat(corners[:, None], 3, axis=1)
        curves[moving] = np.stack([into, middle, out], axis=1)
        return _without_repeats(arcs, curves, fixed)

    def _neighbours(self, arcs: Arcs) -> tuple[Flags, Ints, Ints]:
        """Which vertices stay, and the index of the vertex before and after each, each (N,)."""
        first, last = arcs.offsets[:-1], arcs.offsets[1:] - 1
        fixed = on_frame(arcs.points, self._height, self._width)
        places = np.arange(len(fixed))
        before, after = places - 1, places + 1
        # A free loop ends with its first vertex: both get the same curve.
        loops_first, loops_last = first[arcs.free], last[arcs.free]
        before[loops_first] = loops_last - 1
        after[loops_last] = loops_first + 1
        fixed[first[~arcs.free]] = True
        fixed[last[~arcs.free]] = True
        return fixed, before, after

    def _legs(
        self, at: Floats, a: Floats, c: Floats, own: NDArray[np.int32]
    ) -> tuple[Floats, Floats]:
        """Ends of the curve at each corner, on the edges to ``a`` and to ``c``."""
        into, out = _towards(at, a, self._reach), _towards(at, c, self._reach)
        mine = np.stack([own, a.astype(np.int64), c.astype(np.int64)], axis=1)
        crowded = self._live.in_triangles(np.stack([into, at, out], axis=1), mine)
        into[crowded] = _towards(at[crowded], a[crowded], _SAFE)
        out[crowded] = _towards(at[crowded], c[crowded], _SAFE)
        return into, out


def _length(v: Floats) -> Floats:
    return np.asarray(np.hypot(v[:, 0], v[:, 1]))


def _towards(at: Floats, other: Floats, reach: float) -> Floats:
    """Points ``reach`` away on the edge to ``other``, or half-way if that is nearer."""
    share = reach / np.maximum(_length(other - at), 1e-9)
    # This formula gives exactly the same half-way point from both ends of an edge.
    return np.where(share[:, None] < 0.5, at + share[:, None] * (other - at), (at + other) / 2)


def _without_repeats(arcs: Arcs, curves: Floats, fixed: Flags) -> Arcs:
    """Arcs through the three points of each vertex, without repeated points."""
    points = curves.reshape(-1, 2)
    arc = np.repeat(np.arange(len(arcs)), arcs.lengths * 3)
    keep = np.ones(len(points), np.bool_)
    keep[1:] = (points[1:] != points[:-1]).any(1) | (arc[1:] != arc[:-1])
    # A rounded loop ends where the curve at its first vertex begins.
    loops = arcs.free & ~fixed[arcs.offsets[:-1]]
    ends = 3 * arcs.offsets[1:][loops]
    keep[ends - 1] = False
    keep[ends - 2] = False
    lengths = np.bincount(arc[keep], minlength=len(arcs)).astype(np.int64)
    return Arcs(
        points[keep], offsets_of(lengths), arcs.sides, arcs.directions, arcs.cuts, arcs.free
    )
