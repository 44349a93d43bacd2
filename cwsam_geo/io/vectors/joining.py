"""Joining boundary pieces across strips, and keeping arcs until their regions are complete."""

from __future__ import annotations

import numpy as np

from cwsam_geo.io.vectors.arcs import NO_CUT, Arcs
from cwsam_geo.io.vectors.chains import Flags, Ints, order_chains
from cwsam_geo.io.vectors.regions import NOTHING

_CHUNKS = 16


class Joiner:
    """Joins pieces where strips have cut them.

    Args:
        stride: Of the strips; it tells cuts at the upper border from cuts at the lower one.
    """

    def __init__(self, stride: int) -> None:
        self._stride = stride
        self._open = Arcs.empty()

    def feed(self, pieces: Arcs, of_open: Ints) -> Arcs:
        """Takes the pieces of the next strip and gives the arcs that are whole.

        Args:
            pieces: Of the next strip.
            of_open: Number in this strip of the regions of the strip before.
        """
        cut = (pieces.cuts != NO_CUT).any(1)
        whole = pieces.take(np.flatnonzero(~cut))
        opened = _renumbered(self._open, of_open)
        pool = Arcs.concatenate([opened, pieces.take(np.flatnonzero(cut))])
        joined = _join(pool, self._following(pool, len(opened)))
        still = (joined.cuts != NO_CUT).any(1)
        self._open = joined.take(np.flatnonzero(still))
        return Arcs.concatenate([whole, joined.take(np.flatnonzero(~still))])

    def renumber(self, renumbered: Ints) -> None:
        """Gives the regions of open pieces their numbers in the next strip."""
        self._open = _renumbered(self._open, renumbered)

    def _following(self, pool: Arcs, old: int) -> Ints:
        """For each piece the one that goes on where it is cut."""
        # The lower border of the strip before is the upper border of this one.
        column = pool.cuts.copy()
        column[:old][column[:old] != NO_CUT] -= self._stride
        column[old:][column[old:] >= self._stride] = NO_CUT
        starts, ends = column.T
        table = np.full((2, self._stride), NOTHING)
        number = np.arange(len(pool))
        is_new = (number >= old).astype(np.int64)
        starting = np.flatnonzero(starts != NO_CUT)
        table[is_new[starting], starts[starting]] = starting
        ending = np.flatnonzero(ends != NO_CUT)
        following = np.full(len(pool), NOTHING)
        following[ending] = table[1 - is_new[ending], ends[ending]]
        return following


def _renumbered(arcs: Arcs, numbers: Ints) -> Arcs:
    sides = np.append(numbers, NOTHING)[arcs.sides]
    return Arcs(arcs.points, arcs.offsets, sides, arcs.directions, arcs.cuts, arcs.free)


def _join(pool: Arcs, following: Ints) -> Arcs:
    chains = order_chains(following)
    first, last = chains.first, chains.last
    moved = pool.take(chains.order)
    offsets = moved.offsets[chains.offsets]
    closed = chains.closed
    if closed.any():
        # A loop that closes by a join repeats its first vertex, as others do.
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
    """Whole arcs whose regions are not complete yet.

    Arcs lie in chunks that are merged when there are many, so that a strip's work does not grow
    with what is stored.
    """

    def __init__(self) -> None:
        self._chunks: list[Arcs] = []

    def exchange(self, arcs: Arcs, of_open: Ints, complete: Flags, renumbered: Ints) -> Arcs:
        """Stores a strip's arcs and gives all arcs that bound its complete regions.

        An arc is given twice in all: for the region on its left and for the one on its right.

        Args:
            arcs: Arcs that became whole in this strip.
            of_open: Number in this strip of the regions of the strip before.
            complete: Regions that are complete.
            renumbered: Numbers of the regions in the next strip.
        """
        leaving = np.append(complete, False)
        given, kept = [], []
        for chunk in [*(_renumbered(c, of_open) for c in self._chunks), arcs]:
            going = leaving[chunk.sides]
            given.append(chunk.take(np.flatnonzero(going.any(1))))
            staying = _renumbered(chunk, renumbered)
            alive = (staying.sides != NOTHING).any(1)
            if alive.sum() < 0.7 * len(alive):
                staying = staying.take(np.flatnonzero(alive))
            if len(staying):
                kept.append(staying)
        if len(kept) > _CHUNKS:
            kept.sort(key=lambda chunk: -len(chunk.points))
            half = _CHUNKS // 2
            kept = [*kept[:half], Arcs.concatenate(kept[half:])]
        self._chunks = kept
        return Arcs.concatenate(given)

    @property
    def nbytes(self) -> int:
        """Memory that the stored vertices take."""
        return sum(chunk.points.nbytes for chunk in self._chunks)
