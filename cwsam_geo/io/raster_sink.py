"""Class rasters and their companions, written block by block and moved into place when whole."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from cwsam_geo.errors import OutputError, UsageError
from cwsam_geo.grid import SceneGrid, Window
from cwsam_geo.io.atomic import atomic_output, check_output, check_room
from cwsam_geo.io.creation import GDAL_FAILURES, check_creation_options
from cwsam_geo.legend import NODATA

RasterFormat = Literal["COG", "GTiff"]
"""A Cloud Optimized GeoTIFF with overviews, or a plain tiled GeoTIFF without."""

FORMATS: tuple[RasterFormat, ...] = get_args(RasterFormat)

BLOCK = 512
"""Side of a storage block of the rasters this package writes."""

_ROOM = 32 << 20
"""Bytes that stay free while pixels stream: GDAL holds back blocks that it has yet to write."""

_COPY_CACHE = 128 << 20
"""Bytes of GDAL's cache while the COG is made; more for rasters of which it is a few rows of
blocks."""


@dataclass(frozen=True)
class RasterLayout:
    """What kind of raster to write.

    Attributes:
        bands: Number of uint8 bands.
        format: COG or GTiff.
        overviews: How overviews are resampled: ``MODE`` for classes, ``AVERAGE`` for per cent.
        options: GDAL creation options, which override ours.
        colormap: Palette of band 1, or None.
        descriptions: Band names.
        tags: Dataset tags.
    """

    bands: int = 1
    format: RasterFormat = "COG"
    overviews: str = "MODE"
    options: Mapping[str, str] = field(default_factory=dict)
    colormap: Mapping[int, tuple[int, int, int, int]] | None = None
    descriptions: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def check_raster_output(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """``check_output`` for a raster: only GeoTIFF suffixes.

    Raises:
        UsageError: The suffix is not ``.tif`` or ``.tiff``, or see ``check_output``.
        OutputError: See ``check_output``.
    """
    target = Path(path)
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise UsageError(f"{target}: rasters are written as GeoTIFF; name the output *.tif")
    return check_output(target, overwrite)


class BlockAssembler:
    """Puts windows that partition a raster together into whole storage blocks.

    A compressed block is written once: writing it in parts would decode and encode it again and
    leave holes in the file.

    Args:
        height: Rows of the raster.
        width: Columns.
        bands: Bands.
    """

    def __init__(self, height: int, width: int, bands: int) -> None:
        self._scene = Window(0, 0, height, width)
        self._bands = bands
        self._open: dict[tuple[int, int], tuple[NDArray[np.uint8], int]] = {}

    @property
    def open_blocks(self) -> int:
        """Blocks that still wait for pixels."""
        return len(self._open)

    def add(
        self, window: Window, values: NDArray[np.uint8]
    ) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
        """Takes a window's values, shape (bands, h, w), and gives the blocks that are complete."""
        for i in range(window.row // BLOCK, -(-window.bottom // BLOCK)):
            for j in range(window.col // BLOCK, -(-window.right // BLOCK)):
                block = Window(i * BLOCK, j * BLOCK, BLOCK, BLOCK).intersect(self._scene)
                part = block.intersect(window)
                array, missing = self._open.pop((i, j), (None, block.height * block.width))
                if array is None:
                    array = np.empty((self._bands, block.height, block.width), np.uint8)
                source, target = part.within(window), part.within(block)
                array[(slice(None), *target.slices)] = values[(slice(None), *source.slices)]
                missing -= part.height * part.width
                if missing:
                    self._open[i, j] = array, missing
                else:
                    yield block, array


class RasterSink:
    """A uint8 raster on a scene's grid; use ``raster_sink`` to make one."""

    def __init__(self, dataset: Any, grid: SceneGrid, bands: int, path: Path) -> None:
        self._dataset = dataset
        self._path = path
        self._room = min(_ROOM, 3 * grid.height * grid.width * bands // 2)
        self._assembler = BlockAssembler(grid.height, grid.width, bands)

    def write(self, window: Window, values: NDArray[np.uint8]) -> None:
        """Takes final pixels; all windows together must cover the raster exactly once.

        Args:
            window: Where.
            values: Shape (bands, h, w) or, for one band, (h, w).

        Raises:
            OutputError: The disk is full, or another failure to write.
        """
        if values.ndim == 2:
            values = values[np.newaxis]
        for block, array in self._assembler.add(window, values):
            where = rasterio.windows.Window(block.col, block.row, block.width, block.height)
            check_room(self._path, self._room)
            with _writing(self._path):
                self._dataset.write(array, window=where)

    def check_complete(self) -> None:
        """Raises OutputError unless every block was written (a bug, not a user's error)."""
        if self._assembler.open_blocks:
            raise OutputError(f"{self._path}: {self._assembler.open_blocks} blocks are incomplete")


@contextlib.contextmanager
def raster_sink(
    path: str | os.PathLike[str], grid: SceneGrid, layout: RasterLayout, overwrite: bool = False
) -> Iterator[RasterSink]:
    """Opens a sink; when the block succeeds, the finished raster is renamed to ``path``.

    Pixels stream into a temporary tiled GeoTIFF beside the target. GDAL's COG driver can only
    copy, so the COG with its overviews is made from that file at the end.

    Args:
        path: The output, ``*.tif``.
        grid: Size and georeferencing, kept to the last bit; control points and rational
            polynomial coefficients are kept as they are.
        layout: Kind of raster.
        overwrite: Replace a file that is there.

    Raises:
        UsageError: The path or a creation option is not usable.
        OutputError: It cannot be written.
    """
    target = check_raster_output(path, overwrite)
    check_creation_options(layout.format, layout.options, layout.colormap)
    with atomic_output(target, overwrite) as final:
        stream = final if layout.format == "GTiff" else final.with_suffix(".stream.tif")
        options = layout.options if layout.format == "GTiff" else {"ZLEVEL": "1"}
        check_room(target)  # GDAL is loud on a full disk
        with _writing(target):
            dataset = rasterio.open(stream, "w", **_profile(grid, layout.bands, options))
        try:
            with _writing(target):
                _describe(dataset, grid, layout)
            sink = RasterSink(dataset, grid, layout.bands, target)
            yield sink
            sink.check_complete()
        finally:
            # Closing flushes: on a full disk this fails too, and must not hide the first error.
            failed = _close(dataset)
        if failed is not None:
            check_room(target)
            raise OutputError(f"{target}: {failed}")
        if layout.format == "COG":
            with _cache(grid.width * layout.bands):
                _to_cog(stream, final, target, layout)
        _check_whole(final, target, grid, layout.bands)


def _profile(grid: SceneGrid, bands: int, options: Mapping[str, str]) -> dict[str, Any]:
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": grid.height,
        "width": grid.width,
        "count": bands,
        "dtype": "uint8",
        "nodata": NODATA,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "DEFLATE",
        "interleave": "band",
        "bigtiff": "IF_SAFER",
    }
    if grid.crs is not None and not grid.gcps:
        profile["crs"] = grid.crs
    if not grid.transform.is_identity and not grid.gcps:
        profile["transform"] = grid.transform
    return profile | {k.lower(): v for k, v in options.items()}


def _describe(dataset: Any, grid: SceneGrid, layout: RasterLayout) -> None:
    if grid.gcps:
        dataset.gcps = (list(grid.gcps), grid.gcp_crs)
    if grid.rpcs is not None:
        dataset.rpcs = grid.rpcs
    if layout.colormap is not None:
        dataset.write_colormap(1, dict(layout.colormap))
    for i, text in enumerate(layout.descriptions, start=1):
        dataset.set_band_description(i, text)
    dataset.update_tags(**layout.tags)


def _close(dataset: Any) -> str | None:
    try:
        dataset.close()
    except GDAL_FAILURES as error:
        return _reason(error)
    return None


@contextlib.contextmanager
def _cache(row_bytes: int) -> Iterator[None]:
    """Bounds GDAL's cache while a raster is copied; what the user has set in the environment wins.

    By default it is a twentieth of the machine's memory, and the copy of a whole scene fills it:
    half a gigabyte more, and no faster.

    Args:
        row_bytes: Of one row of the raster.
    """
    if "GDAL_CACHEMAX" in os.environ:
        yield
        return
    with rasterio.Env(GDAL_CACHEMAX=max(_COPY_CACHE, 4 * BLOCK * row_bytes)):
        yield


def _to_cog(stream: Path, final: Path, target: Path, layout: RasterLayout) -> None:
    options = {
        "COMPRESS": "DEFLATE",
        "BLOCKSIZE": str(BLOCK),
        "OVERVIEW_RESAMPLING": layout.overviews,
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": "ALL_CPUS",
    }
    options |= {k.upper(): v for k, v in layout.options.items()}
    # The copy, its overviews and their temporary file; GDAL is loud and slow on a full disk.
    check_room(target, 2 * stream.stat().st_size)
    with _writing(target):
        rasterio.shutil.copy(stream, final, driver="COG", **options)


def _check_whole(final: Path, target: Path, grid: SceneGrid, bands: int) -> None:
    """Reads the finished file's last blocks: GDAL reports some full disks only to its log."""
    with _writing(target), rasterio.open(final) as written:
        if (written.count, written.height, written.width) != (bands, grid.height, grid.width):
            raise OutputError(f"{target}: the file that was written is not whole")
        corner = rasterio.windows.Window(grid.width - 1, grid.height - 1, 1, 1)
        written.read(window=corner)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turns a failure to write into one line; a scene without georeferencing is no surprise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except GDAL_FAILURES as error:
        check_room(target)
        raise OutputError(f"{target}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return "cannot be written: " + " ".join(str(error.__cause__ or error).split())
