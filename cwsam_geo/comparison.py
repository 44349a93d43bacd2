"""A map and its reference, opened and laid over each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.correspondence import Value, check_codes
from cwsam_geo.errors import LegendError, UsageError
from cwsam_geo.evaluation import EvaluateOptions
from cwsam_geo.grid import Window
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.features import Features, burn, read_area
from cwsam_geo.io.geolocation import Geolocation, window_around
from cwsam_geo.io.reference import Reference, open_reference
from cwsam_geo.legend import NODATA, Legend
from cwsam_geo.tally import windows_over

Progress = Callable[[int, int], None]
"""Called with the pixels done and the pixels there are."""

_COLOURS = (
    *("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#9c755f"),
    *("#ff9da7", "#bab0ac"),
)


@dataclass(frozen=True)
class MapPart:
    """A window of the map.

    Attributes:
        window: Its place.
        codes: The map's codes, shape (h, w), uint8.
        shown: Where the map has a class, inside the area of interest.
        inside: Where the area of interest is.
    """

    window: Window
    codes: NDArray[np.uint8]
    shown: NDArray[np.bool_]
    inside: NDArray[np.bool_]

    def crop(self, window: Window) -> MapPart:
        """The part of it in a window inside its own."""
        place = window.within(self.window).slices
        return MapPart(window, self.codes[place], self.shown[place], self.inside[place])


class Comparison:
    """The opened files.

    Args:
        map_path: The map.
        reference_path: The reference.
        options: How to compare.
        progress: Called as windows are done.

    Raises:
        UsageError: They cannot be laid over each other.
        LegendError: The map is a picture.
        SceneError: A file cannot be read.
    """

    def __init__(
        self,
        map_path: str | os.PathLike[str],
        reference_path: str | os.PathLike[str],
        options: EvaluateOptions,
        progress: Progress | None,
    ) -> None:
        self.options = options.settled()
        self._progress = progress
        self.reference: Reference | Features | None = None
        self._aoi: NDArray[Any] | None = None
        self.map = ClassRaster(map_path)
        try:
            if self.map.colors:
                raise LegendError(f"{self.map.label}: is an RGB picture; give a raster of codes")
            self.location = Geolocation(self.map.grid, self.map.label)
            self.reference = open_reference(reference_path, self.location, options.layer)
            if options.aoi is not None:
                self._aoi = read_area(options.aoi, self.location)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the files."""
        self.map.close()
        if self.reference is not None and not isinstance(self.reference, Features):
            self.reference.close()

    def area(self) -> Window:
        """Pixels of the map inside the area of interest's bounds.

        Raises:
            UsageError: There are none.
        """
        if self._aoi is None:
            return self.map.grid.window
        around = window_around(self._aoi, self.map.grid)
        if around.empty:
            raise UsageError(f"{self.options.aoi}: lies outside {self.map.label}")
        return around

    def parts(self, area: Window) -> Iterator[MapPart]:
        """The map over an area, window by window.

        Raises:
            LegendError: The map holds codes beyond 0 to 255.
        """
        done, pixels = 0, area.height * area.width
        for window in windows_over(area, self.map.grid.block_shape):
            codes, valid = self.map.read(window)
            inside = np.ones_like(valid)
            if self._aoi is not None:
                inside = burn(self._aoi, np.ones(len(self._aoi), np.int32), window) > 0
            shown = valid & inside & (codes != NODATA)
            strange = np.unique(codes[shown & ((codes < 0) | (codes > NODATA))])
            if strange.size:
                listed = ", ".join(map(str, strange[:12]))
                raise LegendError(
                    f"{self.map.label}: codes beyond 0 to 254: {listed}; give a class raster"
                )
            yield MapPart(window, np.where(shown, codes, 0).astype(np.uint8), shown, inside)
            done += window.height * window.width
            if self._progress is not None:
                self._progress(done, pixels)

    def legend(self, codes: dict[int, int], others: Iterable[Value]) -> Legend:
        """The map's legend.

        Args:
            codes: Codes that the map shows, with their pixels.
            others: What the reference shows; its codes, as numbers or as text, are classes too
                where the map says nothing.

        Raises:
            LegendError: The map shows codes that its legend has not.
        """
        legend = self.options.legend or self.map.legend(codes)
        if legend is None:
            told = {int(v) for v in others if isinstance(v, int) or v.isdecimal()}
            known = sorted({*codes, *(c for c in told if 0 <= c < NODATA)})
            legend = Legend.from_list(
                [
                    {"code": c, "name": str(c), "color": _COLOURS[i % len(_COLOURS)]}
                    for i, c in enumerate(known)
                ]
            )
        check_codes(codes, legend, self.map.label)
        return legend
