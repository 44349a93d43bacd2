"""Merging small regions into their largest neighbour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.vectorization.coverage.chains import Flags, Ints, components
from cwsam_geo.vectorization.coverage.regions import RegionTracker
from cwsam_geo.vectorization.coverage.strip import NOTHING, CodeStrips, Strip, bounded

REGION_BYTES = 160
"""Approximate memory of the sieve for each region of the raster, in bytes."""

# Areas are integers, in units of the largest pixel's area divided by this.
_STEPS = 1 << 20

# Stands for the number of a region that has none yet; greater than any number.
_LATER = np.iinfo(np.int64).max

# A pair of region numbers is packed into one int64: the smaller number in the upper half.
_HALF = 32
_LOW = (1 << _HALF) - 1


class SievedStrips:
    """A raster whose small regions are merged into their neighbours.

    Neighbours are regions that share an edge. In each round, every region below the least area is
    merged into its largest neighbour, if that is larger than the region itself. Between equal
    areas the first in reading order counts as larger. If the neighbour is merged in the same
    round, the region follows it. Afterwards, touching regions of equal code become one region.
    The rounds end when nothing is merged any more; a region that is still too small has no
    neighbour at all. Pixels without a class are no neighbours and never change.

    The raster is read twice: to find the regions, and to replace their codes. In between, memory
    grows by about ``REGION_BYTES`` for each region.

    Args:
        row_areas: Area of a pixel in each row, shape (H,).
        least: Smallest area of a region that is not merged, in the unit of ``row_areas``.
        diagonal: Pixels that touch only at a corner are connected (8-connectivity).
        on_rows: Called after each strip of the first pass with its number of rows and the number
            of regions so far.
    """

    def __init__(
        self,
        source: CodeStrips,
        row_areas: NDArray[np.float64],
        least: float,
        diagonal: bool = False,
        on_rows: Callable[[int, int], None] = lambda rows, regions: None,
    ) -> None:
        self._source = source
        self.height, self.width, self.dtype = source.height, source.width, source.dtype
        # Integer areas: their sums do not depend on where strips begin.
        step = row_areas.max() / _STEPS
        self._areas = np.round(row_areas / step).astype(np.int64)
        # A region of exactly the least area stays, whatever the rounding.
        self._least = int(np.ceil(least / step * (1 - 1e-9)))
        self._diagonal = diagonal
        self._codes = self._sieved(on_rows)

    def strips(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """First row and codes (n, W) of each strip."""
        for strip, of_run in self._numbered(None):
            codes = np.append(self._codes, 0)[of_run].astype(self.dtype)
            flat = np.zeros(len(strip.flat), self.dtype)
            if len(strip.walls):
                lengths = np.diff(strip.walls, append=len(flat))
                flat[strip.walls[0] :] = np.repeat(codes, lengths)
            yield strip.top, flat.reshape(-1, strip.stride)[1:, 1:-1]

    def _numbered(self, neighbours: _Neighbours | None) -> Iterator[tuple[Strip, Ints]]:
        """Yields each strip with the scene-wide region number of each of its runs.

        Numbers are assigned in reading order. Where two numbered regions turn out to be one,
        ``neighbours.same`` gets the pair of numbers.
        """
        tracker = RegionTracker(self.width, self.dtype)
        open_numbers = np.zeros(0, np.int64)
        count = 0
        for top, rows in bounded(self._source.strips()):
            strip = Strip(rows, tracker.above, top)
            regions = tracker.feed(strip, is_last=False)
            # An open region keeps the smallest of its numbers; new regions get the next ones.
            numbers = np.full(len(regions.code), _LATER)
            np.minimum.at(numbers, regions.of_open, open_numbers)
            new = np.flatnonzero(numbers == _LATER)
            numbers[new] = count + np.arange(len(new))
            count += len(new)
            if neighbours is not None:
                neighbours.same.append((open_numbers, numbers[regions.of_open]))
                neighbours.codes.append(regions.code[new].astype(self.dtype))
            open_numbers = numbers[~regions.complete]
            yield strip, np.append(numbers, NOTHING)[regions.of_run]

    def _sieved(self, on_rows: Callable[[int, int], None]) -> NDArray[Any]:
        """Code of each region number after all rounds."""
        neighbours = _Neighbours()
        for strip, of_run in self._numbered(neighbours):
            neighbours.add(strip, of_run, self._areas, self._diagonal)
            on_rows(strip.rows, sum(len(codes) for codes in neighbours.codes))
        table = neighbours.table()
        while table.step(self._least):
            pass
        return table.codes_of_numbers()


@dataclass
class _Neighbours:
    """Regions and neighbours that the first pass finds, strip by strip.

    Attributes:
        same: Pairs of numbers that belong to one region.
        codes: Codes of the regions that begin in each strip.
        areas: Numbers of the regions in each strip, and the areas of their pixels there.
        beside: Packed pairs of neighbours.
        corners: Packed pairs of regions of equal code that meet diagonally.
    """

    same: list[tuple[Ints, Ints]] = field(default_factory=list)
    codes: list[NDArray[Any]] = field(default_factory=list)
    areas: list[tuple[Ints, Ints]] = field(default_factory=list)
    beside: list[Ints] = field(default_factory=list)
    corners: list[Ints] = field(default_factory=list)

    def add(self, strip: Strip, of_run: Ints, row_areas: Ints, diagonal: bool) -> None:
        """Adds the regions and neighbours of a strip."""
        walls, stride = strip.walls, strip.stride
        inner = slice(strip.first, None)
        row = walls[inner] // stride - 1 + strip.top
        sizes = np.diff(walls, append=len(strip.flat))[inner] * row_areas[row]
        has_class = of_run[inner] != NOTHING
        self.areas.append(_summed(of_run[inner][has_class], sizes[has_class]))
        # Regions meet across walls, and across row borders: there each pair of runs meets at the
        # start of one of them.
        under = np.concatenate([walls[inner], walls[: strip.last] + stride])
        pixels = np.concatenate([walls[inner], under])
        before = np.concatenate([walls[inner] - 1, under - stride])
        self.beside.append(_pairs(strip, of_run, before, pixels))
        if diagonal:
            below = walls[inner]
            for upper, lower in ((below - 1 - stride, below), (below - stride, below - 1)):
                equal = strip.flat[upper] == strip.flat[lower]
                self.corners.append(_pairs(strip, of_run, upper[equal], lower[equal]))

    def table(self) -> _Table:
        """The regions of the whole raster. Empties the lists of arrays, which frees memory."""
        codes = _emptied(self.codes)
        corners = _emptied(self.corners)
        links = [*self.same, (corners >> _HALF, corners & _LOW)]
        _, label = components(_joined(links), len(codes))
        region = label.astype(np.int32)
        areas = np.zeros(int(label.max(initial=-1)) + 1, np.int64)
        while self.areas:
            numbers, sizes = self.areas.pop()
            np.add.at(areas, region[numbers], sizes)
        final = np.zeros(len(areas), codes.dtype)
        final[region] = codes
        return _Table(region, final, areas, _emptied(self.beside), corners)


def _pairs(strip: Strip, of_run: Ints, one: Ints, other: Ints) -> Ints:
    """Packed pairs of different regions that meet at pairs of pixels."""
    of_run = np.append(of_run, NOTHING)
    a, b = of_run[strip.run_at(one)], of_run[strip.run_at(other)]
    meet = (a != b) & (a != NOTHING) & (b != NOTHING)
    return _packed(a[meet], b[meet])


def _packed(a: Ints, b: Ints) -> Ints:
    """Unique unordered pairs of numbers, each packed into 64 bits."""
    keys = np.minimum(a, b).astype(np.int64) << _HALF
    keys |= np.maximum(a, b)
    keys.sort()
    return keys[np.diff(keys, prepend=-1) > 0]


def _summed(numbers: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    """Unique numbers, and the sum of the sizes of each."""
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    if len(starts) == 0:
        return numbers, sizes
    return numbers[order][starts], np.add.reduceat(sizes[order], starts)


def _joined(pairs: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    return _emptied([a for a, _ in pairs]), _emptied([b for _, b in pairs])


def _emptied(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenates the arrays and empties the list, so that their memory is free."""
    whole = np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
    arrays.clear()
    return whole


