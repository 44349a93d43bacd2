"""The pixel corners that are boundary vertices, and whether triangles contain one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.vectorization.coverage.chains import Flags, Ints, ragged_range

# Tolerance for rounding errors, in pixels; see _crossings.
_SLACK = 1e-6

# Corners that are looked up at once: bounds the memory of their keys (16 MiB of int64).
_AT_ONCE = 1 << 21


class LiveCorners:
    """The set of pixel corners that are vertices of a boundary, as a bitmap of the scene."""

    def __init__(self, height: int, width: int) -> None:
        self._stride = width + 1
        self._bits = np.zeros((height + 1) * self._stride // 8 + 1, np.uint8)

    def keys(self, points: NDArray[Any]) -> Ints:
        """Number of each corner, row by row, from its column and row, shape (N, 2) to (N,)."""
        numbers: Ints = points[:, 1].astype(np.int64) * self._stride + points[:, 0]
        return numbers

    def add(self, points: NDArray[Any]) -> None:
        """Adds corners, given as (column, row), shape (N, 2)."""
        keys = self.keys(points)
        np.bitwise_or.at(self._bits, keys >> 3, self._bit(keys))

    def remove(self, keys: Ints) -> None:
        """Removes corners by their numbers."""
        np.bitwise_and.at(self._bits, keys >> 3, ~self._bit(keys))

    def holds(self, keys: Ints) -> Flags:
        """Whether each corner is in the set, by its number."""
        live: Flags = (self._bits[keys >> 3] & self._bit(keys)) != 0
        return live

    @staticmethod
    def _bit(keys: Ints) -> NDArray[np.uint8]:
        return np.left_shift(np.uint8(1), (keys & 7).astype(np.uint8))

    def in_triangles(self, triangles: NDArray[np.float64], own: NDArray[Any]) -> Flags:
        """Which closed triangles contain a corner of the set besides their own.

        Args:
            triangles: Vertices (column, row), shape (T, 3, 2).
            own: Three corners of each triangle that do not count, shape (T, 3, 2), integers: its
                vertices, or the ends of the edges on which they lie.
        """
        occupied = np.zeros(len(triangles), np.bool_)
        extent = np.ptp(triangles, axis=1)
        # Scan lines run along the longer side of the bounding box, so that there are few of
        # them. ``flip`` marks triangles whose axes are swapped for that.
        flip = extent[:, 0] < extent[:, 1]
        triangles = np.where(flip[:, None, None], triangles[:, :, ::-1], triangles)
        first = np.ceil(triangles[:, :, 1].min(1) - _SLACK).astype(np.int64)
        last = np.floor(triangles[:, :, 1].max(1) + _SLACK).astype(np.int64)
        lines = np.maximum(last - first + 1, 0)
        own_keys = own[:, :, 1].astype(np.int64) * self._stride + own[:, :, 0]
        for part in _parts(lines):
            which = np.repeat(np.arange(part.start, part.stop), lines[part])
            at = ragged_range(first[part], lines[part])
            low, high = _crossings(triangles, which, at)
            self._scan(occupied, which, at, (low, high), flip, own_keys)
        return occupied

    def _scan(
        self,
        occupied: Flags,
        which: Ints,
        at: Ints,
        interval: tuple[Ints, Ints],
        flip: Flags,
        own_keys: Ints,
    ) -> None:
        """Marks triangles that have a foreign corner in the interval of one of their lines."""
        low, high = interval
        counts = np.maximum(high - low + 1, 0)
        for part in _parts(counts):
            along = ragged_range(low[part], counts[part])
            line = np.repeat(at[part], counts[part])
            triangle = np.repeat(which[part], counts[part])
            turned = flip[triangle]
            keys = np.where(turned, along, line) * self._stride + np.where(turned, line, along)
            live = np.flatnonzero(self.holds(keys))
            keys, triangle = keys[live], triangle[live]
            foreign = (own_keys[triangle] != keys[:, None]).all(1)
            occupied[triangle[foreign]] = True


def _parts(counts: Ints) -> Iterator[slice]:
    """Slices with bounded sums of counts; a single large count gets a slice of its own."""
    sums = np.cumsum(counts)
    start = 0
    while start < len(counts):
        bound = (sums[start - 1] if start else 0) + _AT_ONCE
        stop = max(start + 1, int(np.searchsorted(sums, bound, "right")))
        yield slice(start, stop)
        start = stop


def _crossings(triangles: NDArray[np.float64], which: Ints, at: Ints) -> tuple[Ints, Ints]:
    """First and last integer inside a triangle on each scan line, each (L,).

    The result is exact although the arithmetic is not: coordinates are far below 1e6, so a corner
    outside the closed triangle is further than ``_SLACK`` from it.

    Args:
        triangles: Vertices, shape (T, 3, 2).
        which: Triangle of each line, shape (L,).
        at: Second coordinate of each line, shape (L,).
    """
    low = np.full(len(which), np.inf)
    high = np.full(len(which), -np.inf)
    # The interval spans the crossings with the three edges.
    for i in range(3):
        p, q = triangles[:, i], triangles[:, (i + 1) % 3]
        rise = q[:, 1] - p[:, 1]
        slope = np.divide(q[:, 0] - p[:, 0], rise, out=np.zeros(len(p)), where=rise != 0)
        below, above = np.minimum(p[:, 1], q[:, 1]), np.maximum(p[:, 1], q[:, 1])
        meets = (at >= below[which] - _SLACK) & (at <= above[which] + _SLACK)
        step = np.clip(at - p[which, 1], below[which] - p[which, 1], above[which] - p[which, 1])
        crossing = p[which, 0] + step * slope[which]
        low = np.where(meets, np.minimum(low, crossing), low)
        high = np.where(meets, np.maximum(high, crossing), high)
    # A line that crosses no edge gets an empty interval.
    low, high = np.where(low <= high, low, 1), np.where(low <= high, high, 0)
    return np.ceil(low - _SLACK).astype(np.int64), np.floor(high + _SLACK).astype(np.int64)
