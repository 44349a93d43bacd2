"""Reading class rasters in strips of rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import NODATA
from cwsam_geo.errors import SceneError
from cwsam_geo.io.class_band import ClassBand
from cwsam_geo.io.class_names import ClassNames
from cwsam_geo.io.geolocation import locate

STRIP_PIXELS = 6 << 20
"""Approximate pixels of a strip: enough to amortise its cost, few enough for the caches."""


class ClassSource:
    """A class raster, read as unsigned codes of its values.

    Nodata is code 0. Every other code is the value minus the data type's smallest value, plus 1,
    or without that 1 for values above nodata.

    Args:
        path: A raster with one band of class codes.
        band: See ``ClassBand``.
        strip_rows: Rows of a strip; None to choose by the width.

    Attributes:
        grid: Shape, georeferencing and storage.
        location: Transforms its pixel coordinates to its CRS.
        names: Names and colours of its values.
        remarks: Remarks on the file for the user.

    Raises:
        SceneError: The file cannot be opened or is not a class raster.
        LegendError: The ``LEGEND`` tag is a legend with a mistake.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        band: int | str | None = None,
        strip_rows: int | None = None,
    ) -> None:
        self._band = ClassBand(path, band)
        self.label, self.remarks = self._band.label, self._band.remarks
        try:
            if self._band.colors:
                raise SceneError(
                    f"{self.label}: has 3 bands, a picture; polygons are made from one band of "
                    "class codes (choose it with --band)"
                )
            self.grid: SceneGrid = self._band.grid
            self.location = locate(self.grid, self.label)
            self.names: ClassNames = self._band.names
        except BaseException:
            self.close()
            raise
        self.height, self.width = self.grid.height, self.grid.width
        stored = self._band.dtype
        self._least = int(np.iinfo(stored).min)
        self._nodata = self._band.nodata
        if self._nodata is None and self.names.origin == "tag" and stored == np.uint8:
            self._nodata = NODATA  # no class of a legend has this code
        # There is one code more than values, unless one of the values is nodata.
        self.dtype = np.dtype(f"u{stored.itemsize * (2 if self._nodata is None else 1)}")
        self._rows = strip_rows or strip_height(self.grid)

    @property
    def wide(self) -> bool:
        """Whether values may need more than 32 bits with a sign, so that ``class_id`` has 64."""
        return bool(self._band.dtype == np.uint32)

    def value(self, code: int) -> int:
        """The raster's value for a code other than 0."""
        value = int(code) - 1 + self._least
        # There is no code for nodata in between, so that all codes fit into the type.
        return value + 1 if self._nodata is not None and value >= self._nodata else value

    def code(self, value: int) -> int:
        """The code of a value; 0 for nodata and for values that the raster cannot hold."""
        place = value - self._least
        if not 0 <= place < 1 << 8 * self._band.dtype.itemsize or value == self._nodata:
            return 0
        return place + (self._nodata is None or value < self._nodata)

    def strips(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """First row and codes (n, W) of each strip; a thread reads one strip ahead.

        Raises:
            SceneError: The file is damaged, or its values are not whole numbers.
        """
        return read_ahead(self.height, self._rows, self._read)

    def _read(self, top: int, rows: int) -> NDArray[Any]:
        values, valid = self._band.read(Window(top, 0, rows, self.width))
        # Signed values are shifted to start at 0. The unsigned arithmetic wraps around as intended.
        unsigned = np.dtype(f"u{values.dtype.itemsize}")
        codes = values.view(unsigned) - np.array(self._least).astype(unsigned)
        if self._nodata is None:
            codes = codes.astype(self.dtype) + self.dtype.type(1)
        else:
            nodata = unsigned.type(self._nodata - self._least)
            valid &= codes != nodata
            codes += codes < nodata  # see ``value``
        codes[~valid] = 0
        return np.asarray(codes)

    def close(self) -> None:
        """Closes the file."""
        self._band.close()


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
