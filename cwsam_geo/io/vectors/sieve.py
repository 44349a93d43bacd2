"""Handing regions that are too small to their largest neighbour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.io.vectors.chains import Flags, Ints, components
from cwsam_geo.io.vectors.regions import NOTHING, RegionTracker, Strip
from cwsam_geo.io.vectors.source import CodeStrips, bounded

REGION_BYTES = 160
"""Memory that the sieve takes for a region, about."""

_STEPS = 1 << 20
_LATER = np.iinfo(np.int64).max
_HALF = 32
_LOW = (1 << _HALF) - 1


class SievedStrips:
    """Codes of a raster without its small regions.

    In a round, each region below the least area goes to its largest neighbour, if that is larger
    than itself; of equal ones the first in reading order counts as larger. A neighbour that goes
    too takes along what came to it. Then regions of one code that have come to touch are one
    region. Rounds go on until nothing moves: what is still too small has no neighbour at all.
    Pixels without class are never a neighbour and never change. Neighbours share an edge.

    The raster is read twice: to find the regions, and to hand out the codes. In between, memory
    grows with the number of regions, by about ``REGION_BYTES`` for each.

    Args:
        source: The raster.
        row_areas: Area of a pixel of each row.
        least: Area that a region needs to stay.
        diagonal: True where pixels that touch at a corner are connected.
        on_rows: Told after each strip of the first reading how many rows it had, and how many
            regions have been found so far.
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
        # Whole numbers: their sums do not depend on where strips begin.
        step = row_areas.max() / _STEPS
        self._areas = np.round(row_areas / step).astype(np.int64)
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
        """Each strip and the scene-wide number of the region of each of its runs.

        Numbers are given out in reading order; where regions turn out to be one, the links
        between their numbers are in ``neighbours``.
        """
        tracker = RegionTracker(self.width, self.dtype)
        open_numbers = np.zeros(0, np.int64)
        count = 0
        for top, rows in bounded(self._source.strips()):
            strip = Strip(rows, tracker.above, top)
            regions = tracker.feed(strip, is_last=False)
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
        """Code of each region number after the sieve."""
        found = _Neighbours()
        for strip, of_run in self._numbered(found):
            found.add(strip, of_run, self._areas, self._diagonal)
            on_rows(strip.rows, sum(len(codes) for codes in found.codes))
        table = found.table()
        while table.step(self._least):
            pass
        return table.codes_of_numbers()


@dataclass
class _Neighbours:
    """What the first reading finds, strip by strip.

    Attributes:
        same: Pairs of numbers of one region.
        codes: Codes of the regions that begin in each strip.
        areas: Areas of the regions with pixels in each strip: the first number, and areas from
            there on.
        beside: Pairs of neighbours, packed.
        corners: Pairs of regions of one code that meet diagonally, packed.
    """

    same: list[tuple[Ints, Ints]] = field(default_factory=list)
    codes: list[NDArray[Any]] = field(default_factory=list)
    areas: list[tuple[Ints, Ints]] = field(default_factory=list)
    beside: list[Ints] = field(default_factory=list)
    corners: list[Ints] = field(default_factory=list)

    def add(self, strip: Strip, of_run: Ints, row_areas: Ints, diagonal: bool) -> None:
        """Takes a strip's runs."""
        walls, stride = strip.walls, strip.stride
        inner = slice(strip.first, None)
        row = walls[inner] // stride - 1 + strip.top
        sizes = np.diff(walls, append=len(strip.flat))[inner] * row_areas[row]
        there = of_run[inner] != NOTHING
        self.areas.append(_summed(of_run[inner][there], sizes[there]))
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
        """The regions of the whole raster; the lists are emptied."""
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
    """Different pairs of the regions at pairs of pixels, packed."""
    of_run = np.append(of_run, NOTHING)
    a, b = of_run[strip.run_at(one)], of_run[strip.run_at(other)]
    meet = (a != b) & (a != NOTHING) & (b != NOTHING)
    return _packed(a[meet], b[meet])


def _packed(a: Ints, b: Ints) -> Ints:
    """Pairs of numbers in one of 64 bits each, every pair once."""
    keys = np.minimum(a, b).astype(np.int64) << _HALF
    keys |= np.maximum(a, b)
    keys.sort()
    return keys[np.diff(keys, prepend=-1) > 0]


def _summed(numbers: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    if len(starts) == 0:
        return numbers, sizes
    return numbers[order][starts], np.add.reduceat(sizes[order], starts)


def _joined(pairs: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    return _emptied([a for a, _ in pairs]), _emptied([b for _, b in pairs])


def _emptied(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """All arrays as one; the list gives up its own."""
    whole = np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
    arrays.clear()
    return whole


class _Table:
    """Regions while they are merged; numbers are 32 bits wide, pairs packed, to save memory."""

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
        """One round; False when nothing moved."""
        count = len(self._codes)
        # Regions are numbered in reading order, so a stable sort decides between equal ones.
        order = np.argsort(-self._areas, kind="stable").astype(np.int32)
        rank = np.empty(count, np.int32)
        rank[order] = np.arange(count - 1, -1, -1, dtype=np.int32)
        goal = _largest_neighbour(rank, self._beside)
        moving: Flags = (self._areas < least) & (goal > rank)
        if not moving.any():
            return False
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
        codes = self._codes[target]
        alike = []
        for pairs in (self._beside, self._corners):
            a, b = target[pairs >> _HALF], target[pairs & _LOW]
            touch = np.flatnonzero((codes[a] == codes[b]) & (a != b))
            alike.append((a[touch], b[touch]))
        # Only those that others hang on need to be told apart.
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
    a, b = label[pairs >> _HALF], label[pairs & _LOW]
    differ = a != b
    return _packed(a[differ], b[differ])


def _largest_neighbour(rank: NDArray[np.int32], pairs: Ints) -> NDArray[np.int32]:
    """Greatest rank among each region's neighbours, -1 without any."""
    goal = np.full(len(rank), -1, np.int32)
    a, b = pairs >> _HALF, pairs & _LOW
    np.maximum.at(goal, a, rank[b])
    np.maximum.at(goal, b, rank[a])
    return goal
