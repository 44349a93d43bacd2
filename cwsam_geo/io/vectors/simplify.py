"""Simplifying a coverage arc by arc, so that no boundary touches or crosses another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.io.vectors.arcs import Arcs
from cwsam_geo.io.vectors.chains import Flags, Ints, offsets_of, ragged_range
from cwsam_geo.io.vectors.lattice import LiveCorners

_LEAST_CLOSED = 4
_NEVER = np.iinfo(np.int64).max


class Simplifier:
    """Visvalingam and Whyatt's line simplification, kept from changing the topology.

    As in ``shapely.coverage_simplify``, a vertex goes while the triangle with its two neighbours
    is no larger than the square of the tolerance, smallest triangles first, and only if that
    triangle holds no other vertex of any boundary. Then the new edge cannot meet another one: an
    edge that cuts through a triangle without a vertex inside would have to cross the old edges.
    All vertices stay pixel corners, so that this is decided exactly, and a round takes out at
    once all vertices whose triangle is smaller than those of their two neighbours, which is the
    order of the one-by-one algorithm. Nodes and vertices on the scene's frame stay; an island
    keeps at least four vertices.

    M. Visvalingam, J. D. Whyatt: Line generalisation by repeated elimination of points.
    Cartographic Journal 30 (1993).

    Args:
        live: Vertices of all boundaries so far.
        limits: Largest triangle that goes, in square pixels, for each row of corners (H + 1,).
        width: Columns of the scene.
    """

    def __init__(self, live: LiveCorners, limits: NDArray[np.float64], width: int) -> None:
        self._live, self._width, self._height = live, width, len(limits) - 1
        self._limits = np.floor(2 * limits * (1 + 1e-9)).astype(np.int64)
        # Pairs of nodes that a single edge joins: of earlier arcs, sorted, and of these arcs.
        self._straight = np.zeros(0, np.int64)
        self._fresh = np.zeros(0, np.int64)

    def __call__(self, arcs: Arcs) -> Arcs:
        """The same arcs with fewer vertices.

        Args:
            arcs: Whole arcs; their vertices and those of all known pieces are live.
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
        low, high = np.minimum(a, b), np.maximum(a, b)
        # Two numbers of corners in one of 64 bits: exact for scenes up to 3e9 pixels; beyond,
        # a false match only keeps a vertex.
        mixed: Ints = low * np.int64((self._height + 1) * (self._width + 1)) + high
        return mixed

    def _blocked(self, work: _Work, candidates: Ints) -> Flags:
        before, at, after = work.corners(candidates)
        blocked = np.zeros(len(candidates), np.bool_)
        # A triangle of half a square pixel holds no corner besides its own (Pick's theorem).
        large = np.flatnonzero(work.areas[candidates] > 1)
        triangles = np.stack([before[large], at[large], after[large]], axis=1)
        blocked[large] = self._live.in_triangles(triangles.astype(np.float64), triangles)
        # Two arcs between the same nodes must not both become the straight line.
        final = np.flatnonzero(work.is_final(candidates) & ~blocked)
        spans = self._span(self._live.keys(before[final]), self._live.keys(after[final]))
        kept = np.zeros(len(final), np.bool_)
        kept[np.unique(spans, return_index=True)[1]] = True
        place = np.searchsorted(self._straight, spans)
        kept &= np.append(self._straight, -1)[place] != spans
        kept &= ~np.isin(spans, self._fresh)
        blocked[final[~kept]] = True
        self._fresh = np.concatenate([self._fresh, spans[kept]])
        return blocked


def on_frame(points: NDArray[Any], height: int, width: int) -> Flags:
    """Vertices on the edge of the scene."""
    x, y = points[:, 0], points[:, 1]
    outer: Flags = (x == 0) | (y == 0) | (x == width) | (y == height)
    return outer


