"""Sizes of pixels on the ground, of a scene and of the scenes that a model was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

PixelSize = tuple[float, float]
"""Sides of a pixel on the ground in metres: along a row and along a column."""

_DIGITS = 4
"""Significant digits that are stored; the size of a pixel varies more within a scene."""


@dataclass(frozen=True)
class PixelSizes:
    """Pixel sizes of the scenes that a model was trained on.

    Attributes:
        along_row: Smallest and largest side along a row, in metres.
        along_column: Smallest and largest side along a column, in metres.
    """

    along_row: tuple[float, float]
    along_column: tuple[float, float]

    @classmethod
    def of(cls, sizes: Iterable[PixelSize | None]) -> PixelSizes | None:
        """The range of some sizes; None if none is known."""
        known = [size for size in sizes if size is not None]
        if not known:
            return None
        row, column = ([_rounded(size[axis]) for size in known] for axis in (0, 1))
        return cls((min(row), max(row)), (min(column), max(column)))

    @classmethod
    def from_json(cls, value: Any) -> PixelSizes | None:
        """Reads the result of ``to_json``; None if the value is anything else."""
        try:
            (a, b), (c, d) = value
            sides = tuple(float(v) for v in (a, b, c, d))
        except (TypeError, ValueError):
            return None
        if not all(0 < side < math.inf for side in sides):
            return None
        a, b, c, d = sides
        return cls((min(a, b), max(a, b)), (min(c, d), max(c, d)))

    def to_json(self) -> list[list[float]]:
        """Plain values for JSON: smallest and largest side, along a row and along a column."""
        return [list(self.along_row), list(self.along_column)]

    def nearest(self, size: PixelSize) -> PixelSize:
        """The size in the range that is nearest to another one."""
        row, column = (
            min(max(side, low), high)
            for side, (low, high) in zip(size, (self.along_row, self.along_column), strict=True)
        )
        return row, column

    def __str__(self) -> str:
        """Such as ``10 x 10 m``, or ``5 to 10 x 5 to 10 m``."""
        sides = (
            f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"
            for low, high in (self.along_row, self.along_column)
        )
        return f"{' x '.join(sides)} m"


def _rounded(side: float) -> float:
    return float(f"{side:.{_DIGITS}g}")
