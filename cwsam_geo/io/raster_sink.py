"""Writes uint8 rasters block by block, and moves them into place when they are complete."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from cwsam_geo.atomic import atomic_output, check_output, check_room
from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import NODATA, Legend
from cwsam_geo.errors import OutputError, UsageError
from cwsam_geo.io.aux_xml import AUX_XML, write_class_names
from cwsam_geo.io.creation_options import GDAL_FAILURES, check_creation_options
from cwsam_geo.io.gdal_cache import block_cache
from cwsam_geo.io.proj_data import proj_data_advice
from cwsam_geo.io.raster_file import rio_window

RasterFormat = Literal["COG", "GTiff"]
"""A Cloud Optimized GeoTIFF with overviews, or a plain tiled GeoTIFF without."""

FORMATS: tuple[RasterFormat, ...] = get_args(RasterFormat)

BLOCK = 512
"""Side in pixels of a storage block of the rasters this package writes; GDAL's COG default."""

_ROOM = 32 << 20
"""Bytes of disk that must stay free while pixels stream: GDAL's cache holds unwritten blocks."""

_COPY_CACHE = 128 << 20
"""Bytes of GDAL's cache while the COG is made, unless four rows of blocks need more. The copy
of a whole scene would fill a larger one, and is no faster with it."""