class _Work:
    """Vertices of arcs on which rounds are done.

    Attributes:
        keys: Number of each vertex's corner.
        fixed: Vertices that stay whatever their triangle.
        index: Vertices that still take part.
        areas: Doubled area of their triangles; ``_NEVER`` where they cannot go.
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
        # A free loop's repeated vertex is set aside: its neighbours are found around the corner.
        self._alive[last[arcs.free]] = False
        self.fixed = fixed
        self.fixed[first[~arcs.free]] = True
        self.fixed[last[~arcs.free]] = True
        self._barred = np.zeros(len(keys), np.bool_)
        self._ties = (keys * np.int64(-7046029254386353131)).view(np.uint64) >> np.uint64(44)
        self.index = np.flatnonzero(self._alive)
        self._changed = False
        self._narrow()

    @property
    def any(self) -> bool:
        """Whether there is something left to do."""
        return len(self.index) > 0

    def candidates(self) -> Ints:
        """Places in ``index`` of vertices with a smaller triangle than both neighbours."""
        key = np.where(self.areas == _NEVER, _NEVER, self.areas << 20 | self._tie)
        small = (key != _NEVER) & (key < key[self._before]) & (key <= key[self._after])
        places = np.flatnonzero(small)
        # An arc gives up no more vertices than it can spare.
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
        """Vertices that are the only inner one of an open arc."""
        arc = self._arc[self.index[places]]
        final: Flags = (self._count[arc] == 3) & ~self._closed[arc]
        return final

    def block(self, places: Ints) -> None:
        """Lets vertices stay until a neighbour has gone, or for another try."""
        self._barred[self.index[places]] = True
        self.areas[places] = _NEVER

    def drop(self, places: Ints) -> None:
        """Takes vertices out."""
        gone = self.index[places]
        self._alive[gone] = False
        self._changed |= len(gone) > 0
        np.subtract.at(self._count, self._arc[gone], 1)
        self._barred[self.index[self._before[places]]] = False
        self._barred[self.index[self._after[places]]] = False
        self._narrow()

    def retry(self) -> bool:
        """Gives blocked vertices another try if anything has changed since the last one."""
        if not (self._changed and self._barred.any()):
            return False
        self._barred[:] = False
        self._changed = False
        self._narrow()
        return True

    def _narrow(self) -> None:
        """Keeps the arcs that may lose more vertices, and measures their triangles."""
        self.index = self.index[self._alive[self.index]]
        arc = self._arc[self.index]
        starts = np.flatnonzero(np.diff(arc, prepend=-1))
        ends = np.append(starts, len(arc))[1:] - 1
        places = np.arange(len(arc))
        self._before, self._after = places - 1, places + 1
        # Around the corner; at the ends of open arcs nothing asks for it.
        self._before[starts] = ends
        self._after[ends] = starts
        x, y = self._points[self.index].T
        ax, ay = x[self._before], y[self._before]
        cx, cy = x[self._after], y[self._after]
        areas = np.abs((x - ax) * (cy - ay) - (cx - ax) * (y - ay))
        spare = (self._count > self._least)[arc]
        open_ = spare & ~self.fixed[self.index] & (areas <= self._limits[self.index])
        lively = np.zeros(len(self._arcs), np.bool_)
        lively[arc[open_]] = True
        keep = lively[arc]
        self.areas = np.where(open_ & ~self._barred[self.index], areas, _NEVER)
        self._tie = self._ties[self.index].astype(np.int64)
        if keep.all():
            return
        self.index = self.index[keep]
        self.areas, self._tie = self.areas[keep], self._tie[keep]
        moved = np.cumsum(keep) - 1
        self._before, self._after = moved[self._before[keep]], moved[self._after[keep]]

    def result(self) -> Arcs:
        """The arcs with the vertices that are left; free loops are closed again."""
        arcs = self._arcs
        lengths = np.bincount(self._arc[self._alive], minlength=len(arcs)).astype(np.int64)
        left = self._arcs.points[self._alive]
        offsets, starts = offsets_of(lengths + arcs.free), offsets_of(lengths)
        points = np.empty((offsets[-1], 2), left.dtype)
        points[ragged_range(offsets[:-1], lengths)] = left
        points[offsets[1:][arcs.free] - 1] = left[starts[:-1][arcs.free]]
        return Arcs(points, offsets, arcs.sides, arcs.directions, arcs.cuts, arcs.free)
