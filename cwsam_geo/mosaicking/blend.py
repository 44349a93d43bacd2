"""Decides, pixel by pixel, whose class counts where maps overlap."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.legend import NODATA

Bytes = NDArray[np.uint8]
Valid = NDArray[np.bool_]


@dataclass
class Overlaps:
    """How far maps agree where they overlap.

    Attributes:
        pixels: Pixels of which more than one map knows the class.
        differing: Those of them where the maps have different classes.
    """

    pixels: int = 0
    differing: int = 0


class BlockBlend:
    """A block of a mosaic, to which maps are added in order.

    The first map counts, or the one with the highest confidence; of equal ones, the first.

    Args:
        height: Rows of the block.
        width: Columns of the block.

    Attributes:
        codes: Classes, shape (h, w), 255 where no map has data.
        percent: Confidence of ``codes``, shape (h, w), 255 where no map has data.
    """

    def __init__(self, height: int, width: int) -> None:
        self.codes: Bytes = np.full((height, width), NODATA, np.uint8)
        self.percent: Bytes = np.full((height, width), NODATA, np.uint8)
        self._first: Bytes = self.codes.copy()
        self._twice: Valid = np.zeros((height, width), np.bool_)
        self._differ: Valid = self._twice.copy()

    def add(
        self, where: tuple[slice, slice], codes: Bytes, valid: Valid, percent: Bytes | None
    ) -> None:
        """Adds a map.

        Args:
            where: The part of the block that it covers.
            codes: Its classes, shape (h, w), and ``valid``, where it has data.
            percent: Its confidence, (h, w); None if the first map counts.
        """
        taken = self.codes[where] != NODATA
        both = taken & valid
        self._twice[where] |= both
        self._differ[where] |= both & (self._first[where] != codes)
        np.copyto(self._first[where], codes, where=valid & ~taken)
        wins = valid & ~taken
        if percent is not None:
            wins |= both & (percent > self.percent[where])
            np.copyto(self.percent[where], percent, where=wins)
        np.copyto(self.codes[where], codes, where=wins)

    def count(self, overlaps: Overlaps) -> None:
        """Adds the block's pixels to the totals."""
        overlaps.pixels += int(np.count_nonzero(self._twice))
        overlaps.differing += int(np.count_nonzero(self._differ))


@dataclass
class MosaicSummary:
    """Summary of a mosaic.

    Attributes:
        pixels: Number of pixels by class code, nodata (255) included; empty for a VRT.
        overlaps: How far the maps agree where they overlap; None for a VRT.
        resampled: Maps whose pixels were resampled.
    """

    maps: int
    height: int
    width: int
    pixels: dict[int, int] = field(default_factory=dict)
    overlaps: Overlaps | None = None
    resampled: int = 0
    seconds: float = 0.0
