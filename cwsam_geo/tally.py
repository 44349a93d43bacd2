"""Counts pairs of reference value and map code window by window, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.errors import LegendError
from cwsam_geo.grid import Window

_WINDOW_PIXELS = 1 << 22
"""Pixels of a window: four million, so that its int64 arrays take 32 MB each."""

_FEW_VALUES = 1 << 14
"""Range of reference values up to which pairs are counted in a table, of at most 32 MB."""

_MOST_VALUES = 100_000
"""Number of different reference values above which the reference is refused as no class raster."""

_CODES = 256
"""Number of possible map codes (uint8)."""


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


class PairTally:
    """Number of pixels of each pair of reference value and map code.

    Args:
        label: Name of the reference in messages.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._counts: dict[int, int] = {}
        self._values: set[int] = set()

    def add(
        self,
        values: NDArray[np.integer],
        codes: NDArray[np.integer],
        counted: NDArray[np.bool_] | None = None,
    ) -> None:
        """Adds the pixels of a window.

        Args:
            values: Values of the reference, any shape.
            codes: Codes of the map, 0 to 255, same shape.
            counted: True where a pixel counts, same shape; None counts all pixels.

        Raises:
            LegendError: The reference has far more different values than a class raster has.
        """
        if counted is not None:
            values, codes = values[counted], codes[counted]
        if not values.size:
            return
        least = int(values.min())
        # One number per pair, shape (N,); subtracting the minimum keeps negative values countable.
        joint = (values.reshape(-1).astype(np.int64) - least) * _CODES + codes.reshape(-1)
        if int(values.max()) - least < _FEW_VALUES:
            sums = np.bincount(joint)
            keys = np.flatnonzero(sums)
            numbers = sums[keys]
        else:
            # Packed colours, for example, span 2**24 values: sorting needs less memory.
            keys, numbers = np.unique(joint, return_counts=True)
        for key, number in zip((keys + least * _CODES).tolist(), numbers.tolist(), strict=True):
            self._counts[key] = self._counts.get(key, 0) + number
        self._values.update(((keys // _CODES) + least).tolist())
        if len(self._values) > _MOST_VALUES:
            raise LegendError(
                f"{self._label}: has more than {_MOST_VALUES} different values or colours, so "
                "it shows no classes; export the labels losslessly (PNG, GeoTIFF)"
            )

    def pairs(self) -> Iterator[tuple[int, int, int]]:
        """Yields reference value, map code and number of pixels, ordered by value and code."""
        for key, count in sorted(self._counts.items()):
            yield key // _CODES, key % _CODES, count

    def values(self) -> dict[int, int]:
        """Number of pixels of each reference value."""
        sums: dict[int, int] = {}
        for value, _, count in self.pairs():
            sums[value] = sums.get(value, 0) + count
        return sums