class _Table:
    """Regions while they are merged; 32-bit numbers and packed pairs save memory."""

    def __init__(
        self,
        region: NDArray[np.int32],
        codes: NDArray[Any],
        areas: Ints,
        beside: Ints,
        corners: Ints,
    ) -> None:
        self._region, self._codes, self._areas = region, codes, areas
        self._beside = _relabelled(beside, region)
        self._corners = _relabelled(corners, region)

    def step(self, least: int) -> bool:
        """Does one round; False when nothing was merged."""
        count = len(self._codes)
        # Ranks by area, the largest region highest. Regions are numbered in reading order, so a
        # stable sort ranks the first of equal ones higher.
        order = np.argsort(-self._areas, kind="stable").astype(np.int32)
        rank = np.empty(count, np.int32)
        rank[order] = np.arange(count - 1, -1, -1, dtype=np.int32)
        goal = _largest_neighbour(rank, self._beside)
        moving: Flags = (self._areas < least) & (goal > rank)
        if not moving.any():
            return False
        # Region into which each one is merged. A target that is merged itself is followed to its
        # own target, until all targets stay.
        target = np.arange(count, dtype=np.int32)
        target[moving] = order[count - 1 - goal[moving]]
        while True:
            further = target[target]
            if (further == target).all():
                break
            target = further
        self._merge(target)
        return True

    def _merge(self, target: NDArray[np.int32]) -> None:
        # Pairs of regions that have equal codes now
        codes = self._codes[target]
        alike = []
        for pairs in (self._beside, self._corners):
            a, b = target[pairs >> _HALF], target[pairs & _LOW]
            touch = np.flatnonzero((codes[a] == codes[b]) & (a != b))
            alike.append((a[touch], b[touch]))
        # Only targets are grouped: all other regions follow theirs.
        roots = np.flatnonzero(target == np.arange(len(target)))
        place = np.zeros(len(target), np.int32)
        place[roots] = np.arange(len(roots))
        links = _joined([(place[a], place[b]) for a, b in alike])
        count, label = components(links, len(roots))
        moved = label[place[target]].astype(np.int32)
        areas = np.zeros(count, np.int64)
        np.add.at(areas, moved, self._areas)
        merged = np.zeros(count, codes.dtype)
        merged[moved] = codes
        self._codes, self._areas = merged, areas
        self._region = moved[self._region]
        self._beside = _relabelled(self._beside, moved)
        self._corners = _relabelled(self._corners, moved)

    def codes_of_numbers(self) -> NDArray[Any]:
        """Code of each region number."""
        return self._codes[self._region]


def _relabelled(pairs: Ints, label: NDArray[np.int32]) -> Ints:
    """Pairs of new labels, without pairs of a region and itself."""
    a, b = label[pairs >> _HALF], label[pairs & _LOW]
    differ = a != b
    return _packed(a[differ], b[differ])


def _largest_neighbour(rank: NDArray[np.int32], pairs: Ints) -> NDArray[np.int32]:
    """Highest rank among each region's neighbours; -1 for regions without neighbours."""
    goal = np.full(len(rank), -1, np.int32)
    a, b = pairs >> _HALF, pairs & _LOW
    np.maximum.at(goal, a, rank[b])
    np.maximum.at(goal, b, rank[a])
    return goal
