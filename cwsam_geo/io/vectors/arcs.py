"""Boundaries between regions: pieces within a strip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.io.vectors.chains import Flags, Ints, offsets_of, order_chains, ragged_range
from cwsam_geo.io.vectors.regions import NOTHING, Strip

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
"""Which of the four boundary edges at a pixel corner there are."""

EAST, SOUTH, WEST, NORTH = 0, 1, 2, 3
"""Directions of travel; adding 1 turns right."""

NO_CUT = -1

_DEGREE = np.array([bin(bits).count("1") for bits in range(16)], np.uint8)


@dataclass(frozen=True)
class Arcs:
    """Directed lines over pixel corners, with one region all along on either side.

    Attributes:
        points: Column and row of the vertices, shape (N, 2).
        offsets: Where each arc's vertices start, shape (A + 1,). A loop repeats its first vertex.
        sides: Region to the left and to the right, seen in the direction of travel, shape (A, 2).
        directions: Direction of the first and of the last edge, shape (A, 2).
        cuts: Where the arc's start and end are open at a strip's border, shape (A, 2): the
            column, plus the stride where it is the lower border; ``NO_CUT`` for a true end.
        free: Loops without a node, shape (A,).
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
        """Vertices of each arc."""
        return np.diff(self.offsets)

    def take(self, index: Ints) -> Arcs:
        """Some of the arcs."""
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
        """All arcs of several sets."""
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
    """Boundary pieces of a strip.

    The corners of the strip's pixel rows down to the top of the last one are looked at; vertical
    edges of the row above and of the last row lead to cuts, where pieces are joined with those of
    the strips before and after.

    Each edge runs so that the greater code is on its right. That makes the direction the same all
    along an arc, so every vertex that is no node has one edge in and one out.

    Args:
        strip: The strip.
        of_run: Region of each run.
    """
    places, bits = _vertices(strip)
    degree = _DEGREE[bits]
    start, end, base, direction = _edges(strip, places, bits)
    outgoing = np.full(len(places), NOTHING)
    outgoing[start] = np.arange(len(start))
    chains = order_chains(np.where(degree[end] == 2, outgoing[end], NOTHING))
    first, last = chains.first, chains.last
    offsets = chains.offsets + np.arange(len(chains.offsets))
    vertices = np.empty(offsets[-1], np.int64)
    is_end = np.zeros(offsets[-1], np.bool_)
    is_end[offsets[1:] - 1] = True
    vertices[~is_end] = start[chains.order]
    vertices[is_end] = end[last]
    ends = np.column_stack([start[first], end[last]])
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
        Position of the pixel below and right of each corner, ascending; and its edges' bits.
    """
    flat, walls, stride = strip.flat, strip.walls, strip.stride
    # A turn or branch has a vertical edge: below it, or else above it.
    lower = walls[strip.first :]
    nw, ne, sw, se = flat[lower - 1 - stride], flat[lower - stride], flat[lower - 1], flat[lower]
    up, left, right = nw != ne, nw != sw, ne != se
    lower_bits = DOWN + up * UP + left * np.int64(LEFT) + right * np.int64(RIGHT)
    turns = lower_bits != UP + DOWN
    upper = walls[: strip.last] + stride
    upper = upper[flat[upper - 1] == flat[upper]]
    left, right = flat[upper - 1 - stride] != flat[upper - 1], flat[upper - stride] != flat[upper]
    upper_bits = UP + left * np.int64(LEFT) + right * np.int64(RIGHT)
    both = np.concatenate([lower[turns] << 4 | lower_bits[turns], upper << 4 | upper_bits])
    both.sort()
    keys = np.concatenate(
        [walls[: strip.first] << 4 | DOWN, both, (walls[strip.last :] + stride) << 4 | UP]
    )
    return keys >> 4, (keys & 15).astype(np.uint8)


def _edges(
    strip: Strip, places: Ints, bits: NDArray[np.uint8]
) -> tuple[Ints, Ints, Ints, NDArray[np.uint8]]:
    """Start, end, upper or left end, and direction of each straight edge between vertices."""
    flat, stride = strip.flat, strip.stride
    leftmost = np.flatnonzero(bits & RIGHT)
    eastward = flat[places[leftmost]] > flat[places[leftmost] - stride]
    column = places % stride
    if stride <= 1 << 16:
        column = column.astype(np.uint16)  # sorted by radix: several times faster
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
    """Regions left and right of edges, given their upper or left end."""
    across = np.where(direction % 2 == 0, strip.stride, 1)
    before, behind = base - across, base
    # Travelling east or north, the pixel at ``base`` is on the right.
    ahead = (direction == EAST) | (direction == NORTH)
    pixels = np.column_stack([np.where(ahead, before, behind), np.where(ahead, behind, before)])
    return np.append(of_run, NOTHING)[strip.run_at(pixels)]
