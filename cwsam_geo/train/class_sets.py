"""Which classes a label stands for, and how many labels lie where in a scene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.errors import UsageError
from cwsam_geo.grid import SceneGrid, Window
from cwsam_geo.legend import Legend
from cwsam_geo.train.config import ClassMap

CELL = 32
"""Side in pixels of the cells for which labels are counted."""

_MOST_BINS = 1 << 24


@dataclass(frozen=True)
class ClassSets:
    """The sets of classes that labels can stand for.

    Attributes:
        table: Which classes each set allows, shape (S, K), bool. Row 0 is empty: no label. Rows 1
            to K are the single classes in the legend's order, the rest are partial labels.
    """

    table: NDArray[np.bool_]

    @classmethod
    def of(cls, legend: Legend, maps: Iterable[ClassMap | None]) -> ClassSets:
        """The sets that some maps need.

        Raises:
            UsageError: There are more than 65,535.
        """
        k = len(legend)
        sets = [(), *((i,) for i in range(k))]
        several = {s for m in maps if m is not None for s in m.values() if len(s) > 1}
        sets += sorted(several, key=lambda s: (len(s), s))
        if len(sets) > 1 << 16:
            raise UsageError(f"{len(sets)} different lists of classes: at most 65,535")
        table = np.zeros((len(sets), k), np.bool_)
        for row, channels in enumerate(sets):
            table[row, list(channels)] = True
        return cls(table)

    def row(self, channels: tuple[int, ...]) -> int:
        """The row of a set of channels."""
        wanted = np.zeros(self.table.shape[1], np.bool_)
        wanted[list(channels)] = True
        return int(np.flatnonzero((self.table == wanted).all(1))[0])


@dataclass(frozen=True)
class CellCounts:
    """How many pixels of each set lie in each cell of a scene, the empty ones left out.

    Attributes:
        shape: Rows and columns of cells.
        cells: Flat index of a cell, shape (N,), int64.
        sets: Row of the class sets, never 0, shape (N,), int64.
        pixels: How many, shape (N,), int64.
    """

    shape: tuple[int, int]
    cells: NDArray[np.int64]
    sets: NDArray[np.int64]
    pixels: NDArray[np.int64]

    def per_set(self, sets: int) -> NDArray[np.int64]:
        """Pixels of each set in the whole scene, shape (S,)."""
        return np.bincount(self.sets, self.pixels, minlength=sets).astype(np.int64)

    def labelled(self) -> NDArray[np.int64]:
        """Labelled pixels of each cell, shape ``shape``."""
        size = self.shape[0] * self.shape[1]
        sums = np.bincount(self.cells, self.pixels, minlength=size)
        return sums.astype(np.int64).reshape(self.shape)


def cell_shape(grid: SceneGrid) -> tuple[int, int]:
    """Rows and columns of cells of a scene."""
    return -(-grid.height // CELL), -(-grid.width // CELL)


def count_cells(labels: NDArray[np.integer], window: Window, shape: tuple[int, int]) -> CellCounts:
    """Counts the labels of a window by cell and set.

    Args:
        labels: Rows of the class sets, shape (h, w).
        window: Its place in the scene.
        shape: Rows and columns of the scene's cells.
    """
    first_row, first_col = window.row // CELL, window.col // CELL
    row_cells = np.arange(window.row, window.bottom) // CELL - first_row
    col_cells = np.arange(window.col, window.right) // CELL - first_col
    width = int(col_cells[-1]) + 1
    # Sorting would take ten times as long as counting.
    sets = int(labels.max(initial=0)) + 1
    keys = (row_cells[:, None] * width + col_cells) * sets + labels
    if (int(row_cells[-1]) + 1) * width * sets <= _MOST_BINS:
        sums = np.bincount(keys.reshape(-1))
        found = np.flatnonzero(sums)
        pixels = sums[found]
    else:
        found, pixels = np.unique(keys, return_counts=True)
    kept = found % sets > 0
    cell, pixels = found[kept] // sets, pixels[kept]
    place = (cell // width + first_row) * shape[1] + cell % width + first_col
    return CellCounts(shape, place, found[kept] % sets, pixels.astype(np.int64))


def joined(parts: Iterable[CellCounts], shape: tuple[int, int]) -> CellCounts:
    """The sum of counts of parts of one scene."""
    every = list(parts)
    keys = np.concatenate([p.cells << 16 | p.sets for p in every] or [np.zeros(0, np.int64)])
    pixels = np.concatenate([p.pixels for p in every] or [np.zeros(0, np.int64)])
    found, place = np.unique(keys, return_inverse=True)
    sums = np.bincount(place, pixels, minlength=len(found)).astype(np.int64)
    return CellCounts(shape, found >> 16, found & 0xFFFF, sums)


def _counted(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Different keys and how often each occurs."""
    top = int(keys.max(initial=-1)) + 1
    if top <= 1 << 24:
        counts = np.bincount(keys, minlength=1)
        found = np.flatnonzero(counts)
        return found.astype(np.int64), counts[found].astype(np.int64)
    found, numbers = np.unique(keys, return_counts=True)
    return found, numbers.astype(np.int64)
