"""Polygons from rows of codes, strip by strip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.vectorization.coverage.arcs import Arcs, trace
from cwsam_geo.vectorization.coverage.chains import Ints, offsets_of
from cwsam_geo.vectorization.coverage.joining import ArcStore, Joiner
from cwsam_geo.vectorization.coverage.lattice import LiveCorners
from cwsam_geo.vectorization.coverage.regions import RegionTracker, StripRegions
from cwsam_geo.vectorization.coverage.rings import Rings, assemble
from cwsam_geo.vectorization.coverage.simplify import Simplifier
from cwsam_geo.vectorization.coverage.smooth import REACH, Smoother
from cwsam_geo.vectorization.coverage.strip import CodeStrips, Strip, bounded

# Longest edge, in pixels, without further vertices. Straight edges become curves in another CRS,
# and a straight line between the transformed ends would miss them.
_EDGE = 64

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


def densified(points: NDArray[Any], offsets: Ints) -> tuple[Floats, Ints]:
    """Splits edges longer than ``_EDGE`` pixels into equal parts.

    Args:
        points: Vertices of lines, shape (N, 2).
        offsets: Index of each line's first vertex, and N, shape (A + 1,).

    Returns:
        Vertices as float64, shape (M, 2), and the offsets of the lines in them.
    """
    steps = np.zeros(len(points))
    steps[:-1] = np.hypot(*np.diff(points.astype(np.float64), axis=0).T)
    steps[offsets[1:] - 1] = 0  # no edge from one line to the next
    count = np.maximum(np.ceil(steps / _EDGE), 1).astype(np.int64)
    if count.max(initial=1) == 1:
        return points.astype(np.float64), offsets
    places = offsets_of(count)
    vertex = np.repeat(np.arange(len(points)), count)
    share = (np.arange(places[-1]) - places[vertex]) / count[vertex]
    start = points[vertex].astype(np.float64)
    stop = points[np.minimum(vertex + 1, len(points) - 1)]
    return start + share[:, None] * (stop - start), places[offsets]
