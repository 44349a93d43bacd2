"""The opened map and its reference, aligned on the map's grid."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.class_values import Value
from cwsam_geo.core.grid import Window
from cwsam_geo.core.legend import NODATA, Legend
from cwsam_geo.core.windows import windows_over
from cwsam_geo.errors import LegendError, SceneError, UsageError
from cwsam_geo.evaluation.class_match import check_codes
from cwsam_geo.evaluation.options import EvaluateOptions
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.confidence import ConfidenceRaster
from cwsam_geo.io.geolocation import locate, window_around
from cwsam_geo.io.reference import Reference, open_reference
from cwsam_geo.io.vector_file import Features, burn, read_area

Progress = Callable[[int, int], None]
"""Called with the number of pixels done and the number of pixels in total."""

_COLOURS = (
    *("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#9c755f"),
    *("#ff9da7", "#bab0ac"),
)
"""Tableau 10 palette: easy to tell apart. Used for classes of a map that has no colours."""


@dataclass(frozen=True)
class MapPart:
    """The map's pixels in one window.

    Attributes:
        window: The window, in pixels of the map.
        codes: Codes of the map, shape (h, w), uint8; 0 where ``shown`` is False.
        shown: True where the map has a class inside the area of interest, shape (h, w), bool.
        inside: True inside the area of interest, shape (h, w), bool.
        confidence: Probability of the map's class, shape (h, w), NaN where none is stated; None
            without a raster of confidence.
    """

    window: Window
    codes: NDArray[np.uint8]
    shown: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    confidence: NDArray[np.float64] | None = None

    def crop(self, window: Window) -> MapPart:
        """Crops to ``window``, which must lie inside ``self.window``."""
        place = window.within(self.window).slices
        confidence = None if self.confidence is None else self.confidence[place]
        return MapPart(window, self.codes[place], self.shown[place], self.inside[place], confidence)


class Overlay:
    """The opened map, reference and area of interest.

    Args:
        map_path: Class raster; its grid is the grid of the comparison.
        reference_path: Class raster, RGB picture, or vector file of polygons or points.
        options: How the two are compared.
        progress: Called after each window with the pixels done and the pixels in total.

    Raises:
        UsageError: The files cannot be aligned.
        LegendError: The map is a picture.
        SceneError: A file cannot be read.
    """

    def __init__(
        self,
        map_path: str | os.PathLike[str],
        reference_path: str | os.PathLike[str],
        options: EvaluateOptions,
        progress: Progress,
    ) -> None:
        self.options = options.settled()
        self._progress = progress
        self.reference: Reference | Features | None = None
        self._aoi: NDArray[Any] | None = None
        self._confidence: ConfidenceRaster | None = None
        self.map = _opened_map(map_path, options.map_band)
        try:
            if self.map.colors:
                raise LegendError(f"{self.map.label}: is an RGB picture; give a raster of codes")
            self.location = locate(self.map.grid, self.map.label)
            self.reference = open_reference(
                reference_path, self.location, options.layer, band=options.band
            )
            if options.aoi is not None:
                self._aoi = read_area(options.aoi, self.location)
            if options.confidence is not None:
                self._confidence = ConfidenceRaster(
                    options.confidence, self.map.grid, self.map.label
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the files."""
        self.map.close()
        if self._confidence is not None:
            self._confidence.close()
        if self.reference is not None and not isinstance(self.reference, Features):
            self.reference.close()

    def area(self) -> Window:
        """The bounding window of the area of interest; the whole map without one.

        Raises:
            UsageError: The area of interest lies outside the map.
        """
        if self._aoi is None:
            return self.map.grid.window
        around = window_around(self._aoi, self.map.grid)
        if around.empty:
            raise UsageError(f"{self.options.aoi}: lies outside {self.map.label}")
        return around

    def parts(self, area: Window) -> Iterator[MapPart]:
        """Reads the map in an area, window by window.

        Raises:
            LegendError: A pixel that is not nodata has a code outside 0 to 254.
        """
        done, pixels = 0, area.height * area.width
        for window in windows_over(area, self.map.grid.block_shape):
            codes, valid = self.map.read(window)
            inside = np.ones_like(valid)
            if self._aoi is not None:
                inside = burn(self._aoi, np.ones(len(self._aoi), np.int32), window) > 0
            shown = valid & inside & (codes != NODATA)
            # codes is int32 here: ClassRaster reads any whole numbers.
            invalid_codes = np.unique(codes[shown & ((codes < 0) | (codes > NODATA))])
            if invalid_codes.size:
                listed = ", ".join(map(str, invalid_codes[:12]))
                raise LegendError(
                    f"{self.map.label}: codes outside 0 to 254: {listed}; give a class raster"
                )
            shown_codes = np.where(shown, codes, 0).astype(np.uint8)
            yield MapPart(window, shown_codes, shown, inside, self._stated(window))
            done += window.height * window.width
            self._progress(done, pixels)

    def _stated(self, window: Window) -> NDArray[np.float64] | None:
        if self._confidence is None:
            return None
        shares, valid = self._confidence.shares(window)
        return np.where(valid, shares, np.nan)

    def legend(self, codes: dict[int, int], others: Iterable[Value]) -> Legend:
        """The map's legend: from the options, the map's tag or palette, or made from the codes.

        Args:
            codes: Pixel count of each code in the map.
            others: Values of the reference. If the legend is made from codes, reference values that
                are codes (numbers, also as text) become classes too.

        Raises:
            LegendError: The map has codes that are missing from its legend.
        """
        legend = self.options.legend or self.map.legend(codes)
        if legend is None:
            # Neither tag nor palette: each code is a class of its own, named by its number.
            reference_codes = {int(v) for v in others if isinstance(v, int) or v.isdecimal()}
            all_codes = sorted({*codes, *(c for c in reference_codes if 0 <= c < NODATA)})
            legend = Legend.from_list(
                [
                    {"code": c, "name": str(c), "color": _COLOURS[i % len(_COLOURS)]}
                    for i, c in enumerate(all_codes)
                ]
            )
        check_codes(codes, legend, self.map.label)
        return legend


def _opened_map(path: str | os.PathLike[str], band: int | str | None) -> ClassRaster:
    try:
        return ClassRaster(path, band=band)
    except SceneError as error:
        # The message names the option for the reference.
        raise SceneError(re.sub(r"--band\b", "--map-band", str(error))) from None
