"""Reading class and confidence rasters in strips of rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RioWindow

from cwsam_geo.core.grid import SceneGrid, same_grid
from cwsam_geo.core.legend import NODATA
from cwsam_geo.errors import SceneError
from cwsam_geo.io.geolocation import Geolocation
from cwsam_geo.io.raster_file import (
    display_name,
    environment,
    gdal_message,
    grid_of,
    is_remote,
    open_dataset,
)
from cwsam_geo.vectorization.class_names import ClassNames, class_names

STRIP_PIXELS = 6 << 20
"""Approximate pixels of a strip: enough to amortise its cost, few enough for the caches."""


class ClassSource:
    """An integer raster, read as codes.

    Nodata is code 0. Every other code is the value minus the data type's smallest value, plus 1,
    or without that 1 for values above nodata.

    Args:
        path: A file with one band of integers.
        strip_rows: Rows of a strip; None to choose by the width.

    Attributes:
        grid: Shape, georeferencing and storage.
        location: Transforms its pixel coordinates to its CRS.
        names: Names and colours of its values.

    Raises:
        SceneError: The file cannot be opened or is not a class raster.
        LegendError: The ``LEGEND`` tag is malformed.
    """

    def __init__(self, path: str | os.PathLike[str], strip_rows: int | None = None) -> None:
        self.label = display_name(path)
        self._remote = is_remote(path)
        self._file = open_dataset(path)
        try:
            self._band = _class_band(self._file, self.label)
            self._stored = np.dtype(self._file.dtypes[self._band - 1])
            self._least = int(np.iinfo(self._stored).min)
            self.grid: SceneGrid = grid_of(self._file)
            self.location = Geolocation(self.grid, self.label)
            self.names: ClassNames = class_names(self._file, self.label)
            self._nodata = self._declared_nodata()
        except BaseException:
            self.close()
            raise
        self.height, self.width = self.grid.height, self.grid.width
        # There is one code more than values, unless one of the values is nodata.
        size = self._stored.itemsize * (2 if self._nodata is None else 1)
        self.dtype = np.dtype(f"u{size}")
        self._rows = strip_rows or strip_height(self.grid)

    def _declared_nodata(self) -> int | None:
        nodata = self._file.nodatavals[self._band - 1]
        limits = np.iinfo(self._stored)
        if nodata is None and self.names.named and limits.max == NODATA:
            return NODATA  # no class of a legend has this code
        # A nodata value that the data type cannot hold belongs to no pixel.
        if nodata is None or not limits.min <= nodata <= limits.max or nodata % 1:
            return None
        return int(nodata)

    @property
    def wide(self) -> bool:
        """Whether the data type has 32 bits, so that ``class_id`` is written with 64."""
        return bool(self._stored.itemsize > 2)

    def value(self, code: int) -> int:
        """The raster's value for a code other than 0."""
        value = int(code) - 1 + self._least
        # There is no code for nodata in between, so that all codes fit into the type.
        return value + 1 if self._nodata is not None and value >= self._nodata else value

    def code(self, value: int) -> int:
        """The code of a value; 0 for nodata and for values that the raster cannot hold."""
        place = value - self._least
        if not 0 <= place < 1 << 8 * self._stored.itemsize or value == self._nodata:
            return 0
        return place + (self._nodata is None or value < self._nodata)

    def strips(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """First row and codes (n, W) of each strip; a thread reads one strip ahead.

        Raises:
            SceneError: The file is damaged.
        """
        return read_ahead(self.height, self._rows, self._read)

    def _read(self, top: int, rows: int) -> NDArray[Any]:
        window = RioWindow(0, top, self.width, rows)
        try:
            with environment(self._remote):
                stored = self._file.read(self._band, window=window)
                masked = _has_mask(self._file, self._band)
                mask = self._file.read_masks(self._band, window=window) if masked else None
        except (RasterioError, OSError) as error:
            raise SceneError(
                f"{self.label}: cannot be read ({gdal_message(error)}); "
                "the file is damaged or incomplete"
            ) from None
        codes = self._codes(stored)
        if mask is not None:
            codes[mask == 0] = 0
        return codes

    def _codes(self, stored: NDArray[Any]) -> NDArray[Any]:
        # Signed values are shifted to start at 0. The unsigned arithmetic wraps around as intended.
        unsigned = np.dtype(f"u{stored.dtype.itemsize}")
        codes = stored.view(unsigned) - np.array(self._least).astype(unsigned)
        if self._nodata is None:
            return np.asarray(codes.astype(self.dtype) + self.dtype.type(1))
        nodata = unsigned.type(self._nodata - self._least)
        is_nodata = codes == nodata
        codes += codes < nodata  # see ``value``
        codes[is_nodata] = 0
        return np.asarray(codes)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class ConfidenceSource:
    """A raster with one band of confidences on the grid of a class raster.

    Args:
        path: The file; its scale and offset are applied.
        like: The class raster.

    Raises:
        SceneError: The file cannot be opened, has another grid, or does not have exactly one band
            of values.
    """

    def __init__(self, path: str | os.PathLike[str], like: ClassSource) -> None:
        self.label = display_name(path)
        self._remote = is_remote(path)
        self._file = open_dataset(path)
        try:
            self._band = self._checked_band(like)
        except BaseException:
            self.close()
            raise
        self._scale = self._file.scales[self._band - 1]
        self._offset = self._file.offsets[self._band - 1]

    def _checked_band(self, like: ClassSource) -> int:
        grid, bands = grid_of(self._file), _data_bands(self._file)
        advice = "give the confidence raster that belongs to it (predict --confidence)"
        if np.dtype(grid.dtype).kind == "c" or not same_grid(grid, like.grid):
            raise SceneError(f"{self.label}: is not on the grid of {like.label}; {advice}")
        if len(bands) != 1:
            raise SceneError(
                f"{self.label}: has {len(bands)} bands, but a confidence is one value a pixel; "
                f"{advice}"
            )
        if self._file.colorinterp[bands[0] - 1] == ColorInterp.palette:
            raise SceneError(f"{self.label}: holds classes (a colour table); {advice}")
        return bands[0]

    def read(self, top: int, rows: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Values and a mask of the valid ones, each (rows, W).

        Raises:
            SceneError: The file is damaged.
        """
        window = RioWindow(0, top, self._file.width, rows)
        try:
            with environment(self._remote):
                stored = self._file.read(self._band, window=window)
                valid = self._file.read_masks(self._band, window=window) > 0
        except (RasterioError, OSError) as error:
            raise SceneError(
                f"{self.label}: cannot be read ({gdal_message(error)}); "
                "the file is damaged or incomplete"
            ) from None
        if stored.dtype.kind == "f":
            valid &= np.isfinite(stored)
        values = np.where(valid, stored, 0) * self._scale + self._offset
        return np.where(valid, values, 0.0), valid

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def strip_height(grid: SceneGrid) -> int:
    """Rows that make about ``STRIP_PIXELS``, rounded down to whole storage blocks if possible."""
    rows = max(1, STRIP_PIXELS // grid.width)
    block = grid.block_shape[0]
    return rows // block * block if block <= rows else rows


def read_ahead(
    height: int, rows: int, read: Callable[[int, int], NDArray[Any]]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """First row and array of each strip; a thread reads the next strip in the meantime.

    Args:
        height: Rows of the raster.
        rows: Rows of a strip.
        read: Reads a strip, from its first row and its number of rows.
    """
    tops = range(0, height, rows)
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, 0, min(rows, height))
        for top in tops:
            strip = ahead.result()
            following = top + rows
            if following < height:
                ahead = reader.submit(read, following, min(rows, height - following))
            yield top, strip


def _data_bands(dataset: Any) -> list[int]:
    return [i for i, c in enumerate(dataset.colorinterp, 1) if c != ColorInterp.alpha]


def _class_band(dataset: Any, label: str) -> int:
    bands = _data_bands(dataset)
    if len(bands) != 1:
        raise SceneError(
            f"{label}: has {len(bands)} bands; polygons are made from one band of class codes"
        )
    dtype = np.dtype(dataset.dtypes[bands[0] - 1])
    if dtype.kind not in "iu" or dtype.itemsize > 4:
        why = (
            "a continuous raster would give a polygon for nearly every pixel"
            if dtype.kind in "fc"
            else "class codes have at most 32 bits"
        )
        raise SceneError(
            f"{label}: holds {dtype.name} values, not classes ({why}); "
            "classify it first, or convert the codes (gdal_translate -ot Byte)"
        )
    return bands[0]


def _has_mask(dataset: Any, band: int) -> bool:
    """Whether a mask or an alpha band marks invalid pixels, besides the nodata value."""
    return MaskFlags.per_dataset in dataset.mask_flag_enums[band - 1]
