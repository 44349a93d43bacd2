"""Joining boundary pieces across strips; storing arcs until their regions are complete."""

from __future__ import annotations

import numpy as np

from cwsam_geo.vectorization.coverage.arcs import NO_CUT, Arcs
from cwsam_geo.vectorization.coverage.chains import Flags, Ints, order_chains
from cwsam_geo.vectorization.coverage.strip import NOTHING

# Chunks of stored arcs. When there are more, all but the largest eight are merged.
_CHUNKS = 16


class Joiner:
    """Joins boundary pieces where the borders of strips have cut them.

    Args:
        stride: Stride of the strips; see ``Arcs.cuts``.
    """

    def __init__(self, stride: int) -> None:
        self._stride = stride
        self._open = Arcs.empty()

    def feed(self, pieces: Arcs, of_open: Ints) -> Arcs:
        """Adds the pieces of the next strip and returns the arcs that are whole now.

        Args:
            pieces: Boundary pieces of the strip.
            of_open: Number in this strip of each region that the previous strip left open.
        """
        cut = (pieces.cuts != NO_CUT).any(1)
        whole = pieces.take(np.flatnonzero(~cut))
        opened = _renumbered(self._open, of_open)
        pool = Arcs.concatenate([opened, pieces.take(np.flatnonzero(cut))])
        joined = _join(pool, self._following(pool, len(opened)))
        is_open = (joined.cuts != NO_CUT).any(1)
        self._open = joined.take(np.flatnonzero(is_open))
        return Arcs.concatenate([whole, joined.take(np.flatnonzero(~is_open))])

    def renumber(self, renumbered: Ints) -> None:
        """Gives the regions of open pieces their numbers in the next strip."""
        self._open = _renumbered(self._open, renumbered)

    def _following(self, pool: Arcs, old: int) -> Ints:
        """Index of the piece that continues each piece across the border, shape (P,)."""
        # The lower border of the previous strip is the upper border of this one: only cuts there
        # count, and both strips name them by their column.
        column = pool.cuts.copy()
        column[:old][column[:old] != NO_CUT] -= self._stride
        column[old:][column[old:] >= self._stride] = NO_CUT
        starts, ends = column.T
        # The piece that starts at each column: row 0 for old pieces, row 1 for new ones
        table = np.full((2, self._stride), NOTHING)
        number = np.arange(len(pool))
        is_new = (number >= old).astype(np.int64)
        starting = np.flatnonzero(starts != NO_CUT)
        table[is_new[starting], starts[starting]] = starting
        # An old piece goes on in a new one, and the other way round.
        ending = np.flatnonzero(ends != NO_CUT)
        following = np.full(len(pool), NOTHING)
        following[ending] = table[1 - is_new[ending], ends[ending]]
        return following


def _renumbered(arcs: Arcs, numbers: Ints) -> Arcs:
    sides = np.append(numbers, NOTHING)[arcs.sides]
    return Arcs(arcs.points, arcs.offsets, sides, arcs.directions, arcs.cuts, arcs.free)


def _join(pool: Arcs, following: Ints) -> Arcs:
    """Concatenates the pieces of each chain."""
    chains = order_chains(following)
    first, last = chains.first, chains.last
    moved = pool.take(chains.order)
    offsets = moved.offsets[chains.offsets]
    closed = chains.closed
    if closed.any():
        # A loop that this join has closed must repeat its first vertex, as other loops do.
        points = np.insert(moved.points, offsets[1:][closed], moved.points[offsets[:-1][closed]], 0)
        offsets = offsets + np.concatenate([[0], np.cumsum(closed)])
    else:
        points = moved.points
    cuts = np.column_stack([pool.cuts[first, 0], pool.cuts[last, 1]])
    cuts[closed] = NO_CUT
    return Arcs(
        points,
        offsets,
        pool.sides[first],
        np.column_stack([pool.directions[first, 0], pool.directions[last, 1]]),
        cuts,
        closed,
    )


class ArcStore:
    """Stores whole arcs until the regions on both sides are complete.

    Arcs are stored in chunks. Only the smaller chunks are merged, and only when there are many:
    a strip must not copy all stored vertices.
    """

    def __init__(self) -> None:
        self._chunks: list[Arcs] = []

    def exchange(self, arcs: Arcs, of_open: Ints, complete: Flags, renumbered: Ints) -> Arcs:
        """Stores the arcs of a strip and returns all arcs of the regions that it completes.

        An arc is returned when the region on its left completes, and when the one on its right
        does.

        Args:
            arcs: Arcs that became whole in this strip.
            of_open: Number in this strip of each region that the previous strip left open.
            complete: Which regions of this strip are complete.
            renumbered: Number of each region in the next strip.
        """
        leaving = np.append(complete, False)
        returned, remaining = [], []
        for chunk in [*(_renumbered(c, of_open) for c in self._chunks), arcs]:
            going = leaving[chunk.sides]
            returned.append(chunk.take(np.flatnonzero(going.any(1))))
            staying = _renumbered(chunk, renumbered)
            # Copying costs more than some arcs that are no longer needed.
            alive = (staying.sides != NOTHING).any(1)
            if alive.sum() < 0.7 * len(alive):
                staying = staying.take(np.flatnonzero(alive))
            if len(staying):
                remaining.append(staying)
        if len(remaining) > _CHUNKS:
            remaining.sort(key=lambda chunk: -len(chunk.points))
            half = _CHUNKS // 2
            remaining = [*remaining[:half], Arcs.concatenate(remaining[half:])]
        self._chunks = remaining
        return Arcs.concatenate(returned)
