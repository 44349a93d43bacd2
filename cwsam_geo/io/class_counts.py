"""Pixels and areas of the classes of a map, counted in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.numbering import numbered
from cwsam_geo.core.windows import windows_over
from cwsam_geo.io.pixel_areas import PixelAreas

_WINDOW_PIXELS = 1 << 20
"""Pixels that are counted at once: their areas take 8 MB."""


class CodedRaster(Protocol):
    """A raster of class codes on its own grid."""

    @property
    def grid(self) -> SceneGrid: ...  # noqa: D102

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Codes, (h, w), and where there is a class, (h, w) bool."""


@dataclass(frozen=True)
class WindowCounts:
    """The classes in a window of a map.

    Attributes:
        window: The window.
        valid: Where there is a class, shape (h, w), bool.
        codes: The K codes that may occur, ascending.
        places: Index into ``codes`` of each pixel with a class, in row-major order.
        pixels: Pixels of each code, shape (K,).
        areas: Area of each code, shape (K,), in the unit of ``PixelAreas``.
    """

    window: Window
    valid: NDArray[np.bool_]
    codes: NDArray[Any]
    places: NDArray[Any]
    pixels: NDArray[np.int64]
    areas: NDArray[np.float64]

    def rows(self) -> Iterator[tuple[int, int, int, float]]:
        """Index, code, number of pixels and area of each code that occurs."""
        for i in np.flatnonzero(self.pixels).tolist():
            yield i, int(self.codes[i]), int(self.pixels[i]), float(self.areas[i])

    @property
    def nodata(self) -> int:
        """Pixels without a class."""
        return int(self.valid.size - len(self.places))


def class_counts(raster: CodedRaster, ground: PixelAreas) -> Iterator[WindowCounts]:
    """Counts the classes of a map, window by window.

    Args:
        ground: Areas of the map's pixels.

    Raises:
        SceneError: The map cannot be read.
    """
    for window in windows_over(raster.grid.window, raster.grid.block_shape, _WINDOW_PIXELS):
        stored, valid = raster.read(window)
        found = stored[valid]
        # A byte is its own number among all 256.
        codes, places = (
            (np.arange(256, dtype=np.uint8), found) if found.dtype == np.uint8 else numbered(found)
        )
        pixels = np.bincount(places, minlength=len(codes))
        areas = np.bincount(places, ground.of(window)[valid], len(codes)).astype(
            np.float64, copy=False
        )
        yield WindowCounts(window, valid, codes, places, pixels, areas)
