"""A simulated scene: its size, its edges and its units; any window of it, made alone."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import NODATA
from cwsam_geo.core.preprocess import Units
from cwsam_geo.errors import UsageError

from .landscape import Landscape
from .noise import Floats
from .radar import Radar

BANDS = ("VV", "VH")
BLOCK_SHAPE = (256, 512)
"""Rows and columns that are made at once: large enough for numpy, small enough for the cache."""

PIXEL = 10.0
"""Side of a pixel in map units (metres)."""

COUNTS = 400.0
"""Digital number of amplitude 1 in uint16 scenes, about that of an uncalibrated Sentinel-1 GRD."""

_ORIGIN = (398_000.0, 5_264_000.0)


@dataclass(frozen=True)
class SceneSpec:
    """What to simulate.

    Attributes:
        height: Rows.
        width: Columns.
        seed: Which landscape and which speckle.
        bands: ``VV``, ``VH`` or both, in the order wanted.
        units: ``db``, ``power`` or ``amplitude``.
        dtype: ``float32``, or ``uint16`` for amplitude in digital numbers.
        nodata: Value outside the swath; None for NaN, or 0 in uint16.
        crs: Map projection in metres.
        tilt: Degrees by which the swath leans on the grid, 0 to 15; 0 leaves no edge. A
            geocoded Sentinel-1 scene at middle latitudes leans by about 10.
        looks: Equivalent number of looks of the speckle.

    Raises:
        UsageError: The parts do not fit together.
    """

    height: int
    width: int
    seed: int = 0
    bands: tuple[str, ...] = BANDS
    units: Units = "db"
    dtype: str = "float32"
    nodata: float | None = None
    crs: str = "EPSG:32633"
    tilt: float = 4.0
    looks: float = 6.0

    def __post_init__(self) -> None:
        problems = [
            (self.height < 1 or self.width < 1, "a scene has at least one row and one column"),
            (self.height > 100_000 or self.width > 100_000, "at most 100,000 pixels a side"),
            (
                self.bands not in (BANDS, BANDS[::-1], BANDS[:1], BANDS[1:]),
                f"bands are VV, VH or both, got {','.join(self.bands)}",
            ),
            (self.dtype not in ("float32", "uint16"), f"dtype {self.dtype}: float32 or uint16"),
            (
                self.dtype == "uint16" and self.units != "amplitude",
                "uint16 holds amplitude only; add --units amplitude",
            ),
            (not 0 <= self.tilt <= 15, f"tilt {self.tilt} is not within 0 to 15 degrees"),
            (not 1 <= self.looks <= 100, f"looks {self.looks} are not within 1 to 100"),
            (
                self.dtype == "uint16" and not _is_count(self.fill),
                f"nodata {self.fill} does not fit uint16",
            ),
        ]  # fmt: skip
        for wrong, what in problems:
            if wrong:
                raise UsageError(what)

    @property
    def fill(self) -> float:
        """The nodata value."""
        if self.nodata is not None:
            return self.nodata
        return 0.0 if self.dtype == "uint16" else math.nan

    @cached_property
    def grid(self) -> SceneGrid:
        """Shape and georeferencing.

        Raises:
            UsageError: The CRS is unknown or not in metres.
        """
        try:
            crs = CRS.from_user_input(self.crs)
        except CRSError as error:
            raise UsageError(f"CRS {self.crs!r} is unknown: {error}") from None
        if not crs.is_projected:
            raise UsageError(f"CRS {self.crs!r} is not a map projection in metres")
        return SceneGrid(
            height=self.height,
            width=self.width,
            transform=Affine(PIXEL, 0, _ORIGIN[0], 0, -PIXEL, _ORIGIN[1]),
            crs=crs,
            count=len(self.bands),
            dtype=self.dtype,
            nodata=self.fill,
        )


Values: TypeAlias = NDArray[np.float32] | NDArray[np.uint16]


class Scene:
    """A simulated scene; windows are made when asked for and are the same each time.

    The scene consists of blocks that are always made whole: a window is cut from its blocks, so
    that it is the same to the last bit whichever window is asked for.

    Args:
        spec: What to simulate.
        block_shape: Rows and columns of a block; another shape changes values by rounding only.
    """

    def __init__(self, spec: SceneSpec, block_shape: tuple[int, int] = BLOCK_SHAPE) -> None:
        self.spec = spec
        self._block_shape = block_shape
        self._slope = math.tan(math.radians(spec.tilt))
        middle = (spec.width + spec.height * self._slope) / 2
        self._radar = Radar(
            spec.seed, Landscape(spec.seed), looks=spec.looks, middle=middle, slant=self._slope
        )
        self._order = [BANDS.index(band) for band in spec.bands]
        _keep_freed_memory()

    def read(self, window: Window, jobs: int = 1) -> tuple[Values, NDArray[np.uint8]]:
        """The scene and its land cover in a window inside it.

        Args:
            window: Which pixels.
            jobs: Threads; the result does not depend on them.

        Returns:
            Values, shape (bands, h, w), in the spec's units and dtype, its nodata outside the
            swath; and class codes, shape (h, w), uint8, 255 outside the swath.
        """
        height, width = self._block_shape
        values = np.empty((len(self._order), window.height, window.width), self.spec.dtype)
        classes = np.empty((window.height, window.width), np.uint8)

        def fill(block: Window) -> None:
            part = block.intersect(window)
            made, cover = self._block(block)
            source, target = part.within(block).slices, part.within(window).slices
            values[(slice(None), *target)] = made[(slice(None), *source)]
            classes[target] = cover[source]

        blocks = [
            Window(i * height, j * width, height, width)
            for i in range(window.row // height, -(-window.bottom // height))
            for j in range(window.col // width, -(-window.right // width))
        ]
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(fill, blocks))
        return values, classes

    def _block(self, block: Window) -> tuple[Values, NDArray[np.uint8]]:
        outside = self._outside(block)
        if outside is not None and outside.all():
            empty = np.full((len(self._order), block.height, block.width), self.spec.fill)
            return empty.astype(self.spec.dtype), np.full(outside.shape, NODATA, np.uint8)
        power, classes = self._radar.sense(block)
        values = _encode(power[self._order], self.spec)
        if outside is not None:
            values[:, outside] = self.spec.fill
            classes = np.where(outside, np.uint8(NODATA), classes)
        return values, classes

    def _outside(self, block: Window) -> NDArray[np.bool_] | None:
        """Pixels outside the swath, a rectangle that leans on the grid; None where none are."""
        height, width, t = self.spec.height, self.spec.width, self._slope
        if t == 0:
            return None
        left = max((t * height - t * t * width) / (1 - t * t), 0)
        top = max((t * width - t * t * height) / (1 - t * t), 0)
        y = np.arange(block.row, block.bottom)[:, None] + 0.5
        x = np.arange(block.col, block.right) + 0.5
        across, down = x + y * t, y - x * t
        outside = (across < left) | (across > width + top * t)
        outside |= (down < -left * t) | (down > height - top)
        return outside if outside.any() else None


def _encode(power: Floats, spec: SceneSpec) -> Values:
    if spec.units == "power":
        return power
    if spec.units == "amplitude":
        amplitude: Floats = np.sqrt(power)
        if spec.dtype == "float32":
            return amplitude
        # A pixel with data is never 0, which is nodata.
        counts: Floats = np.clip(np.rint(amplitude * np.float32(COUNTS)), 1, 65534)
        return counts.astype(np.uint16)
    decibels: Floats = np.log10(power)
    decibels *= 10
    return decibels


def _is_count(value: float) -> bool:
    return float(value).is_integer() and 0 <= value <= 65535


def _keep_freed_memory() -> None:
    # After one large free, glibc keeps arrays of this size instead of giving every temporary's
    # pages back to the system: 1.6 times faster. Elsewhere it does nothing.
    np.empty(30 << 20, np.uint8)
