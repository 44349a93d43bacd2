"""One scene of several dates: the median of each pixel, which has less speckle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.windows import spread_windows, windows_over
from cwsam_geo.errors import SceneError
from cwsam_geo.fetch.scene_file import BLOCK, SceneContent, write_scene
from cwsam_geo.io.raster_file import environment, rio_window

_SIDE = 7
"""Side in pixels of the squares in which speckle is measured: small enough to lie in one field."""

_SAMPLES = 16
_SAMPLE_PIXELS = 256
"""Windows in which speckle is measured, and their side in pixels."""

_FLATTEST = 20.0
"""Per cent of the squares that count."""


def write_composite(
    target: Path,
    grid: SceneGrid,
    content: SceneContent,
    dates: Sequence[Path],
    on_pixels: Callable[[int], None],
) -> Speckle | None:
    """Writes the median of several scenes of one grid.

    Args:
        target: The file; an earlier one is replaced.
        grid: The grid of all scenes.
        dates: The scenes, at least one.
        on_pixels: Called with the number of pixels that are done since the last call.

    Returns:
        Speckle in the first date and in the composite; None where it cannot be measured.

    Raises:
        SceneError: A scene cannot be read.
        OutputError: The disk is full.
    """
    with DateStack(dates) as stack, DateStack(dates[:1]) as first:

        def read(window: Window) -> NDArray[np.float32]:
            values = np.empty((grid.count, window.height, window.width), np.float32)
            # Block by block: all dates are in memory together.
            for part in windows_over(window, (BLOCK, BLOCK), BLOCK * BLOCK):
                values[(slice(None), *part.within(window).slices)] = stack.median(part)
            return values

        write_scene(target, grid, content, read, on_pixels)
        return measure_speckle(first.median, stack.median, grid)


class DateStack:
    """Scenes of one grid, read together.

    Raises:
        SceneError: A file cannot be read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._stack = contextlib.ExitStack()
        self._paths = tuple(paths)
        try:
            with environment(remote=False):
                self._scenes = [self._stack.enter_context(rasterio.open(p)) for p in paths]
        except rasterio.errors.RasterioError as error:
            self._stack.close()
            raise SceneError(f"a date of the composite cannot be read ({error})") from None

    def median(self, window: Window) -> NDArray[np.float32]:
        """The median of the dates with data, (N, h, w) float32, NaN where no date has data."""
        rect = rio_window(window)
        with environment(remote=False):
            dates = np.stack([scene.read(window=rect) for scene in self._scenes])  # (D, N, h, w)
        # NaN is sorted to the end: the middle of the values in front of it is the median.
        dates.sort(axis=0)
        count = (~np.isnan(dates)).sum(axis=0)[np.newaxis]
        low = np.take_along_axis(dates, np.maximum(count - 1, 0) // 2, axis=0)[0]
        high = np.take_along_axis(dates, np.minimum(count // 2, len(dates) - 1), axis=0)[0]
        # Half of each first: the sum of two large values would not fit.
        middle: NDArray[np.float32] = low * np.float32(0.5) + high * np.float32(0.5)
        return middle

    def close(self) -> None:
        """Closes the scenes."""
        self._stack.close()

    def __enter__(self) -> DateStack:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


@dataclass(frozen=True)
class Speckle:
    """Speckle before and after, as the ratio of deviation and mean in flat squares.

    Attributes:
        one: In the first date.
        several: In the composite.
    """

    one: float
    several: float

    @property
    def looks(self) -> tuple[float, float]:
        """Equivalent number of looks of both."""
        return self.one**-2, self.several**-2


def measure_speckle(
    first: Callable[[Window], NDArray[np.float32]],
    composite: Callable[[Window], NDArray[np.float32]],
    grid: SceneGrid,
) -> Speckle | None:
    """Measures speckle in windows all over two scenes of power; None where all is empty.

    In each window those squares of 7 x 7 pixels count that are flattest in the composite (a fifth
    of them): the others also hold borders of fields.

    Args:
        first: Gives the values of a window of one date, (N, h, w).
        composite: The same of the composite.
    """
    found: list[tuple[float, float]] = []
    for window in spread_windows(grid, (_SAMPLE_PIXELS, _SAMPLE_PIXELS), _SAMPLES):
        if min(window.height, window.width) < _SIDE:
            continue
        one, several = (_variation(read(window)[0]) for read in (first, composite))
        both = np.isfinite(one) & np.isfinite(several)
        if both.any():
            flat = both & (several <= np.percentile(several[both], _FLATTEST))
            found.append((float(np.median(one[flat])), float(np.median(several[flat]))))
    if not found:
        return None
    one, several = np.median(np.array(found), axis=0).tolist()
    return Speckle(one, several) if one > 0 and several > 0 else None


def _variation(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Deviation by mean in the square around each pixel of a band, (h, w); NaN without data."""
    plane = values.astype(np.float64)
    filled = np.nan_to_num(plane)
    mean = uniform_filter(filled, _SIDE, mode="nearest")
    square = uniform_filter(filled**2, _SIDE, mode="nearest")
    whole = uniform_filter((~np.isnan(plane)).astype(np.float64), _SIDE, mode="nearest") > 0.999
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(np.maximum(square - mean**2, 0)) / mean
    return np.where(whole & (mean > 0), ratio, np.nan)
