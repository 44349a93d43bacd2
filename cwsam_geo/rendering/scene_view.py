"""A scene in few pixels: the mean power of each cell, from overviews or from part of the pixels."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from scipy import ndimage

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.preprocess import Units, to_db, to_power
from cwsam_geo.core.windows import windows_over
from cwsam_geo.errors import SceneError
from cwsam_geo.io.raster_file import cache_limit, open_dataset
from cwsam_geo.rendering.coarse import Cells, coarse_grid, coarse_shape
from cwsam_geo.scene.bands import UNDECIDED, ZeroPower
from cwsam_geo.scene.reading import calibrated, units_of
from cwsam_geo.scene.sampling import sample_statistics
from cwsam_geo.scene.source import RasterSource
from cwsam_geo.scene.statistics import SceneStats
from cwsam_geo.scene.units import UnitsOption

_STATISTICS = 100_000
"""Values per band that decide the units: a picture needs no more."""

_WINDOW_PIXELS = 1 << 20
"""Pixels of a window that is read at once: 8 MB of two bands in float32."""

_LINES = 4
"""Rows of each row of cells that are averaged: with the pixels beside each other that share a cell,
enough to average speckle."""

_STRIP_ROWS = 16
"""Blocks of at most this many rows that are as wide as the scene can be left out cheaply."""

PAIRS = (("VV", "VH"), ("HH", "HV"))
"""Co- and cross-polarisation, which are shown together in false colour."""


@dataclass(frozen=True)
class SceneView:
    """A scene in few pixels.

    Attributes:
        grid: Grid of the picture: the scene's pixel geometry with larger pixels.
        label: The scene's name in messages.
        names: Polarisation of each band, or None where unknown.
        values: Mean power of each cell in dB, shape (N, H, W), float32. If the units are unknown,
            mean of the values as they are read.
        valid: Where a cell has data, shape (H, W), bool.
        units: Units of the scene's own values; None if they are unknown.
        remarks: What the user should know about the picture.
    """

    grid: SceneGrid
    label: str
    names: tuple[str | None, ...]
    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    units: Units | None
    remarks: tuple[str, ...] = ()


def shown_bands(source: RasterSource) -> tuple[int, ...]:
    """Positions, from 0, of the bands that a picture shows.

    Bands that the user selected are shown, up to three. Else these are co- and
    cross-polarisation, or the first band.
    """
    if source.chosen:
        return tuple(range(min(3, len(source.bands))))
    for pair in PAIRS:
        if all(source.names.count(name) == 1 for name in pair):
            return tuple(source.names.index(name) for name in pair)
    return (0,)


def view_scene(
    source: RasterSource,
    size: int,
    units: UnitsOption = "auto",
    window: Window | None = None,
) -> SceneView:
    """Reduces a scene to a picture's size.

    Overviews are read if the files have them. Else about four rows are averaged for each row of
    the picture. Of a scene in strips only these are read; of a tiled one all are, because each
    block is needed. The memory does not depend on the scene's size.

    Args:
        source: The scene.
        size: Most pixels of the picture's longer side; a scene is never enlarged.
        units: Units of the scene's values; ``auto`` decides from the scene. If that is not
            possible, the picture shows the values as they are, and a remark says so.
        window: Only this part of the scene; None for all of it. Parts are read without overviews.

    Raises:
        SceneError: The scene cannot be read, or its calibration tables are damaged.
        UsageError: ``units`` contradicts the file.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(cache_limit(32 << 20))
        narrow = calibrated(source.with_bands(shown_bands(source)).with_zero(UNDECIDED), units)
        part = narrow.grid.window if window is None else window
        shape = coarse_shape(part.height, part.width, size)
        if window is None:
            narrow = _reduced(narrow, shape, stack)
            part = narrow.grid.window
        stats = sample_statistics(narrow, _STATISTICS)
        known, remarks = _units(narrow, stats, units)
        cells = _read(narrow.with_zero(_zero_rule(known, stats)), part, shape, known)
    return SceneView(
        grid=coarse_grid(source.grid if window is None else source.grid.crop(window), shape),
        label=source.label,
        names=narrow.names,
        values=cells.values(known),
        valid=cells.valid(),
        units=known,
        remarks=remarks,
    )


def _units(
    source: RasterSource, stats: SceneStats, option: UnitsOption
) -> tuple[Units | None, tuple[str, ...]]:
    try:
        return units_of(source, stats, option).units, ()
    except SceneError as error:
        return None, (f"{error} (the picture shows the values as they are)",)


