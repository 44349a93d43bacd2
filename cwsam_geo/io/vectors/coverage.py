"""Polygons from rows of codes, strip by strip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.io.vectors.arcs import Arcs, trace
from cwsam_geo.io.vectors.chains import Ints
from cwsam_geo.io.vectors.joining import ArcStore, Joiner
from cwsam_geo.io.vectors.lattice import LiveCorners
from cwsam_geo.io.vectors.placement import densified
from cwsam_geo.io.vectors.regions import RegionTracker, Strip, StripRegions
from cwsam_geo.io.vectors.rings import Rings, assemble
from cwsam_geo.io.vectors.simplify import Simplifier
from cwsam_geo.io.vectors.smooth import REACH, Smoother
from cwsam_geo.io.vectors.source import CodeStrips, bounded

Floats = NDArray[np.float64]
Confidence = Callable[[int, int], tuple[Floats, NDArray[np.bool_]]]
"""Reads values and a mask of valid ones, each (rows, W), from a first row and a row count."""


@dataclass(frozen=True)
class Drawing:
    """How boundaries are drawn.

    Attributes:
        diagonal: Pixels that touch only at a corner are connected (8-connectivity).
        limits: Largest triangle that simplification removes, in square pixels, for each row of
            pixel corners, shape (H + 1,); None to keep every vertex.
        smooth: Round the corners.
        dense: Add vertices to long edges, which become curves on the map.
        reverse: Outer rings run counterclockwise as seen in the image; else clockwise.
    """

    diagonal: bool = False
    limits: Floats | None = None
    smooth: bool = False
    dense: bool = False
    reverse: bool = True


@dataclass(frozen=True)
class Polygons:
    """The features that a strip completes.

    Attributes:
        rings: Rings of all polygons in pixel coordinates, a polygon's outer ring first.
        polygons: Index of each polygon's first ring, and the number of rings, shape (P + 1,).
        features: Index of each feature's first polygon, and P, shape (F + 1,).
        codes: Code of each feature, shape (F,).
        sums: Sum of the confidence over each feature's pixels, shape (F,).
        counts: Number of each feature's pixels that have a confidence, shape (F,).
        rows: Number of scene rows in the strip.
    """

    rings: Rings
    polygons: Ints
    features: Ints
    codes: Ints
    sums: Floats
    counts: Floats
    rows: int


def polygons(
    source: CodeStrips, drawing: Drawing, confidence: Confidence | None = None
) -> Iterator[Polygons]:
    """Yields the features of a raster as strips complete them.

    Memory holds one strip, the arcs of regions that reach beyond it, and one bit for each pixel
    where boundaries are simplified or smoothed.

    Args:
        source: The raster.
        drawing: How boundaries are drawn.
        confidence: Reads the values to average over each feature; None for no average.
    """
    lines = _LineWork(source.height, source.width, drawing)
    tracker = RegionTracker(source.width, source.dtype, drawing.diagonal)
    joiner, store = Joiner(source.width + 2), ArcStore()
    averages = _Averages()
    for top, codes, is_last in _with_end(source):
        strip = Strip(codes, tracker.above, top)
        regions = tracker.feed(strip, is_last)
        averages.add(strip, regions, None if is_last else confidence)
        # Boundaries of this strip, and the arcs that they complete
        pieces = trace(strip, regions.of_run)
        lines.see(pieces)
        whole = lines.draw(joiner.feed(pieces, regions.of_open))
        joiner.renumber(regions.renumbered)
        # All arcs of the regions that end here, put together to rings
        ready = store.exchange(whole, regions.of_open, regions.complete, regions.renumbered)
        if drawing.dense:
            points, offsets = densified(ready.points, ready.offsets)
            ready = replace(ready, points=points, offsets=offsets)
        rings = assemble(ready, regions, source.width, drawing.reverse)
        rows = 0 if is_last else len(codes)
        yield _grouped(rings, regions, averages, rows)
        averages.forget(regions)


def _with_end(source: CodeStrips) -> Iterator[tuple[int, NDArray[Any], bool]]:
    """The strips, then a row of zeros below the scene, which completes every region."""
    for top, codes in bounded(source.strips()):
        yield top, codes, False
    yield source.height, np.zeros((1, source.width), source.dtype), True


class _LineWork:
    """Simplifies and smooths whole arcs as ``Drawing`` says."""

    def __init__(self, height: int, width: int, drawing: Drawing) -> None:
        self._simplify: Simplifier | None = None
        self._smooth: Smoother | None = None
        self._live: LiveCorners | None = None
        limits = drawing.limits
        if limits is not None or drawing.smooth:
            self._live = LiveCorners(height, width)
            if limits is not None:
                self._simplify = Simplifier(self._live, limits, width)
            if drawing.smooth:
                # Curves may be as large as the tolerance, which is in pixels here.
                reach = REACH if limits is None else max(REACH, float(np.sqrt(limits.max())))
                self._smooth = Smoother(self._live, height, width, reach)

    def see(self, pieces: Arcs) -> None:
        if self._live is not None:
            self._live.add(pieces.points)

    def draw(self, arcs: Arcs) -> Arcs:
        if self._simplify is not None:
            arcs = self._simplify(arcs)
        return arcs if self._smooth is None else self._smooth(arcs)


class _Averages:
    """Sum of the confidence and number of pixels that have one, for each open region."""

    def __init__(self) -> None:
        self.sums = np.zeros(0)
        self.counts = np.zeros(0)

    def add(self, strip: Strip, regions: StripRegions, confidence: Confidence | None) -> None:
        """Renumbers the open regions for this strip and adds its pixels."""
        count = len(regions.code)
        sums, counts = np.zeros(count), np.zeros(count)
        np.add.at(sums, regions.of_open, self.sums)
        np.add.at(counts, regions.of_open, self.counts)
        walls = strip.walls[strip.first :]
        if confidence is not None and len(walls):
            of_run = regions.of_run[strip.first :]
            inside = of_run >= 0
            values, valid = confidence(strip.top, strip.rows)
            # Sums over runs first, then over the runs of each region
            for totals, plane in ((sums, values), (counts, valid)):
                framed = np.zeros((strip.rows, strip.stride))
                framed[:, 1:-1] = plane
                of_runs = np.add.reduceat(framed.ravel(), walls - strip.stride)
                totals += np.bincount(of_run[inside], of_runs[inside], minlength=count)
        self.sums, self.counts = sums, counts

    def forget(self, regions: StripRegions) -> None:
        """Drops the complete regions."""
        going_on = ~regions.complete
        self.sums, self.counts = self.sums[going_on], self.counts[going_on]


def _grouped(rings: Rings, regions: StripRegions, averages: _Averages, rows: int) -> Polygons:
    """Groups rings to polygons, one for each region, and polygons to features."""
    starts = np.flatnonzero(np.diff(rings.region, prepend=-1))
    region = rings.region[starts]
    feature = regions.feature[region]
    first = np.flatnonzero(np.diff(feature, prepend=-1))
    summed = [
        np.add.reduceat(total[region], first) if len(first) else np.zeros(0)
        for total in (averages.sums, averages.counts)
    ]
    return Polygons(
        rings,
        np.append(starts, len(rings.region)),
        np.append(first, len(region)),
        regions.code[region[first]],
        summed[0],
        summed[1],
        rows,
    )


class ChosenStrips:
    """A raster in which all but the chosen codes are 0 (no class).

    Args:
        source: The raster.
        codes: The codes that stay.
    """

    def __init__(self, source: CodeStrips, codes: list[int]) -> None:
        self._source, self._wanted = source, np.array(codes, source.dtype)
        self.height, self.width, self.dtype = source.height, source.width, source.dtype

    def strips(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """First row and codes (n, W) of each strip."""
        for top, codes in self._source.strips():
            yield top, np.where(np.isin(codes, self._wanted), codes, 0).astype(self.dtype)