@dataclass(frozen=True)
class RasterLayout:
    """Format, bands and metadata of a raster to write.

    Attributes:
        bands: Number of uint8 bands.
        format: ``COG`` or ``GTiff``.
        overviews: Resampling of overviews: ``MODE`` for classes, ``AVERAGE`` for percentages.
        options: GDAL creation options, which override the package's.
        legend: Classes of band 1, or None. They become its palette, and their names are written
            to an ``.aux.xml`` beside the raster, where GDAL looks for them.
        descriptions: Band names.
        tags: Dataset tags.
    """

    bands: int = 1
    format: RasterFormat = "COG"
    overviews: str = "MODE"
    options: Mapping[str, str] = field(default_factory=dict)
    legend: Legend | None = None
    descriptions: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def check_raster_output(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """``check_output`` for a raster, which must have a GeoTIFF suffix.

    Raises:
        UsageError: The suffix is not ``.tif`` or ``.tiff``; or see ``check_output``.
        OutputError: See ``check_output``.
    """
    target = Path(path)
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise UsageError(f"{target}: rasters are written as GeoTIFF; name the output *.tif")
    return check_output(target, overwrite)


class BlockAssembler:
    """Assembles windows that partition a raster into complete storage blocks.

    Each block must be written only once. If a compressed block were written in parts, GDAL would
    decode and encode it for every part and leave holes in the file.
    """

    def __init__(self, height: int, width: int, bands: int) -> None:
        self._scene = Window(0, 0, height, width)
        self._bands = bands
        self._open: dict[tuple[int, int], tuple[NDArray[np.uint8], int]] = {}

    @property
    def open_blocks(self) -> int:
        """Number of blocks that still wait for pixels."""
        return len(self._open)

    def add(
        self, window: Window, values: NDArray[np.uint8]
    ) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
        """Adds a window's values, (bands, h, w), and yields the blocks that are now complete."""
        for i in range(window.row // BLOCK, -(-window.bottom // BLOCK)):
            for j in range(window.col // BLOCK, -(-window.right // BLOCK)):
                block = Window(i * BLOCK, j * BLOCK, BLOCK, BLOCK).intersect(self._scene)
                part = block.intersect(window)
                # A block and the number of its pixels that have no value yet.
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


OnBlock = Callable[[Window, NDArray[np.uint8]], None]
"""Gets a complete storage block: its window in the raster, and values (bands, h, w)."""


class RasterSink:
    """A uint8 raster on a scene's grid that takes pixels; made by ``raster_sink``."""

    def __init__(
        self, dataset: Any, grid: SceneGrid, bands: int, path: Path, on_block: OnBlock | None
    ) -> None:
        self._dataset = dataset
        self._path = path
        self._on_block = on_block
        # A small raster needs less: 1.5 times its size without compression.
        self._room = min(_ROOM, 3 * grid.height * grid.width * bands // 2)
        self._assembler = BlockAssembler(grid.height, grid.width, bands)
        self._counts = np.zeros(256, np.int64)

    @property
    def counts(self) -> list[int]:
        """Number of pixels written so far of each value of band 1, from 0 to 255."""
        counts: list[int] = self._counts.tolist()
        return counts

    def write(self, window: Window, values: NDArray[np.uint8]) -> None:
        """Writes final pixels; all windows together must cover the raster exactly once.

        Args:
            window: Position of the pixels in the raster.
            values: Shape (bands, h, w) or, for one band, (h, w).

        Raises:
            OutputError: The disk is full, or GDAL cannot write.
        """
        if values.ndim == 2:
            values = values[np.newaxis]
        for block, array in self._assembler.add(window, values):
            self._counts += np.bincount(array[0].ravel(), minlength=256)
            where = rio_window(block)
            check_room(self._path, self._room)
            with writing(self._path):
                self._dataset.write(array, window=where)
            if self._on_block is not None:
                self._on_block(block, array)

    def check_complete(self) -> None:
        """Raises OutputError if a block lacks pixels, which is a bug and not a user's error."""
        if self._assembler.open_blocks:
            raise OutputError(f"{self._path}: {self._assembler.open_blocks} blocks are incomplete")


@contextlib.contextmanager
def raster_sink(
    path: str | os.PathLike[str],
    grid: SceneGrid,
    layout: RasterLayout,
    overwrite: bool = False,
    on_block: OnBlock | None = None,
) -> Iterator[RasterSink]:
    """Opens a sink; when the ``with`` block succeeds, the raster appears at ``path``.

    Pixels stream into a temporary tiled GeoTIFF beside the target. GDAL's COG driver can only
    copy an existing raster, so the COG with its overviews is made from that file at the end.

    Args:
        path: The output, ``*.tif``.
        grid: Size and georeferencing. Geotransform, control points and rational polynomial
            coefficients are written unchanged.
        layout: Format, bands and metadata.
        overwrite: Whether to replace an existing file.
        on_block: Also gets every storage block once it is written.

    Raises:
        UsageError: The path or a creation option is not usable.
        OutputError: The raster cannot be written.
    """
    target = check_raster_output(path, overwrite)
    check_creation_options(layout.format, layout.options, layout.legend)
    with atomic_output(target, overwrite, (AUX_XML,)) as final:
        stream = final if layout.format == "GTiff" else final.with_suffix(".stream.tif")
        # The temporary file of a COG is compressed fast rather than well.
        options = layout.options if layout.format == "GTiff" else {"ZLEVEL": "1"}
        check_room(target)  # on a full disk GDAL itself prints many messages
        with writing(target):
            dataset = rasterio.open(stream, "w", **_profile(grid, layout.bands, options))
        try:
            with writing(target):
                _describe(dataset, grid, layout)
            sink = RasterSink(dataset, grid, layout.bands, target, on_block)
            yield sink
            sink.check_complete()
        finally:
            # Closing flushes the cache. On a full disk this fails as well, but must not hide an
            # error from inside the block.
            failure = _close(dataset)
        if failure is not None:
            check_room(target)
            raise OutputError(f"{target}: {failure}")
        if layout.format == "COG":
            with block_cache(max(_COPY_CACHE, 4 * BLOCK * grid.width * layout.bands)):
                _to_cog(stream, final, target, layout)
        _check_whole(final, target, grid, layout.bands)
        if layout.legend is not None:
            with writing(target):
                write_class_names(final, layout.legend, sink.counts)


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
    if layout.legend is not None:
        dataset.write_colormap(1, layout.legend.colormap)
    for i, text in enumerate(layout.descriptions, start=1):
        dataset.set_band_description(i, text)
    dataset.update_tags(**layout.tags)


def _close(dataset: Any) -> str | None:
    try:
        dataset.close()
    except GDAL_FAILURES as error:
        return _reason(error)
    return None


def _to_cog(stream: Path, final: Path, target: Path, layout: RasterLayout) -> None:
    options = {
        "COMPRESS": "DEFLATE",
        "BLOCKSIZE": str(BLOCK),
        "OVERVIEW_RESAMPLING": layout.overviews,
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": "ALL_CPUS",
    }
    options |= {k.upper(): v for k, v in layout.options.items()}
    # Estimate for the copy, its overviews and their temporary file. On a full disk GDAL is slow
    # to fail and prints many messages.
    check_room(target, 2 * stream.stat().st_size)
    with writing(target):
        rasterio.shutil.copy(stream, final, driver="COG", **options)


def _check_whole(final: Path, target: Path, grid: SceneGrid, bands: int) -> None:
    """Reads the last pixel of the finished file: GDAL reports some full disks only in its log."""
    with writing(target), rasterio.open(final) as written:
        if (written.count, written.height, written.width) != (bands, grid.height, grid.width):
            raise OutputError(f"{target}: the written file is incomplete")
        if written.crs and _on_earth(grid.crs) and not _on_earth(written.crs):
            raise OutputError(f"{target}: its CRS was lost on writing; {proj_data_advice()}")
        corner = Window(grid.height - 1, grid.width - 1, 1, 1)
        written.read(window=rio_window(corner))


def _on_earth(crs: Any) -> bool:
    """Whether a CRS is tied to a place on Earth, unlike the one left if PROJ lacks its code."""
    return bool(crs and (crs.is_projected or crs.is_geographic))


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turns GDAL's failures into OutputError.

    Raises:
        OutputError: GDAL cannot write, or the disk is full.
    """
    try:
        with warnings.catch_warnings():
            # The scene need not be georeferenced.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except GDAL_FAILURES as error:
        check_room(target)
        raise OutputError(f"{target}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return "cannot be written: " + " ".join(str(error.__cause__ or error).split())
