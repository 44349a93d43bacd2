"""Strips of a class raster, as the polygons are traced from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.vectorization.coverage.chains import Ints

NOTHING = -1
"""Region of pixels that belong to no class."""

STRIP_CHANGES = 1 << 18
"""Most changes of code along the rows of a strip: each takes up to 1.5 kB (checkerboard)."""


class ChosenStrips:
    """A raster in which all but the chosen codes are 0 (no class).

    Args:
        codes: The codes that stay.
    """

    def __init__(self, source: CodeStrips, codes: list[int]) -> None:
        self._source, self._wanted = source, np.array(codes, source.dtype)
        self.height, self.width, self.dtype = source.height, source.width, source.dtype

    def strips(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """First row and codes (n, W) of each strip."""
        for top, codes in self._source.strips():
            yield top, np.where(np.isin(codes, self._wanted), codes, 0).astype(self.dtype)


class Strip:
    """Rows of a class raster and the row above them, with a column of zeros on either side.

    Positions are indices into ``flat``. A wall is a position whose left neighbour has another
    code. A run is a stretch of equal codes along a row; run i starts at wall i.

    Args:
        codes: Codes of the new rows, shape (n, W), unsigned; 0 belongs to no class.
        above: Codes of the row above them, shape (W,).
        top: First row of ``codes`` in the scene.

    Attributes:
        flat: Codes of all rows, shape ((n + 1) * stride,).
        stride: Positions from one row to the next, W + 2.
        walls: Positions of the walls, ascending.
        first: Number of walls in the row above: the first wall of the new rows.
        last: Number of walls before the last row: the first wall of the last row.
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
        """Run at each position; -1 before the first wall."""
        return np.searchsorted(self.walls, positions, "right") - 1


class CodeStrips(Protocol):
    """Rows of codes from top to bottom; 0 belongs to no class."""

    height: int
    width: int
    dtype: np.dtype[Any]

    def strips(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """First row and codes (n, W) of each strip; may be called more than once."""
        ...


def bounded(
    strips: Iterator[tuple[int, NDArray[Any]]],
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Cuts strips with more than ``STRIP_CHANGES`` changes of code, which bounds the memory."""
    for top, codes in strips:
        changes = np.count_nonzero(codes[:, 1:] != codes[:, :-1]) + 2 * len(codes)
        # Number of parts, rounded up; then the rows of a part
        rows = max(1, len(codes) // -(-int(changes) // STRIP_CHANGES))
        for start in range(0, len(codes), rows):
            yield top + start, codes[start : start + rows]
