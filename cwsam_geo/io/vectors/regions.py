"""Connected regions of a class raster, strip by strip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from cwsam_geo.io.vectors.chains import Flags, Ints, components, offsets_of

NOTHING = -1
"""Region of pixels that belong to no class."""


class Strip:
    """Rows of a class raster with the row above them, in a frame of zeros.

    Positions are indices into ``flat``. A run is a row's stretch of equal codes; it is named by
    the wall at its left, a place where the code changes along the row.

    Args:
        codes: Codes of the new rows, shape (n, W), unsigned; 0 belongs to no class.
        above: The row above them, shape (W,).
        top: Row of the scene that ``codes`` starts with.

    Attributes:
        flat: Codes, shape ((n + 1) * stride,).
        stride: From one row to the next: W + 2.
        walls: Positions whose left neighbour has another code, ascending.
        first: Number of walls in the row above.
        last: Number of walls before the last row.
    """

    def __init__(self, codes: NDArray[Any], above: NDArray[Any], top: int) -> None:
        rows, width = codes.shape
        self.rows, self.width, self.top = rows, width, top
        self.stride = width + 2
        cells = np.zeros((rows + 1, self.stride), codes.dtype)
        cells[0, 1:-1] = above
        cells[1:, 1:-1] = codes
        self.flat = cells.ravel()
        self.walls: Ints = np.flatnonzero(self.flat[1:] != self.flat[:-1]) + 1
        self.first = int(np.searchsorted(self.walls, self.stride))
        self.last = int(np.searchsorted(self.walls, rows * self.stride))

    def run_at(self, positions: Ints) -> Ints:
        """The run that holds each position; -1 left of the first wall."""
        return np.searchsorted(self.walls, positions, "right") - 1

    def split(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Codes of the upper and of the lower half of the new rows."""
        cells = self.flat.reshape(-1, self.stride)[1:, 1:-1]
        half = self.rows // 2
        return cells[:half], cells[half:]


@dataclass(frozen=True)
class StripRegions:
    """Regions of one strip; numbers hold for this strip only.

    Attributes:
        of_run: Region of each run, ``NOTHING`` for code 0.
        of_open: Region that each open region of the strip before has become.
        code: Code of each region.
        feature: Feature that each region is part of.
        complete: Regions whose feature ends in this strip.
        renumbered: Number of each region in the next strip, ``NOTHING`` for complete ones.
    """

    of_run: Ints
    of_open: Ints
    code: Ints
    feature: Ints
    complete: Flags
    renumbered: Ints


class RegionTracker:
    """Finds 4-connected regions of equal code, and the features they are parts of.

    With connectivity 4 a region is a feature. With 8, regions that touch at a corner are parts of
    one feature; their polygons stay separate, since a polygon must not be pinched to a point.

    Args:
        width: Columns of the scene.
        dtype: Type of the codes.
        diagonal: True for connectivity 8.
    """

    def __init__(self, width: int, dtype: Any, diagonal: bool = False) -> None:
        self.above = np.zeros(width, dtype)
        self._diagonal = diagonal
        self._above_regions = np.zeros(0, np.int64)
        self._open_features = np.zeros(0, np.int64)

    def feed(self, strip: Strip, is_last: bool) -> StripRegions:
        """Labels the next strip, whose ``above`` is this tracker's."""
        count, of_run, of_open = self._label(strip)
        code = np.zeros(count, np.int64)
        inside = of_run >= 0
        code[of_run[inside]] = strip.flat[strip.walls[inside]]
        feature = self._features(strip, of_run, of_open, count)
        going_on = np.zeros(count, np.bool_)
        last = of_run[strip.last :]
        if not is_last:
            going_on[feature[last[last >= 0]]] = True
        complete = ~going_on[feature]
        renumbered = np.where(complete, NOTHING, np.cumsum(~complete) - 1)
        self.above = strip.flat[-strip.stride + 1 : -1].copy()
        self._above_regions = np.where(last >= 0, renumbered[last], NOTHING)
        self._open_features = feature[~complete]
        return StripRegions(of_run, of_open, code, feature, complete, renumbered)

    def _label(self, strip: Strip) -> tuple[int, Ints, Ints]:
        """Number of regions, region of each run, and region of each open region."""
        flat, walls, stride = strip.flat, strip.walls, strip.stride
        runs = np.flatnonzero(flat[walls])
        number = np.full(len(walls) + 1, NOTHING)
        number[runs] = np.arange(len(runs))
        first, last = np.searchsorted(runs, [strip.first, strip.last])
        starts = walls[runs]
        links = np.full((len(runs), 2), NOTHING)
        # Two runs touch where one of them starts: each looks up and down from its first pixel.
        upper = starts[first:]
        links[first:, 0] = _linked(strip, upper, upper - stride, number)
        lower = starts[:last]
        links[:last, 1] = _linked(strip, lower, lower + stride, number)
        links[:first, 0] = len(runs) + self._above_regions[runs[:first]]
        found, label = _labels(links, len(self._open_features))
        of_run = np.full(len(walls), NOTHING)
        of_run[runs] = label[: len(runs)]
        return found, of_run, label[len(runs) :]

    def _features(self, strip: Strip, of_run: Ints, of_open: Ints, count: int) -> Ints:
        if not self._diagonal:
            return np.arange(count)
        pairs = [*_corner_pairs(strip, of_run)]
        if len(of_open):
            # Parts of a feature that is still open stay together: each hangs on the first.
            _, first, which = np.unique(self._open_features, return_index=True, return_inverse=True)
            pairs.append((of_open, of_open[first[which]]))
        links = np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])
        return components(links, count)[1]


def _linked(strip: Strip, starts: Ints, others: Ints, number: Ints) -> Ints:
    """Number of the run at ``others`` where it has the code of the run at ``starts``."""
    same = np.flatnonzero(strip.flat[starts] == strip.flat[others])
    linked = np.full(len(starts), NOTHING)
    linked[same] = number[strip.run_at(others[same])]
    return linked


def _labels(links: Ints, others: int) -> tuple[int, Ints]:
    """Components of elements with up to two links each, and of ``others`` without."""
    size = len(links) + others
    if size == 0:
        return 0, np.zeros(0, np.int64)
    there = links >= 0
    pointers = np.zeros(size + 1, np.int64)
    pointers[: len(links) + 1] = offsets_of(there.sum(1))
    pointers[len(links) + 1 :] = pointers[len(links)]
    indices = links[there]
    graph = csr_array(
        (np.ones(len(indices)), indices.astype(np.int32), pointers.astype(np.int32)),
        shape=(size, size),
    )
    found, label = connected_components(graph, directed=True, connection="weak")
    return found, label.astype(np.int64)


def _corner_pairs(strip: Strip, of_run: Ints) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
    """Pairs of regions of equal code that meet diagonally."""
    flat, stride = strip.flat, strip.stride
    below = strip.walls[strip.first :]

    def pairs(upper: Ints, lower: Ints) -> tuple[Ints, Ints]:
        same = (flat[upper] == flat[lower]) & (flat[upper] != 0)
        return of_run[strip.run_at(upper[same])], of_run[strip.run_at(lower[same])]

    return pairs(below - 1 - stride, below), pairs(below - stride, below - 1)
