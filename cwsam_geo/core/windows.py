"""Windows that cover a raster, or sample it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cwsam_geo.core.grid import SceneGrid, Window

_WINDOW_PIXELS = 1 << 22
"""Pixels of a window: four million, so that its int64 arrays take 32 MB each."""


def spread_windows(grid: SceneGrid, unit: tuple[int, int], count: int) -> list[Window]:
    """Windows of whole storage blocks, spread evenly over the scene, in row-major order.

    Args:
        grid: The scene's grid.
        unit: Rows and columns of a window.
        count: Approximate number of windows.
    """
    rows, cols = units_along(grid.height, unit[0]), units_along(grid.width, unit[1])
    n_rows = max(1, min(rows, round(math.sqrt(count * rows / cols))))
    n_cols = max(1, min(cols, count // n_rows))
    n_rows = max(1, min(rows, count // n_cols))
    return [
        Window(i * unit[0], j * unit[1], unit[0], unit[1]).intersect(grid.window)
        for i in _middles(rows, n_rows)
        for j in _middles(cols, n_cols)
    ]


def row_windows(grid: SceneGrid, pixels: int = 4_000_000) -> Iterator[Window]:
    """Full-width windows that cover the scene, of whole blocks and about ``pixels`` pixels each."""
    block = grid.block_shape[0]
    step = max(block, pixels // grid.width // block * block)
    for row in range(0, grid.height, step):
        yield Window(row, 0, step, grid.width).intersect(grid.window)


def units_along(length: int, unit: int) -> int:
    """How many units cover a length."""
    return -(-length // unit)  # rounded up


def _middles(length: int, count: int) -> list[int]:
    # The middle of each of count equal parts.
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def windows_over(
    area: Window, block_shape: tuple[int, int], pixels: int | None = None
) -> Iterator[Window]:
    """Windows that cover an area without overlap, aligned to storage blocks.

    Args:
        area: The window to cover.
        block_shape: Height and width of a storage block in pixels. Windows end at block borders,
            except where a block is much larger than a window.
        pixels: Approximate number of pixels of a window; None for four million.
    """
    pixels = pixels or _WINDOW_PIXELS
    if area.empty:
        return
    block_rows, block_cols = block_shape
    # One row of blocks as wide as the budget allows, then as many rows of blocks as fit.
    cols = max(1, pixels // block_rows // block_cols) * block_cols
    cols = min(cols, area.right)
    rows = max(1, pixels // cols // block_rows) * block_rows
    # A block may be the whole image, as in a GeoTIFF of one strip: bound memory, cut the block.
    if rows * cols > 2 * _WINDOW_PIXELS:
        rows, cols = max(1, pixels // cols), min(cols, _WINDOW_PIXELS)
    # Start at multiples of the window's size, which are block borders, and crop to the area.
    for row in range(area.row // rows * rows, area.bottom, rows):
        for col in range(area.col // cols * cols, area.right, cols):
            window = Window(row, col, rows, cols).intersect(area)
            if not window.empty:
                yield window
