"""Assembling arcs to the rings of polygons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.vectorization.coverage.arcs import Arcs
from cwsam_geo.vectorization.coverage.chains import Flags, Ints, offsets_of, order_chains
from cwsam_geo.vectorization.coverage.regions import StripRegions


@dataclass(frozen=True)
class Rings:
    """Closed rings, sorted by feature and region, the outer ring of a region before its holes.

    Attributes:
        points: Pixel coordinates (column, row) of closed rings, shape (N, 2).
        offsets: Index of each ring's first vertex, and N, shape (R + 1,).
        region: Region of each ring, shape (R,).
    """

    points: NDArray[Any]
    offsets: Ints
    region: Ints


@dataclass(frozen=True)
class _HalfArcs:
    """Arcs travelled with the region that they bound on the right.

    An arc between two complete regions gives two half-arcs, one for each.

    Attributes:
        arc: Index of the arc, shape (H,).
        backward: True where the arc is travelled against its direction.
        region: The region on the right.
        start: Number of the pixel corner at the start.
        end: Number of the pixel corner at the end.
        leaves: Direction of the first edge.
        arrives: Direction of the last edge.
    """

    arc: Ints
    backward: Flags
    region: Ints
    start: Ints
    end: Ints
    leaves: Ints
    arrives: Ints


def assemble(arcs: Arcs, regions: StripRegions, width: int, reverse: bool) -> Rings:
    """Assembles the rings of the complete regions.

    A ring never touches itself. Where a region meets itself diagonally at a pixel corner, the
    outer ring does not go through the corner twice: what it would pinch off there becomes a hole
    that touches the outer ring.

    Args:
        arcs: All arcs that bound complete regions, each once.
        width: Columns of the scene.
        reverse: Outer rings run counterclockwise as seen in the image; else clockwise.
    """
    half = _half_arcs(arcs, regions.complete, width)
    chains = order_chains(_following(half))
    arc, backward = half.arc[chains.order], half.backward[chains.order]
    # Vertices of the rings, still open: a half-arc's last vertex is the first of the next one.
    steps = arcs.lengths[arc] - 1
    begins = np.where(backward, arcs.offsets[arc + 1] - 1, arcs.offsets[arc])
    ends = offsets_of(steps)
    along = np.arange(ends[-1]) - np.repeat(ends[:-1], steps)
    vertices = np.repeat(begins, steps) + np.where(np.repeat(backward, steps), -along, along)
    offsets = ends[chains.offsets]
    points = arcs.points[vertices]
    areas = _doubled_areas(points, offsets)
    region = half.region[chains.first]
    # By feature, then region, the outer ring before the holes
    order = np.lexsort([areas < 0, region, regions.feature[region]])
    return _closed(points, offsets, region, order, reverse)


def _half_arcs(arcs: Arcs, complete: Flags, width: int) -> _HalfArcs:
    is_complete = np.append(complete, False)[arcs.sides]
    forward, backward = np.flatnonzero(is_complete[:, 1]), np.flatnonzero(is_complete[:, 0])
    x, y = arcs.points[:, 0], arcs.points[:, 1]
    first, last = arcs.offsets[:-1], arcs.offsets[1:] - 1
    starts = x[first] + y[first].astype(np.int64) * (width + 1)
    stops = x[last] + y[last].astype(np.int64) * (width + 1)
    leaves, arrives = arcs.directions.astype(np.int64).T
    return _HalfArcs(
        arc=np.concatenate([forward, backward]),
        backward=np.arange(len(forward) + len(backward)) >= len(forward),
        region=np.concatenate([arcs.sides[forward, 1], arcs.sides[backward, 0]]),
        start=np.concatenate([starts[forward], stops[backward]]),
        end=np.concatenate([stops[forward], starts[backward]]),
        leaves=np.concatenate([leaves[forward], (arrives[backward] + 2) % 4]),
        arrives=np.concatenate([arrives[forward], (leaves[backward] + 2) % 4]),
    )


def _following(half: _HalfArcs) -> Ints:
    """Index of the half-arc that continues each one along its region, shape (H,)."""
    # Region and corner share one integer, by which starts are looked up for the ends.
    size = int(max(half.start.max(initial=0), half.end.max(initial=0))) + 1
    start_keys = half.region * size + half.start
    order = np.argsort(start_keys)
    ordered = np.append(start_keys[order], -1)
    end_keys = half.region * size + half.end
    place = np.searchsorted(ordered[:-1], end_keys)
    # A region that meets itself at a corner has two half-arcs that leave it. The ring takes the
    # left turn, around the foreign pixel on its left.
    twice = np.flatnonzero(ordered[place + 1] == end_keys)
    turned = (half.arrives[twice] + 3) % 4
    place[twice] += half.leaves[order[place[twice]]] != turned
    return order[place]


def _doubled_areas(points: NDArray[Any], offsets: Ints) -> NDArray[Any]:
    """Twice the signed area of open rings; positive where the region is inside."""
    if len(offsets) == 1:
        return np.zeros(0)
    # Exact in integers; smoothed rings have fractions of pixels.
    kind = np.int64 if points.dtype.kind == "i" else np.float64
    x, y = points[:, 0].astype(kind), points[:, 1].astype(kind)
    following = np.arange(1, len(points) + 1)
    following[offsets[1:] - 1] = offsets[:-1]
    return np.add.reduceat(x * y[following] - x[following] * y, offsets[:-1])


def _closed(points: NDArray[Any], offsets: Ints, region: Ints, order: Ints, reverse: bool) -> Rings:
    """Closes the rings with their first vertex and sorts them by ``order``."""
    lengths = np.diff(offsets)[order]
    first = offsets[:-1][order]
    new = offsets_of(lengths + 1)
    along = np.arange(new[-1]) - np.repeat(new[:-1], lengths + 1)
    if reverse:
        along = np.repeat(lengths, lengths + 1) - along
    along[along == np.repeat(lengths, lengths + 1)] = 0
    return Rings(points[np.repeat(first, lengths + 1) + along], new, region[order])
