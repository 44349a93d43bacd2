"""Counting pairs of values over windows, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.errors import LegendError
from cwsam_geo.grid import Window

_WINDOW_PIXELS = 1 << 22
_FEW_VALUES = 1 << 14
_MOST_VALUES = 100_000
_CODES = 256


def windows_over(
    area: Window, block_shape: tuple[int, int], pixels: int | None = None
) -> Iterator[Window]:
    """Windows that cover an area, in rows of storage blocks.

    Args:
        area: The pixels to cover.
        block_shape: Rows and columns of a storage block; windows keep to its edges.
        pixels: Pixels of a window, about; four million when None.
    """
    pixels = pixels or _WINDOW_PIXELS
    if area.empty:
        return
    block_rows, block_cols = block_shape
    cols = max(1, pixels // block_rows // block_cols) * block_cols
    cols = min(cols, area.right)
    rows = max(1, pixels // cols // block_rows) * block_rows
    if rows * cols > 2 * _WINDOW_PIXELS:
        rows, cols = max(1, pixels // cols), min(cols, _WINDOW_PIXELS)
    for row in range(area.row // rows * rows, area.bottom, rows):
        for col in range(area.col // cols * cols, area.right, cols):
            window = Window(row, col, rows, cols).intersect(area)
            if not window.empty:
                yield window


class PairTally:
    """How often each value of a reference meets each code of a map.

    Args:
        label: The reference's name in messages.
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
        """Takes a window.

        Args:
            values: The reference's, any shape.
            codes: The map's, 0 to 255, same shape.
            counted: Where they count; everywhere when None.

        Raises:
            LegendError: The reference holds far too many different values for classes.
        """
        if counted is not None:
            values, codes = values[counted], codes[counted]
        if not values.size:
            return
        least = int(values.min())
        joint = (values.reshape(-1).astype(np.int64) - least) * _CODES + codes.reshape(-1)
        if int(values.max()) - least < _FEW_VALUES:
            sums = np.bincount(joint)
            keys = np.flatnonzero(sums)
            numbers = sums[keys]
        else:
            keys, numbers = np.unique(joint, return_counts=True)
        for key, number in zip((keys + least * _CODES).tolist(), numbers.tolist(), strict=True):
            self._counts[key] = self._counts.get(key, 0) + number
        self._values.update(((keys // _CODES) + least).tolist())
        if len(self._values) > _MOST_VALUES:
            raise LegendError(
                f"{self._label}: holds more than {_MOST_VALUES} different values or colours, so "
                "it shows no classes; export the labels losslessly (PNG, GeoTIFF)"
            )

    def pairs(self) -> Iterator[tuple[int, int, int]]:
        """Reference value, map code, count."""
        for key, count in sorted(self._counts.items()):
            yield key // _CODES, key % _CODES, count

    def values(self) -> dict[int, int]:
        """How often each value of the reference was met."""
        sums: dict[int, int] = {}
        for value, _, count in self.pairs():
            sums[value] = sums.get(value, 0) + count
        return sums
