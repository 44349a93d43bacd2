"""Connected regions of a class raster, strip by strip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from cwsam_geo.vectorization.coverage.chains import Flags, Ints, components, offsets_of
from cwsam_geo.vectorization.coverage.strip import NOTHING, Strip


@dataclass(frozen=True)
class StripRegions:
    """Regions of one strip; their numbers are valid in this strip only.

    Attributes:
        of_run: Region of each run; ``NOTHING`` for code 0.
        of_open: Region in this strip of each region that the previous strip left open.
        code: Code of each region.
        feature: Feature to which each region belongs.
        complete: True for regions whose feature does not go on in the next strip.
        renumbered: Number of each region in the next strip; ``NOTHING`` for complete regions.
    """

    of_run: Ints
    of_open: Ints
    code: Ints
    feature: Ints
    complete: Flags
    renumbered: Ints


class RegionTracker:
    """Finds 4-connected regions of equal code, and the features to which they belong.

    With connectivity 4 every region is a feature. With 8, regions of equal code that touch at a
    corner form one feature of several polygons, since a polygon must not narrow to a point.

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
        """Labels the next strip, which was made with this tracker's ``above``."""
        count, of_run, of_open = self._label(strip)
        code = np.zeros(count, np.int64)
        inside = of_run >= 0
        code[of_run[inside]] = strip.flat[strip.walls[inside]]
        feature = self._features(strip, of_run, of_open, count)
        # A feature goes on if one of its regions reaches the last row.
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
        """Number of regions, region of each run, and region of each open region.

        Regions are the connected components of runs with a class and of the open regions, which
        are numbered after the runs.
        """
        flat, walls, stride = strip.flat, strip.walls, strip.stride
        runs = np.flatnonzero(flat[walls])
        number = np.full(len(walls) + 1, NOTHING)
        number[runs] = np.arange(len(runs))
        first, last = np.searchsorted(runs, [strip.first, strip.last])
        starts = walls[runs]
        links = np.full((len(runs), 2), NOTHING)
        # Two runs that touch do so above or below the first pixel of one of them: it is enough to
        # look up and down from there.
        upper = starts[first:]
        links[first:, 0] = _linked(strip, upper, upper - stride, number)
        lower = starts[:last]
        links[:last, 1] = _linked(strip, lower, lower + stride, number)
        # Runs in the row above belong to a region that is open already.
        links[:first, 0] = len(runs) + self._above_regions[runs[:first]]
        count, label = _labels(links, len(self._open_features))
        of_run = np.full(len(walls), NOTHING)
        of_run[runs] = label[: len(runs)]
        return count, of_run, label[len(runs) :]

    def _features(self, strip: Strip, of_run: Ints, of_open: Ints, count: int) -> Ints:
        if not self._diagonal:
            return np.arange(count)
        pairs = [*_corner_pairs(strip, of_run)]
        if len(of_open):
            # The open regions of one feature stay together: each is linked to the first of them.
            _, first, which = np.unique(self._open_features, return_index=True, return_inverse=True)
            pairs.append((of_open, of_open[first[which]]))
        links = np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])
        return components(links, count)[1]


def _linked(strip: Strip, starts: Ints, others: Ints, number: Ints) -> Ints:
    """Number of the run at ``others``; ``NOTHING`` where its code differs from ``starts``."""
    same = np.flatnonzero(strip.flat[starts] == strip.flat[others])
    linked = np.full(len(starts), NOTHING)
    linked[same] = number[strip.run_at(others[same])]
    return linked


def _labels(links: Ints, others: int) -> tuple[int, Ints]:
    """Components of elements with up to two links each, and of ``others`` without links.

    Args:
        links: Elements linked to each element, -1 for none, shape (N, 2).
        others: Number of further elements.

    Returns:
        Number of components, and the component of each element, shape (N + others,).
    """
    size = len(links) + others
    if size == 0:
        return 0, np.zeros(0, np.int64)
    is_link = links >= 0
    # The sparse matrix is made in compressed form directly, which spares sorting its entries.
    pointers = np.zeros(size + 1, np.int64)
    pointers[: len(links) + 1] = offsets_of(is_link.sum(1))
    pointers[len(links) + 1 :] = pointers[len(links)]
    indices = links[is_link]
    graph = csr_array(
        (np.ones(len(indices)), indices.astype(np.int32), pointers.astype(np.int32)),
        shape=(size, size),
    )
    count, label = connected_components(graph, directed=True, connection="weak")
    return count, label.astype(np.int64)


def _corner_pairs(strip: Strip, of_run: Ints) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
    """Pairs of regions of equal code that meet diagonally."""
    flat, stride = strip.flat, strip.stride
    below = strip.walls[strip.first :]

    def pairs(upper: Ints, lower: Ints) -> tuple[Ints, Ints]:
        same = (flat[upper] == flat[lower]) & (flat[upper] != 0)
        return of_run[strip.run_at(upper[same])], of_run[strip.run_at(lower[same])]

    return pairs(below - 1 - stride, below), pairs(below - stride, below - 1)
