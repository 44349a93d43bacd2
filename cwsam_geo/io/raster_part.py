"""Some rows of a raster in a file of their own, as a run leaves them before the raster is whole."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from cwsam_geo.atomic import check_room
from cwsam_geo.core.grid import Window
from cwsam_geo.errors import OutputError
from cwsam_geo.io.raster_file import gdal_message, rio_window
from cwsam_geo.io.raster_sink import BLOCK, BlockAssembler, OnBlock, writing

_ROOM = 16 << 20
"""Bytes of disk that must stay free while blocks are written: GDAL's cache holds some of them."""


class BlockSink:
    """Takes pixels as ``RasterSink`` does, and passes on complete storage blocks."""

    def __init__(self, height: int, width: int, bands: int, on_block: OnBlock) -> None:
        self._assembler = BlockAssembler(height, width, bands)
        self._on_block = on_block

    def write(self, window: Window, values: NDArray[np.uint8]) -> None:
        """Takes final pixels, shape (bands, h, w) or, for one band, (h, w)."""
        if values.ndim == 2:
            values = values[np.newaxis]
        for block, array in self._assembler.add(window, values):
            self._on_block(block, array)


class RasterPart:
    """A GeoTIFF that takes the storage blocks of some rows of a raster.

    The rows begin at a block's border. The file is sparse: rows that are never written take no
    space, so that a part may end earlier than was planned.

    Args:
        path: The file to write; it must not exist.
        rows: The rows of the raster that the file can take.
        width: Columns of the raster.
    """

    def __init__(self, path: Path, rows: range, width: int, bands: int) -> None:
        self.path = path
        self._first = rows.start
        check_room(path, _ROOM)
        with writing(path):
            self._dataset: Any = rasterio.open(
                path,
                "w",
                driver="GTiff",
                height=len(rows),
                width=width,
                count=bands,
                dtype="uint8",
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                interleave="band",
                compress="DEFLATE",
                zlevel=1,
                sparse_ok=True,
                bigtiff="IF_SAFER",
            )

    def write(self, block: Window, values: NDArray[np.uint8]) -> None:
        """Writes a block, (bands, h, w), whose window is counted in the whole raster.

        Raises:
            OutputError: The disk is full, or GDAL cannot write.
        """
        check_room(self.path, _ROOM)
        with writing(self.path):
            self._dataset.write(values, window=rio_window(block.shift(-self._first, 0)))

    def discard(self) -> None:
        """Closes the file and removes it."""
        with contextlib.suppress(OutputError):
            self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Writes what GDAL still holds, and closes the file.

        Raises:
            OutputError: The disk is full, or GDAL cannot write.
        """
        with writing(self.path):
            self._dataset.close()


def part_blocks(
    path: Path, first: int, rows: range, width: int
) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    """Reads the blocks of a part, from top to bottom.

    Args:
        first: The raster's row that is the first of the file.
        rows: The rows of the raster to read; they begin at a block's border.
        width: Columns of the raster.

    Yields:
        The window of a block in the raster, and its values, (bands, h, w).

    Raises:
        OutputError: The file is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path)
        with dataset:
            for row in range(rows.start, rows.stop, BLOCK):
                for col in range(0, width, BLOCK):
                    height = min(BLOCK, rows.stop - row)
                    block = Window(row, col, height, min(BLOCK, width - col))
                    yield block, dataset.read(window=rio_window(block.shift(-first, 0)))
    except RasterioError as error:
        raise OutputError(
            f"{path}: cannot be read ({gdal_message(error)}); delete it, and the run goes on "
            "without it"
        ) from None
