"""Counts pixels, areas and confidences of each class in one pass over a map."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.errors import UsageError
from cwsam_geo.io.class_counts import class_counts
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.confidence import ConfidenceRaster
from cwsam_geo.io.geolocation import locate
from cwsam_geo.io.pixel_areas import PixelAreas

PathLike = str | os.PathLike[str]

_LEVELS = 101
"""Whole per cent, 0 to 100."""

_BINS = 20
"""Bins of a histogram, as in a reliability diagram: five per cent each, the last includes 100."""


@dataclass
class ClassCounts:
    """What a map holds of one class.

    Attributes:
        pixels: Number of pixels.
        area: Area in square metres, or in pixels where the map has no CRS.
        confidence: Number of pixels at 0 to 100 per cent, shape (101,); zeros without confidence.
    """

    pixels: int = 0
    area: float = 0.0
    confidence: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_LEVELS, np.int64))


@dataclass(frozen=True)
class MapCounts:
    """What a map holds.

    Attributes:
        by_code: Counts of each class that occurs, by its code.
        nodata: Pixels without a class.
        unit: Unit of areas: ``m2``, or ``pixels``.
    """

    by_code: dict[int, ClassCounts]
    nodata: int
    unit: str

    @property
    def pixels(self) -> int:
        """Pixels with a class."""
        return sum(c.pixels for c in self.by_code.values())

    @property
    def area(self) -> float:
        """Area of all classes, in ``unit``."""
        return sum(c.area for c in self.by_code.values())

    @property
    def confidence(self) -> NDArray[np.int64]:
        """Pixels of all classes at 0 to 100 per cent, shape (101,)."""
        total = np.zeros(_LEVELS, np.int64)
        for counts in self.by_code.values():
            total += counts.confidence
        return total


def histogram(counts: NDArray[np.int64]) -> list[float]:
    """Shares of pixels in bins of five per cent, in per cent, of pixels at 0 to 100 per cent."""
    bins = np.minimum(np.arange(_LEVELS) // (100 // _BINS), _BINS - 1)
    shares = 100 * np.bincount(bins, counts, _BINS) / max(1, int(counts.sum()))
    return [float(v) for v in shares]


def mean_confidence(counts: NDArray[np.int64]) -> float | None:
    """Mean of pixels at 0 to 100 per cent; None without pixels."""
    total = int(counts.sum())
    return float(counts @ np.arange(_LEVELS)) / total if total else None


def share_below(counts: NDArray[np.int64], percent: int) -> float | None:
    """Share of pixels below so many per cent, 0 to 1; None without pixels."""
    total = int(counts.sum())
    return int(counts[:percent].sum()) / total if total else None


def count_classes(
    path: PathLike, confidence: PathLike | None = None, band: int | str | None = None
) -> MapCounts:
    """Counts the pixels, the area and the confidences of each class of a map.

    Args:
        path: The map.
        confidence: Raster of per cent on the map's grid, or None.
        band: Band of the map that holds the codes; None to find it.

    Raises:
        UsageError: The confidence holds probabilities instead of per cents.
        SceneError: A file cannot be read, or the confidence is not on the map's grid.
    """
    by_code: dict[int, ClassCounts] = {}
    nodata = 0
    with contextlib.ExitStack() as stack:
        raster = stack.enter_context(contextlib.closing(ClassRaster(path, band=band)))
        stated = None
        if confidence is not None:
            stated = ConfidenceRaster(confidence, raster.grid, raster.label)
            stack.enter_context(contextlib.closing(stated))
            _check_percent(stated)
        areas = PixelAreas(locate(raster.grid, raster.label))
        for found in class_counts(raster, areas):
            nodata += found.nodata
            k = len(found.codes)
            levels = np.zeros((k, _LEVELS), np.int64)
            if stated is not None:
                shares, known = (array[found.valid] for array in stated.shares(found.window))
                joint = found.places.astype(np.int64) * _LEVELS
                joint += np.rint(100 * shares).astype(np.int64)
                levels = np.bincount(joint[known], minlength=k * _LEVELS).reshape(k, _LEVELS)
            for i, code, pixels, area in found.rows():
                counts = by_code.setdefault(code, ClassCounts())
                counts.pixels += pixels
                counts.area += area
                counts.confidence += levels[i]
    return MapCounts(by_code, nodata, areas.unit)


def _check_percent(stated: ConfidenceRaster) -> None:
    if not stated.in_percent:
        raise UsageError(
            f"{stated.label}: holds probabilities from 0 to 1, but the report shows whole per "
            "cents; give what predict --confidence writes, or multiply it by 100"
        )
