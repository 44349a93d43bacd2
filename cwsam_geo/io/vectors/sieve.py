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

_STEPS = 1 << 20


class SievedStrips:
    """Codes of a raster without its small regions.

    In a round, each region below the least area goes to its largest neighbour, if that is larger
    than itself; of equal ones the first in reading order counts as larger. A neighbour that goes
    too takes along what came to it. Then regions of one code that have come to touch are one
    region. Rounds go on until nothing moves: what is still too small has no neighbour at all.
    Pixels without class are never a neighbour and never change. Neighbours share an edge.

    The raster is read twice: to find the regions, and to hand out the codes. In between, memory
    grows with the number of regions and of pairs of neighbours, about 100 bytes for each.

    Args:
        source: The raster.
        row_areas: Area of a pixel of each row.
        least: Area that a region needs to stay.
        diagonal: True where pixels that touch at a corner are connected.
        on_rows: Told after each strip of the first reading how many rows it had.
    """

    def __init__(
        self,
        source: CodeStrips,
        row_areas: NDArray[np.float64],
        least: float,
        diagonal: bool = False,
        on_rows: Callable[[int], None] = lambda rows: None,
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
            numbers = np.full(len(regions.code), np.iinfo(np.int64).max)
            np.minimum.at(numbers, regions.of_open, open_numbers)
            new = numbers == np.iinfo(np.int64).max
            numbers[new] = count + np.arange(new.sum())
            count += int(new.sum())
            if neighbours is not None:
                neighbours.same.append((open_numbers, numbers[regions.of_open]))
                neighbours.codes.append(regions.code[new])
            open_numbers = numbers[~regions.complete]
            yield strip, np.append(numbers, NOTHING)[regions.of_run]

    def _sieved(self, on_rows: Callable[[int], None]) -> Ints:
        """Code of each region number after the sieve."""
        found = _Neighbours()
        for strip, of_run in self._numbered(found):
            found.add(strip, of_run, self._areas, self._diagonal)
            on_rows(strip.rows)
        table = found.table()
        while table.step(self._least):
            pass
        return table.codes_of_numbers()


@dataclass
class _Neighbours:
    """What the first reading finds: pairs of region numbers, areas and codes, strip by strip."""

    same: list[tuple[Ints, Ints]] = field(default_factory=list)
    codes: list[Ints] = field(default_factory=list)
    beside: list[tuple[Ints, Ints]] = field(default_factory=list)
    corners: list[tuple[Ints, Ints]] = field(default_factory=list)
    areas: list[tuple[Ints, Ints]] = field(default_factory=list)

    def add(self, strip: Strip, of_run: Ints, row_areas: Ints, diagonal: bool) -> None:
        """Takes a strip's runs."""
        walls, stride = strip.walls, strip.stride
        inner = slice(strip.first, None)
        row = walls[inner] // stride - 1 + strip.top
        sizes = np.diff(walls, append=len(strip.flat))[inner] * row_areas[row]
        there = of_run[inner] != NOTHING
        self.areas.append(_summed(of_run[inner][there], sizes[there]))
        pixels = np.concatenate([walls[inner], _under(strip)])
        before = np.concatenate([walls[inner] - 1, _under(strip) - stride])
        self.beside.append(_pairs(strip, of_run, before, pixels))
        if diagonal:
            below = walls[inner]
            for upper, lower in ((below - 1 - stride, below), (below - stride, below - 1)):
                equal = strip.flat[upper] == strip.flat[lower]
                self.corners.append(_pairs(strip, of_run, upper[equal], lower[equal]))

    def table(self) -> _Table:
        """The regions of the whole raster."""
        codes = np.concatenate([np.zeros(0, np.int64), *self.codes])
        same = _joined(self.same)
        corners = _joined(self.corners)
        links = np.concatenate([same[0], corners[0]]), np.concatenate([same[1], corners[1]])
        _, label = components(links, len(codes))
        areas = np.zeros(label.max(initial=-1) + 1, np.int64)
        for numbers, sizes in self.areas:
            np.add.at(areas, label[numbers], sizes)
        final = np.zeros(len(areas), np.int64)
        final[label] = codes
        return _Table(label, final, areas, _joined(self.beside), corners)


def _under(strip: Strip) -> Ints:
    """Pixels at which a vertical neighbourhood begins: a run starts there or right above."""
    return np.concatenate([strip.walls[strip.first :], strip.walls[: strip.last] + strip.stride])


def _pairs(strip: Strip, of_run: Ints, one: Ints, other: Ints) -> tuple[Ints, Ints]:
    """Different pairs of the regions at pairs of pixels."""
    of_run = np.append(of_run, NOTHING)
    a, b = of_run[strip.run_at(one)], of_run[strip.run_at(other)]
    meet = (a != b) & (a != NOTHING) & (b != NOTHING)
    return _different(a[meet], b[meet])


def _different(a: Ints, b: Ints) -> tuple[Ints, Ints]:
    low, high = np.minimum(a, b), np.maximum(a, b)
    size = int(high.max(initial=0)) + 1
    keys = np.sort(low * size + high)
    keys = keys[np.diff(keys, prepend=-1) > 0]
    return keys // size, keys % size


def _summed(numbers: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    if len(starts) == 0:
        return numbers, sizes
    return numbers[order][starts], np.add.reduceat(sizes[order], starts)


def _joined(pairs: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    empty = np.zeros(0, np.int64)
    return np.concatenate([empty, *(p[0] for p in pairs)]), np.concatenate(
        [empty, *(p[1] for p in pairs)]
    )


class _Table:
    """Regions while they are merged."""

    def __init__(
        self,
        region: Ints,
        codes: Ints,
        areas: Ints,
        beside: tuple[Ints, Ints],
        corners: tuple[Ints, Ints],
    ) -> None:
        self._region, self._codes, self._areas = region, codes, areas
        self._beside = self._relabelled(beside, region)
        self._corners = self._relabelled(corners, region)

    @staticmethod
    def _relabelled(pairs: tuple[Ints, Ints], label: Ints) -> tuple[Ints, Ints]:
        a, b = label[pairs[0]], label[pairs[1]]
        return _different(a[a != b], b[a != b])

    def step(self, least: int) -> bool:
        """One round; False when nothing moved."""
        count = len(self._codes)
        # Regions are numbered in reading order, so a stable sort decides between equal ones.
        order = np.argsort(-self._areas, kind="stable")
        rank = np.empty(count, np.int64)
        rank[order] = np.arange(count - 1, -1, -1)
        goal = _largest_neighbour(rank, self._beside)
        moving: Flags = (self._areas < least) & (goal > rank)
        if not moving.any():
            return False
        target = np.where(moving, order[count - 1 - np.maximum(goal, 0)], np.arange(count))
        while True:
            further = target[target]
            if (further == target).all():
                break
            target = further
        self._merge(target)
        return True

    def _merge(self, target: Ints) -> None:
        codes = self._codes[target]
        count = len(codes)
        touching = [(np.arange(count), target)]
        for a, b in (self._beside, self._corners):
            alike = codes[a] == codes[b]
            touching.append((a[alike], b[alike]))
        _, label = components(_joined(touching), count)
        areas = np.zeros(label.max() + 1, np.int64)
        np.add.at(areas, label, self._areas)
        merged = np.zeros(len(areas), np.int64)
        merged[label] = codes
        self._region, self._codes, self._areas = label[self._region], merged, areas
        self._beside = self._relabelled(self._beside, label)
        self._corners = self._relabelled(self._corners, label)

    def codes_of_numbers(self) -> Ints:
        """Code of each region number."""
        return self._codes[self._region]


def _largest_neighbour(rank: Ints, pairs: tuple[Ints, Ints]) -> Ints:
    """Greatest rank among each region's neighbours, -1 without any."""
    goal = np.full(len(rank), -1)
    a, b = pairs
    np.maximum.at(goal, a, rank[b])
    np.maximum.at(goal, b, rank[a])
    return goal
