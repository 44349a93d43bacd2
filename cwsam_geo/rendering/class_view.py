"""Class rasters and percentages in few pixels, and classes in their colours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import Legend, LegendEntry
from cwsam_geo.errors import SceneError
from cwsam_geo.io.class_band import ClassBand
from cwsam_geo.io.class_names import ClassNames
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.geolocation import locate
from cwsam_geo.io.raster_file import (
    cache_limit,
    display_name,
    grid_of,
    open_dataset,
    reading,
    rio_window,
)
from cwsam_geo.rendering.coarse import coarse_grid, coarse_shape

PathLike = str | os.PathLike[str]

_CACHE = 32 << 20
"""Least bytes of GDAL's block cache while a raster is read."""

_MOST_CLASSES = 256
"""Different codes up to which a raster is shown as a map; others hold no classes."""


@dataclass(frozen=True)
class ClassView:
    """A class raster in few pixels.

    Attributes:
        grid: Grid of the picture.
        label: The raster's name in messages.
        codes: Class codes, shape (H, W), int32.
        valid: Where there is a class, shape (H, W), bool.
        names: Names and colours of the codes.
        nodata: The raster's nodata value, or None.
    """

    grid: SceneGrid
    label: str
    codes: NDArray[np.int32]
    valid: NDArray[np.bool_]
    names: ClassNames
    nodata: float | None

    @cached_property
    def occurring(self) -> tuple[int, ...]:
        """Codes in the picture, ascending.

        Raises:
            SceneError: There are too many for classes.
        """
        codes = np.unique(self.codes[self.valid]).tolist()
        if len(codes) > _MOST_CLASSES:
            raise SceneError(
                f"{self.label}: holds {len(codes)} different values, too many for classes; give a "
                "class raster"
            )
        return tuple(codes)

    @cached_property
    def entries(self) -> tuple[LegendEntry, ...]:
        """The classes of the legend and those that occur, in the order of their codes."""
        legend: Legend | None = self.names.legend(self.occurring, self.nodata)
        entries = {e.code: e for e in legend.entries} if legend else {}
        for code in self.occurring:
            if code not in entries:
                rgb = bytes.fromhex(self.names.color(code)[1:])
                entries[code] = LegendEntry(code, self.names.name(code), (rgb[0], rgb[1], rgb[2]))
        return tuple(entries[code] for code in sorted(entries))


def view_classes(
    path: PathLike,
    size: int | None = None,
    onto: SceneGrid | None = None,
    band: int | str | None = None,
) -> ClassView:
    """Reduces a class raster to a picture's size.

    Args:
        path: A raster of class codes.
        size: Most pixels of the picture's longer side, in the raster's own pixel geometry.
            Overviews are read if the file has some; else each pixel is the one in the middle of its
            cell.
        onto: Read on this grid instead: each pixel takes the class at its centre.
        band: Number or name of the band with the codes; None to find it.

    Raises:
        SceneError: The raster cannot be read, or is a picture.
        UsageError: The raster cannot be placed on ``onto``.
    """
    if (size is None) == (onto is None):
        raise ValueError("give size or onto")
    if onto is not None:
        return _viewed_onto(path, onto, band)
    with contextlib.closing(ClassBand(path, band)) as raster:
        _check_codes(raster.label, raster.colors)
        assert size is not None
        shape = coarse_shape(raster.grid.height, raster.grid.width, size)
        with cache_limit(_cache_for(raster.grid, raster.dtype.itemsize)):
            codes, valid = raster.read(raster.grid.window, shape)
        return ClassView(
            coarse_grid(raster.grid, shape),
            raster.label,
            codes.astype(np.int32),
            valid,
            raster.names,
            raster.dataset.nodata,
        )


def _viewed_onto(path: PathLike, onto: SceneGrid, band: int | str | None) -> ClassView:
    with contextlib.closing(ClassRaster(path, locate(onto, display_name(path)), band)) as raster:
        _check_codes(raster.label, raster.colors)
        with cache_limit(_CACHE):
            codes, valid = raster.read(onto.window)
        return ClassView(onto, raster.label, codes, valid, raster.names, raster.nodata)


def _check_codes(label: str, colors: bool) -> None:
    if colors:
        raise SceneError(f"{label}: is an RGB picture; give a raster of class codes")


def _cache_for(grid: SceneGrid, itemsize: int) -> int:
    # A picture is read row by row: without a whole row of blocks in the cache, GDAL would decode
    # each block for every row of the picture.
    return max(_CACHE, 3 * grid.block_shape[0] * grid.width * itemsize // 2)


def view_percent(path: PathLike, size: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Reduces a raster of percentages, such as ``predict`` writes for confidence.

    Args:
        path: The raster; its first band is read.
        size: As for ``view_classes``.

    Returns:
        Per cent, shape (H, W), uint8; and where there is data, shape (H, W), bool.

    Raises:
        SceneError: The raster cannot be read.
    """
    with contextlib.closing(open_dataset(path)) as dataset:
        grid = grid_of(dataset)
        shape = coarse_shape(grid.height, grid.width, size)
        window = Window(0, 0, grid.height, grid.width)
        with cache_limit(_cache_for(grid, 1)), reading(path, window):
            where = {"window": rio_window(window), "out_shape": shape}
            percent = dataset.read(1, **where)
            valid = dataset.read_masks(1, **where) > 0
    return np.clip(percent, 0, 100).astype(np.uint8), valid


def paint(
    codes: NDArray[np.int32], valid: NDArray[np.bool_], entries: Iterable[LegendEntry]
) -> NDArray[np.uint8]:
    """Classes in their colours.

    Args:
        codes: Class codes, shape (H, W).
        valid: Where there is a class, shape (H, W).
        entries: Every class that occurs.

    Returns:
        Red, green, blue and opacity, shape (H, W, 4), uint8; all 0 where not valid.
    """
    out = np.zeros((*codes.shape, 4), np.uint8)
    for entry in entries:
        out[valid & (codes == entry.code)] = (*entry.rgb, 255)
    return out
