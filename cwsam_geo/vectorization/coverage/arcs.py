"""Tracing the boundaries between regions within a strip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.vectorization.coverage.chains import (
    Flags,
    Ints,
    offsets_of,
    order_chains,
    ragged_range,
)
from cwsam_geo.vectorization.coverage.strip import NOTHING, Strip

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
"""Bits for the boundary edges that leave a pixel corner."""

EAST, SOUTH, WEST, NORTH = 0, 1, 2, 3
"""Directions of travel; adding 1 turns right."""

NO_CUT = -1
"""Value in ``Arcs.cuts`` for an end that no strip border cuts off."""

# Boundary edges at a corner by its bits: 1 at a cut, 2 along a line, 3 or 4 at a node.
_DEGREE = np.array([bin(bits).count("1") for bits in range(16)], np.uint8)


@dataclass(frozen=True)
class Arcs:
    """Directed boundary lines over pixel corners; each has one region on either side.

    Attributes:
        points: Column and row of the vertices, shape (N, 2).
        offsets: Index of each arc's first vertex, and N, shape (A + 1,). A loop repeats its first
            vertex at its end.
        sides: Regions to the left and to the right in the direction of travel, shape (A, 2).
        directions: Directions of the first and the last edge, shape (A, 2).
        cuts: Where a strip border cuts off the arc's start and end, shape (A, 2): the column of
            the cut, plus the stride at the lower border; ``NO_CUT`` for an end that is not cut.
        free: True for loops without a node, shape (A,).
    """

    points: NDArray[Any]
    offsets: Ints
    sides: Ints
    directions: NDArray[np.uint8]
    cuts: Ints
    free: Flags

    def __len__(self) -> int:
        return len(self.free)

    @property
    def lengths(self) -> Ints:
        """Number of vertices of each arc, shape (A,)."""
        return np.diff(self.offsets)

    def take(self, index: Ints) -> Arcs:
        """The arcs at these indices, in this order."""
        lengths = self.lengths[index]
        return Arcs(
            self.points[ragged_range(self.offsets[index], lengths)],
            offsets_of(lengths),
            self.sides[index],
            self.directions[index],
            self.cuts[index],
            self.free[index],
        )

    @classmethod
    def empty(cls) -> Arcs:
        """No arcs."""
        return cls(
            np.zeros((0, 2), np.int32),
            np.zeros(1, np.int64),
            np.zeros((0, 2), np.int64),
            np.zeros((0, 2), np.uint8),
            np.zeros((0, 2), np.int64),
            np.zeros(0, np.bool_),
        )

    @classmethod
    def concatenate(cls, several: Sequence[Arcs]) -> Arcs:
        """The arcs of several sets in one."""
        if len(several) == 1:
            return several[0]
        return cls(
            np.concatenate([a.points for a in several]),
            offsets_of(np.concatenate([a.lengths for a in several])),
            np.concatenate([a.sides for a in several]),
            np.concatenate([a.directions for a in several]),
            np.concatenate([a.cuts for a in several]),
            np.concatenate([a.free for a in several]),
        )


def trace(strip: Strip, of_run: Ints) -> Arcs:
    """Traces the boundary pieces of a strip.

    The pieces cover the pixel corners from the top of the strip to the top of its last row. Their
    ends at the row above and at the last row are cuts: ``Joiner`` joins them with the pieces of
    the neighbouring strips.

    The greater code is always on the right of an edge. All edges of an arc therefore run in one
    direction, and a vertex that is not a node has one edge in and one out.

    Args:
        of_run: Region of each run of the strip.
    """
    # Vertices: positions and edge bits, each (V,). Edges between them, each (E,).
    places, bits = _vertices(strip)
    degree = _DEGREE[bits]
    start, end, base, direction = _edges(strip, places, bits)
    # Chain the edges. A chain ends at a node or at a cut.
    outgoing = np.full(len(places), NOTHING)
    outgoing[start] = np.arange(len(start))
    chains = order_chains(np.where(degree[end] == 2, outgoing[end], NOTHING))
    first, last = chains.first, chains.last
    # Vertices of a piece: the start of each of its edges, then the end of its last edge.
    offsets = chains.offsets + np.arange(len(chains.offsets))
    vertices = np.empty(offsets[-1], np.int64)
    is_end = np.zeros(offsets[-1], np.bool_)
    is_end[offsets[1:] - 1] = True
    vertices[~is_end] = start[chains.order]
    vertices[is_end] = end[last]
    ends = np.column_stack([start[first], end[last]])
    # A cut end is not a corner of the boundary: the edge goes on in the neighbouring strip.
    real = degree[vertices] != 1
    row, column = np.divmod(places, strip.stride)
    corner = np.column_stack([column - 1, row + (strip.top - 1)]).astype(np.int32)
    return Arcs(
        corner[vertices[real]],
        np.concatenate([[0], np.cumsum(real)])[offsets],
        _sides(strip, of_run, places[base[first]], direction[first]),
        np.column_stack([direction[first], direction[last]]),
        np.where(
            degree[ends] == 1, column[ends] + np.where(row[ends] > 0, strip.stride, 0), NO_CUT
        ),
        chains.closed,
    )


def _vertices(strip: Strip) -> tuple[Ints, NDArray[np.uint8]]:
    """Corners where the boundary turns, branches or is cut, row by row.

    Returns:
        Position of the pixel to the lower right of each corner, ascending, and the bits of the
        corner's edges, each (V,).
    """
    flat, walls, stride = strip.flat, strip.walls, strip.stride
    # Every turn or branch has a vertical edge. First the corners with one below them:
    lower = walls[strip.first :]
    nw, ne, sw, se = flat[lower - 1 - stride], flat[lower - stride], flat[lower - 1], flat[lower]
    up, left, right = nw != ne, nw != sw, ne != se
    lower_bits = DOWN + up * UP + left * np.int64(LEFT) + right * np.int64(RIGHT)
    turns = lower_bits != UP + DOWN
    # Then the corners with a vertical edge above them only:
    upper = walls[: strip.last] + stride
    upper = upper[flat[upper - 1] == flat[upper]]
    left, right = flat[upper - 1 - stride] != flat[upper - 1], flat[upper - stride] != flat[upper]
    upper_bits = UP + left * np.int64(LEFT) + right * np.int64(RIGHT)
    # Position and bits share one integer, so that one sort orders both.
    both = np.concatenate([lower[turns] << 4 | lower_bits[turns], upper << 4 | upper_bits])
    both.sort()
    # Cuts at the upper border come first, those at the lower border last.
    keys = np.concatenate(
        [walls[: strip.first] << 4 | DOWN, both, (walls[strip.last :] + stride) << 4 | UP]
    )
    return keys >> 4, (keys & 15).astype(np.uint8)


def _edges(
    strip: Strip, places: Ints, bits: NDArray[np.uint8]
) -> tuple[Ints, Ints, Ints, NDArray[np.uint8]]:
    """Straight edges between vertices.

    Returns:
        Vertex at the start, vertex at the end, the upper or left one of the two, and direction,
        each (E,).
    """
    flat, stride = strip.flat, strip.stride
    # Vertices are sorted by row: a horizontal edge leads to the next vertex.
    leftmost = np.flatnonzero(bits & RIGHT)
    eastward = flat[places[leftmost]] > flat[places[leftmost] - stride]
    # Sorted by column, a vertical edge leads to the next vertex.
    column = places % stride
    if stride <= 1 << 16:
        # numpy sorts 16-bit integers by radix, which is several times faster.
        column = column.astype(np.uint16)
    by_column = np.argsort(column, kind="stable")
    going_down = np.flatnonzero(bits[by_column] & DOWN)
    below = np.full(len(places), NOTHING)
    below[by_column[going_down]] = by_column[going_down + 1]
    topmost = np.flatnonzero(below >= 0)
    bottom = below[topmost]
    southward = flat[places[topmost] - 1] > flat[places[topmost]]
    return (
        np.concatenate(
            [np.where(eastward, leftmost, leftmost + 1), np.where(southward, topmost, bottom)]
        ),
        np.concatenate(
            [np.where(eastward, leftmost + 1, leftmost), np.where(southward, bottom, topmost)]
        ),
        np.concatenate([leftmost, topmost]),
        np.concatenate([np.where(eastward, EAST, WEST), np.where(southward, SOUTH, NORTH)]).astype(
            np.uint8
        ),
    )


def _sides(strip: Strip, of_run: Ints, base: Ints, direction: NDArray[np.uint8]) -> Ints:
    """Regions to the left and right of edges, shape (n, 2).

    Args:
        of_run: Region of each run.
        base: Position of the pixel to the lower right of each edge's upper or left end, (n,).
        direction: Direction of each edge, (n,).
    """
    # The other pixel is above a horizontal edge, or left of a vertical one.
    across = np.where(direction % 2 == 0, strip.stride, 1)
    before, behind = base - across, base
    # Travelling east or north, the pixel at ``base`` is on the right.
    ahead = (direction == EAST) | (direction == NORTH)
    pixels = np.column_stack([np.where(ahead, before, behind), np.where(ahead, behind, before)])
    return np.append(of_run, NOTHING)[strip.run_at(pixels)]
