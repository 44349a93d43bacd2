"""Sets of classes that labels stand for, and counts of labels over the cells of a scene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.class_values import ClassMap
from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import Legend
from cwsam_geo.errors import UsageError

CELL = 32
"""Side in pixels of the square cells in which labels are counted."""

# Counters that count_cells may allocate (128 MiB of int64) before it sorts instead.
_MOST_BINS = 1 << 24


@dataclass(frozen=True)
class ClassSets:
    """The sets of classes that labels can stand for.

    Labels of pixels are stored as row numbers of ``table``.

    Attributes:
        table: Which classes each set allows, shape (S, K), bool. Row 0 allows no class and means
            "no label". Rows 1 to K are the single classes in the legend's order. The other rows
            are partial labels, which allow several classes.
    """

    table: NDArray[np.bool_]

    @classmethod
    def of(cls, legend: Legend, maps: Iterable[ClassMap | None]) -> ClassSets:
        """Collects the sets that the maps of all scenes need.

        Raises:
            UsageError: There are more than 65,535 sets, the most that uint16 labels can number.
        """
        k = len(legend)
        sets = [(), *((i,) for i in range(k))]
        partial_sets = {s for m in maps if m is not None for s in m.values() if len(s) > 1}
        sets += sorted(partial_sets, key=lambda s: (len(s), s))
        if len(sets) > 1 << 16:
            raise UsageError(f"{len(sets)} different lists of classes: at most 65,535")
        table = np.zeros((len(sets), k), np.bool_)
        for row, channels in enumerate(sets):
            table[row, list(channels)] = True
        return cls(table)

    def row(self, channels: tuple[int, ...]) -> int:
        """The row of the table that allows exactly these channels."""
        allowed = np.zeros(self.table.shape[1], np.bool_)
        allowed[list(channels)] = True
        return int(np.flatnonzero((self.table == allowed).all(1))[0])


@dataclass(frozen=True)
class CellCounts:
    """Labelled pixels of each cell and class set of a scene, as a sparse table of N entries.

    Attributes:
        shape: Rows and columns of cells.
        cells: Flat index of the cell of each entry, shape (N,), int64.
        sets: Row of the class sets of each entry, never 0, shape (N,), int64.
        pixels: Number of pixels of each entry, above 0, shape (N,), int64.
    """

    shape: tuple[int, int]
    cells: NDArray[np.int64]
    sets: NDArray[np.int64]
    pixels: NDArray[np.int64]

    def per_set(self, sets: int) -> NDArray[np.int64]:
        """Pixels of each set in the whole scene, shape (S,), int64.

        Args:
            sets: Number of sets S.
        """
        return np.bincount(self.sets, self.pixels, minlength=sets).astype(np.int64)

    def labelled(self) -> NDArray[np.int64]:
        """Labelled pixels of each cell, an int64 array of shape ``shape``."""
        size = self.shape[0] * self.shape[1]
        sums = np.bincount(self.cells, self.pixels, minlength=size)
        return sums.astype(np.int64).reshape(self.shape)


def cell_shape(grid: SceneGrid) -> tuple[int, int]:
    """Rows and columns of the cells that cover a scene."""
    return -(-grid.height // CELL), -(-grid.width // CELL)


def count_cells(labels: NDArray[np.integer], window: Window, shape: tuple[int, int]) -> CellCounts:
    """Counts the labels of a window by cell and class set.

    Args:
        labels: Rows of the class sets, shape (h, w).
        window: The window that ``labels`` covers.
        shape: Rows and columns of the scene's cells.
    """
    first_row, first_col = window.row // CELL, window.col // CELL
    row_cells = np.arange(window.row, window.bottom) // CELL - first_row
    col_cells = np.arange(window.col, window.right) // CELL - first_col
    width = int(col_cells[-1]) + 1
    # One key for each pair of cell and set.
    sets = int(labels.max(initial=0)) + 1
    keys = (row_cells[:, None] * width + col_cells) * sets + labels
    # Sorting (np.unique) takes ten times as long as counting (np.bincount).
    if (int(row_cells[-1]) + 1) * width * sets <= _MOST_BINS:
        sums = np.bincount(keys.reshape(-1))
        present_keys = np.flatnonzero(sums)
        pixels = sums[present_keys]
    else:
        present_keys, pixels = np.unique(keys, return_counts=True)
    # Drop set 0, which means "no label", and number the cells within the scene.
    is_label = present_keys % sets > 0
    cell, pixels = present_keys[is_label] // sets, pixels[is_label]
    scene_cell = (cell // width + first_row) * shape[1] + cell % width + first_col
    return CellCounts(shape, scene_cell, present_keys[is_label] % sets, pixels.astype(np.int64))


def joined(parts: Iterable[CellCounts], shape: tuple[int, int]) -> CellCounts:
    """Adds up the counts of several parts of one scene."""
    counts = list(parts)
    # Sets fit into 16 bits (see ClassSets), so cell and set make one integer key.
    keys = np.concatenate([p.cells << 16 | p.sets for p in counts] or [np.zeros(0, np.int64)])
    pixels = np.concatenate([p.pixels for p in counts] or [np.zeros(0, np.int64)])
    unique_keys, key_index = np.unique(keys, return_inverse=True)
    sums = np.bincount(key_index, pixels, minlength=len(unique_keys)).astype(np.int64)
    return CellCounts(shape, unique_keys >> 16, unique_keys & 0xFFFF, sums)


def single_channels(sets: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The channel of each row that allows one class, and -1 for other rows, shape (S,), int64.

    Args:
        sets: Which classes each label index allows, shape (S, K), bool.
    """
    return np.where(sets.sum(1) == 1, sets.argmax(1), -1).astype(np.int64)


def partial_rows(sets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows are partial labels: they allow several classes but not all, shape (S,), bool.

    Args:
        sets: Which classes each label index allows, shape (S, K), bool.
    """
    allowed = sets.sum(1)
    return np.asarray((allowed > 1) & (allowed < sets.shape[1]))
