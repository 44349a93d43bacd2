"""Coarse grids: a raster's grid with fewer pixels, and sums of pixels in its cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint

from cwsam_geo.core.grid import SceneGrid, Window

Ints = NDArray[np.int64]


def coarse_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width of a picture of a raster whose longer side has at most ``size`` pixels.

    A raster is never enlarged. The shape depends on these numbers only, so views of rasters on one
    grid align.
    """
    factor = max(1.0, max(height, width) / size)
    return max(1, round(height / factor)), max(1, round(width / factor))


def coarse_grid(grid: SceneGrid, shape: tuple[int, int]) -> SceneGrid:
    """The grid of a picture of the whole raster, with larger pixels.

    RPCs are left out: they need heights, which no picture uses.

    Args:
        grid: The raster's grid.
        shape: Height and width of the picture.
    """
    down, across = grid.height / shape[0], grid.width / shape[1]
    transform = grid.transform
    # The identity of a raster without georeferencing stays the identity.
    if grid.georeferenced and not grid.gcps:
        transform = transform * Affine.scale(across, down)
    gcps = tuple(
        GroundControlPoint(row=p.row / down, col=p.col / across, x=p.x, y=p.y, z=p.z, id=p.id)
        for p in grid.gcps
    )
    return replace(
        grid,
        height=shape[0],
        width=shape[1],
        transform=transform,
        gcps=gcps,
        rpcs=None,
        block_shape=shape,
    )


def cell_edges(length: int, cells: int) -> Ints:
    """First pixel of each cell along an axis, and the length: ``cells + 1`` numbers."""
    return np.arange(cells + 1) * length // cells


class Cells:
    """The cells of a picture, which sum up the pixels of a raster.

    Args:
        part: The pixels of the raster that the picture shows.
        shape: Height and width of the picture.
    """

    def __init__(self, part: Window, shape: tuple[int, int]) -> None:
        self.part, self.shape = part, shape
        self._rows = part.row + cell_edges(part.height, shape[0])
        self._cols = part.col + cell_edges(part.width, shape[1])

    def add(self, sums: NDArray[Any], values: NDArray[Any], window: Window, step: int = 1) -> None:
        """Adds the pixels of a window to the cells that contain them.

        Args:
            sums: The sums of all cells, shape (N, *shape), changed in place.
            values: Values of every ``step``-th row of the window, shape (N, rows, w).
            window: Place of the pixels in the raster.
            step: Rows from one row of ``values`` to the next.
        """
        rows, row_cells = _starts(self._rows, window.row, window.bottom, step)
        cols, col_cells = _starts(self._cols, window.col, window.right)
        part = np.add.reduceat(values, cols, axis=2, dtype=sums.dtype)
        part = np.add.reduceat(part, rows, axis=1)
        sums[:, row_cells[0] : row_cells[-1] + 1, col_cells[0] : col_cells[-1] + 1] += part

    def step(self, rows: int) -> int:
        """Rows from one to the next if ``rows`` rows of each cell are enough; 1 for all."""
        return max(1, self.part.height // self.shape[0] // rows)

    def row_windows(self, lines: int) -> list[Window]:
        """A window of at most ``lines`` rows from the middle of each row of cells."""
        windows = []
        for first, end in zip(self._rows[:-1].tolist(), self._rows[1:].tolist(), strict=True):
            count = min(lines, end - first)
            start = first + (end - first - count) // 2
            windows.append(Window(start, self.part.col, count, self.part.width))
        return windows


def _starts(edges: Ints, first: int, end: int, step: int = 1) -> tuple[Ints, Ints]:
    """Where the cells of every ``step``-th pixel from ``first`` to ``end`` begin.

    Returns:
        Index of the first such pixel in each cell that has one, and the number of the cell.
    """
    place = np.searchsorted(edges, [first, end - 1], side="right") - 1
    cells = np.arange(place[0], place[1] + 1)
    starts = -(np.minimum(first - edges[cells], 0) // step)  # rounded up
    following = np.append(starts[1:], -((first - end) // step))
    return starts[starts < following], cells[starts < following]