def _zero_rule(units: Units | None, stats: SceneStats) -> ZeroPower:
    """Which pixels have no power; whether these are nodata is decided in the picture."""
    if units == "db":
        return ZeroPower((-math.inf,))
    return ZeroPower((-math.inf,) if stats.eight_bit else (0.0, -math.inf))


def _reduced(
    source: RasterSource, shape: tuple[int, int], stack: contextlib.ExitStack
) -> RasterSource:
    """The source, read from the smallest overviews that have enough pixels, if there are any.

    Tables of calibration are for the pixels of the full resolution.
    """
    level = None if source.tables else _level(source.datasets, shape)
    if level is None:
        return source
    parts = []
    for part in source.parts:
        try:
            dataset = open_dataset(part.path, overview_level=level)
        except (SceneError, RasterioError):
            return source
        stack.enter_context(contextlib.closing(dataset))
        parts.append(replace(part, dataset=dataset))
    sizes = {(p.dataset.height, p.dataset.width) for p in parts}
    if len(sizes) > 1:
        return source
    grid = replace(
        coarse_grid(source.grid, sizes.pop()), block_shape=tuple(parts[0].dataset.block_shapes[0])
    )
    return replace(source, parts=tuple(parts), grid=grid)


def _level(datasets: Sequence[Any], shape: tuple[int, int]) -> int | None:
    """Number of the smallest overview of all files that is at least as large as the picture."""
    factors = {tuple(d.overviews(i)) for d in datasets for i in d.indexes}
    if len(factors) != 1:
        return None
    first = datasets[0]
    fit = [
        level
        for level, factor in enumerate(factors.pop())
        if first.height // factor >= shape[0] and first.width // factor >= shape[1]
    ]
    return fit[-1] if fit else None


@dataclass
class _CellSums:
    """Sums over the pixels with data in each cell.

    Attributes:
        sums: Sum of power, or of values in unknown units, shape (N, H, W).
        data: Pixels with data, shape (1, H, W); pixels without power count.
        silent: Pixels without power in every band, shape (1, H, W).
    """

    sums: NDArray[np.float32]
    data: NDArray[np.float32]
    silent: NDArray[np.float32]

    def values(self, units: Units | None) -> NDArray[np.float32]:
        """Means as the view has them, shape (N, H, W)."""
        means = np.divide(self.sums, self.data, out=np.zeros_like(self.sums), where=self.data > 0)
        return means if units is None else to_db(means, "power")

    def valid(self) -> NDArray[np.bool_]:
        """Where cells have data; cells of zeros are valid unless connected with the edge."""
        data: NDArray[np.bool_] = self.data[0] > 0
        empty = ~data | (self.silent[0] == self.data[0])  # nothing but zeros and nodata
        if not empty.any():
            return data
        labels, count = ndimage.label(empty)
        edge = np.zeros(count + 1, bool)
        for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            edge[side] = True
        edge[0] = False
        reached: NDArray[np.bool_] = edge[labels]
        return data & ~reached


def _read(
    source: RasterSource, part: Window, shape: tuple[int, int], units: Units | None
) -> _CellSums:
    cells = Cells(part, shape)
    count = source.grid.count
    totals = _CellSums(*(np.zeros((n, *shape), np.float32) for n in (count, 1, 1)))
    strips = _in_strips(source.grid) and part.height > _LINES * shape[0]
    for window in (
        cells.row_windows(_LINES)
        if strips
        else windows_over(part, source.grid.block_shape, _WINDOW_PIXELS)
    ):
        pixels = source.examine(window)
        # Strips are thinned when they are read, tiles here.
        step = 1 if strips else cells.step(_LINES)
        valid, values = pixels.valid[::step], pixels.values[:, ::step]
        power = values if units is None else to_power(values, units)
        # Noise removal makes some power slightly negative: means stay right if it counts.
        power = np.where(valid & np.isfinite(power), power, np.float32(0))
        cells.add(totals.sums, power, window, step)
        cells.add(totals.data, valid[np.newaxis], window, step)
        if pixels.no_power.any():
            cells.add(totals.silent, (valid & pixels.no_power[::step])[np.newaxis], window, step)
    return totals


def _in_strips(grid: SceneGrid) -> bool:
    rows, cols = grid.block_shape
    return cols >= grid.width and rows <= _STRIP_ROWS
