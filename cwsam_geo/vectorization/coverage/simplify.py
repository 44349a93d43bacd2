"""Simplifying a coverage arc by arc, so that no boundary touches or crosses another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.vectorization.coverage.arcs import Arcs
from cwsam_geo.vectorization.coverage.chains import Flags, Ints, offsets_of, ragged_range
from cwsam_geo.vectorization.coverage.lattice import LiveCorners

# Fewest vertices to which a closed arc is reduced
_LEAST_CLOSED = 4

# Stands for the area of a triangle whose vertex must stay.
_NEVER = np.iinfo(np.int64).max


class Simplifier:
    """Visvalingam and Whyatt's line simplification, restricted so that the topology is kept.

    As in ``shapely.coverage_simplify``, a vertex is removed if the triangle with its two
    neighbours is no larger than the square of the tolerance, smallest triangles first, and only
    if no other boundary vertex lies in that triangle. The new edge then meets no other edge: an
    edge through a triangle without vertices inside would have to cross the two old edges.
    All vertices stay pixel corners, so this test is exact.

    Vertices are removed in rounds. A round removes every vertex whose triangle is smaller than
    those of its two neighbours, which gives the order of the one-by-one algorithm. Nodes and
    vertices on the scene's frame stay; an island keeps at least four vertices.

    M. Visvalingam, J. D. Whyatt: Line generalisation by repeated elimination of points.
    Cartographic Journal 30 (1993).

    Args:
        live: Vertices of all boundaries so far.
        limits: Largest triangle that is removed, in square pixels, for each row of pixel corners,
            shape (H + 1,).
        width: Columns of the scene.
    """

    def __init__(self, live: LiveCorners, limits: NDArray[np.float64], width: int) -> None:
        self._live, self._width, self._height = live, width, len(limits) - 1
        # Doubled areas of triangles between pixel corners are integers.
        self._limits = np.floor(2 * limits * (1 + 1e-9)).astype(np.int64)
        # Pairs of nodes that are joined by a single edge: sorted ones of earlier calls, and those
        # of the current call.
        self._straight = np.zeros(0, np.int64)
        self._fresh = np.zeros(0, np.int64)

    def __call__(self, arcs: Arcs) -> Arcs:
        """The same arcs with fewer vertices.

        Args:
            arcs: Whole arcs; their vertices and those of all traced pieces are live.
        """
        keys = self._live.keys(arcs.points)
        work = _Work(arcs, self._limits, keys, on_frame(arcs.points, self._height, self._width))
        straight = arcs.offsets[:-1][arcs.lengths == 2]
        self._fresh = self._span(keys[straight], keys[straight + 1])
        while work.any:
            candidates = work.candidates()
            if len(candidates) == 0:
                if not work.retry():
                    break
                continue
            blocked = self._blocked(work, candidates)
            work.block(candidates[blocked])
            self._live.remove(work.keys[work.index[candidates[~blocked]]])
            work.drop(candidates[~blocked])
        self._straight = np.union1d(self._straight, self._fresh)
        return work.result()

    def _span(self, a: Ints, b: Ints) -> Ints:
        """Key of each unordered pair of corners, shape (N,)."""
        low, high = np.minimum(a, b), np.maximum(a, b)
        # The two numbers fit into 64 bits for scenes up to 3e9 pixels. Beyond that the key may
        # overflow; a false match only keeps a vertex.
        mixed: Ints = low * np.int64((self._height + 1) * (self._width + 1)) + high
        return mixed

    def _blocked(self, work: _Work, candidates: Ints) -> Flags:
        """Candidates whose removal would change the topology."""
        before, at, after = work.corners(candidates)
        blocked = np.zeros(len(candidates), np.bool_)
        # A triangle of half a square pixel contains no corner but its own (Pick's theorem).
        large = np.flatnonzero(work.areas[candidates] > 1)
        triangles = np.stack([before[large], at[large], after[large]], axis=1)
        blocked[large] = self._live.in_triangles(triangles.astype(np.float64), triangles)
        # Two arcs between the same nodes must not both become the straight line.
        final = np.flatnonzero(work.is_final(candidates) & ~blocked)
        spans = self._span(self._live.keys(before[final]), self._live.keys(after[final]))
        allowed = np.zeros(len(final), np.bool_)
        allowed[np.unique(spans, return_index=True)[1]] = True
        place = np.searchsorted(self._straight, spans)
        allowed &= np.append(self._straight, -1)[place] != spans
        allowed &= ~np.isin(spans, self._fresh)
        blocked[final[~allowed]] = True
        self._fresh = np.concatenate([self._fresh, spans[allowed]])
        return blocked


def on_frame(points: NDArray[Any], height: int, width: int) -> Flags:
    """Whether each vertex lies on the frame of the scene, shape (N,)."""
    x, y = points[:, 0], points[:, 1]
    outer: Flags = (x == 0) | (y == 0) | (x == width) | (y == height)
    return outer


class _Work:
    """State of the rounds: the vertices of the arcs, and which of them may still be removed.

    A "place" below is an index into ``index``.

    Attributes:
        keys: Number of each vertex's corner, shape (N,).
        fixed: Vertices that stay whatever their triangle, shape (N,).
        index: Vertices of the arcs that can still lose some, shape (M,).
        areas: Doubled areas of their triangles; ``_NEVER`` for vertices that stay, shape (M,).
    """

    def __init__(self, arcs: Arcs, limits: Ints, keys: Ints, fixed: Flags) -> None:
        self._arcs, self.keys = arcs, keys
        self._points = arcs.points.astype(np.int64)
        self._limits = limits[self._points[:, 1]]
        self._arc = np.repeat(np.arange(len(arcs)), arcs.lengths)
        first, last = arcs.offsets[:-1], arcs.offsets[1:] - 1
        closed = keys[first] == keys[last] if len(arcs) else np.zeros(0, np.bool_)
        self._count = arcs.lengths - closed
        self._least = np.where(closed, _LEAST_CLOSED, 2)
        self._closed = closed
        self._alive = np.ones(len(keys), np.bool_)
        # The repeated vertex of a free loop is left out until ``result``.
        self._alive[last[arcs.free]] = False
        self.fixed = fixed
        self.fixed[first[~arcs.free]] = True
        self.fixed[last[~arcs.free]] = True
        self._barred = np.zeros(len(keys), np.bool_)
        # Between equal triangles a 20-bit hash of the corner decides. The result then does not
        # depend on where an arc starts, and along stairs of equal triangles many vertices are
        # removed in one round.
        self._ties = (keys * np.int64(-7046029254386353131)).view(np.uint64) >> np.uint64(44)
        self.index = np.flatnonzero(self._alive)
        self._changed = False
        self._narrow()

    @property
    def any(self) -> bool:
        """Whether an arc can still lose vertices."""
        return len(self.index) > 0

    def candidates(self) -> Ints:
        """Places of vertices with a smaller triangle than both of their neighbours."""
        key = np.where(self.areas == _NEVER, _NEVER, self.areas << 20 | self._tie)
        small = (key != _NEVER) & (key < key[self._before]) & (key <= key[self._after])
        places = np.flatnonzero(small)
        # An arc must keep its least number of vertices.
        arc = self._arc[self.index[places]]
        starts = np.flatnonzero(np.diff(arc, prepend=-1))
        rank = np.arange(len(arc)) - np.repeat(starts, np.diff(np.append(starts, len(arc))))
        return places[rank < (self._count - self._least)[arc]]

    def corners(self, places: Ints) -> tuple[Ints, Ints, Ints]:
        """The vertex before, the vertex itself and the one after, each (N, 2)."""
        at, before, after = self.index[places], self._before[places], self._after[places]
        points = self._points
        return points[self.index[before]], points[at], points[self.index[after]]

    def is_final(self, places: Ints) -> Flags:
        """Vertices without which an open arc is a straight line between its nodes."""
        arc = self._arc[self.index[places]]
        final: Flags = (self._count[arc] == 3) & ~self._closed[arc]
        return final

    def block(self, places: Ints) -> None:
        """Keeps vertices until one of their neighbours is removed, or until ``retry``."""
        self._barred[self.index[places]] = True
        self.areas[places] = _NEVER

    def drop(self, places: Ints) -> None:
        """Removes vertices; their neighbours are no longer blocked."""
        gone = self.index[places]
        self._alive[gone] = False
        self._changed |= len(gone) > 0
        np.subtract.at(self._count, self._arc[gone], 1)
        self._barred[self.index[self._before[places]]] = False
        self._barred[self.index[self._after[places]]] = False
        self._narrow()

    def retry(self) -> bool:
        """Unblocks all vertices; False if none was removed since the last time."""
        if not (self._changed and self._barred.any()):
            return False
        self._barred[:] = False
        self._changed = False
        self._narrow()
        return True

    def _narrow(self) -> None:
        """Drops arcs that can lose no more vertices and measures the triangles of the others."""
        self.index = self.index[self._alive[self.index]]
        arc = self._arc[self.index]
        starts = np.flatnonzero(np.diff(arc, prepend=-1))
        ends = np.append(starts, len(arc))[1:] - 1
        places = np.arange(len(arc))
        self._before, self._after = places - 1, places + 1
        # A loop goes on at its other end. The ends of open arcs are fixed, so it does not matter
        # that they get the same.
        self._before[starts] = ends
        self._after[ends] = starts
        x, y = self._points[self.index].T
        ax, ay = x[self._before], y[self._before]
        cx, cy = x[self._after], y[self._after]
        areas = np.abs((x - ax) * (cy - ay) - (cx - ax) * (y - ay))
        spare = (self._count > self._least)[arc]
        open_ = spare & ~self.fixed[self.index] & (areas <= self._limits[self.index])
        has_candidates = np.zeros(len(self._arcs), np.bool_)
        has_candidates[arc[open_]] = True
        stays = has_candidates[arc]
        self.areas = np.where(open_ & ~self._barred[self.index], areas, _NEVER)
        self._tie = self._ties[self.index].astype(np.int64)
        if stays.all():
            return
        self.index = self.index[stays]
        self.areas, self._tie = self.areas[stays], self._tie[stays]
        moved = np.cumsum(stays) - 1
        self._before, self._after = moved[self._before[stays]], moved[self._after[stays]]

    def result(self) -> Arcs:
        """The arcs with their remaining vertices; free loops are closed again."""
        arcs = self._arcs
        lengths = np.bincount(self._arc[self._alive], minlength=len(arcs)).astype(np.int64)
        remaining = self._arcs.points[self._alive]
        offsets, starts = offsets_of(lengths + arcs.free), offsets_of(lengths)
        points = np.empty((offsets[-1], 2), remaining.dtype)
        points[ragged_range(offsets[:-1], lengths)] = remaining
        points[offsets[1:][arcs.free] - 1] = remaining[starts[:-1][arcs.free]]
        return Arcs(points, offsets, arcs.sides, arcs.directions, arcs.cuts, arcs.free)
