"""Scenes as the pipeline reads them: the Source protocol, and sources that rasterio opens."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.errors import UsageError
from cwsam_geo.io.raster_file import (
    Location,
    display_name,
    grid_of,
    is_remote,
    reading,
)
from cwsam_geo.scene.acquisition import Acquisition
from cwsam_geo.scene.bands import (
    AS_DECLARED,
    Band,
    Nodata,
    Pixels,
    ZeroPower,
    check_pictures,
    hints,
    read_bands,
)
from cwsam_geo.scene.catalogued import (
    acquisition_of,
    hints_of,
    locate_rasters,
    with_stated,
)
from cwsam_geo.scene.files import (
    Part,
    check_grids,
    check_tiles,
    rescaled,
    selected_parts,
    stored_type,
)
from cwsam_geo.scene.locations import open_rasters
from cwsam_geo.scene.products.product import Calibration
from cwsam_geo.scene.products.recognise import describe, recognise
from cwsam_geo.scene.sentinel1.product import annotation_file
from cwsam_geo.scene.sentinel1.tables import control_points
from cwsam_geo.scene.speckle import RefinedLee


class Source(Protocol):
    """A scene that can be read window by window.

    One thread reads at a time; it need not be the one that opened the scene.

    Attributes:
        grid: Shape and georeferencing; ``count`` is the number of selected bands.
        label: The scene's name in messages and provenance, without secrets.
    """

    @property
    def grid(self) -> SceneGrid: ...  # noqa: D102

    @property
    def label(self) -> str: ...  # noqa: D102

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Values, (N, H, W) float32, and where all N bands have data, (H, W) bool."""


@dataclass(frozen=True, eq=False)
class RasterSource:
    """A scene in one multi-band raster, or in several single-band rasters on one grid.

    Made by ``open_source``. Sources that are derived from it share its open files: closing one
    closes them all.

    Attributes:
        parts: The open files with the selected bands.
        grid: Shape and georeferencing of the first file; ``count`` is the number of selected
            bands.
        label: The path or paths, without query strings and passwords.
        numbers: Number of each selected band, from 1, as ``-b`` counts.
        chosen: True if the user selected the bands.
        nodata_option: The user's nodata option.
        zero: How pixels of power 0 are read.
        rescaled: True if the user gave a scale or an offset. They apply to stored values, so the
            source is not calibrated then.
        tables: Calibration of each selected band if values are read as backscatter; empty if they
            are read as stored.
        acquisition: What a catalogue says of the scene, or None.
        catalogue_hints: Texts of the catalogue that may name the units.
        despeckle: The filter of the values that ``read`` returns, or None.
    """

    parts: tuple[Part, ...]
    grid: SceneGrid
    label: str
    numbers: tuple[int, ...]
    chosen: bool = False
    nodata_option: Nodata = None
    rescaled: bool = False
    zero: ZeroPower = AS_DECLARED
    tables: tuple[Calibration, ...] = ()
    acquisition: Acquisition | None = None
    catalogue_hints: tuple[str, ...] = ()
    despeckle: RefinedLee | None = None

    @property
    def bands(self) -> tuple[Band, ...]:
        """The selected bands."""
        return tuple(b for part in self.parts for b in part.bands)

    @property
    def names(self) -> tuple[str | None, ...]:
        """Polarisation of each selected band, upper case, or None where unknown."""
        return tuple(b.name for b in self.bands)

    @property
    def nodata(self) -> tuple[float | None, ...]:
        """Stored nodata value of each selected band, or None."""
        return tuple(b.nodata for b in self.bands)

    @property
    def masked(self) -> bool:
        """True if an internal or external mask, or an alpha band, marks valid pixels."""
        return any(b.masked for b in self.bands) or any(part.alpha for part in self.parts)

    @property
    def declares_nodata(self) -> bool:
        """True if the user or the file declares a nodata value (even NaN), or the file has a mask.

        An alpha band is not enough: it marks pixels that warping left empty, but zeros inside the
        image may still be nodata.
        """
        declared = any(b.declared is not None or b.masked for b in self.bands)
        return declared or self.nodata_option is not None

    @property
    def hints(self) -> tuple[str, ...]:
        """Texts that may name the units: file names, band units, descriptions and tags."""
        own = (h for p in self.parts for h in hints(p.dataset, p.path, p.bands))
        known = [p.product for p in self.parts if p.product is not None]
        products = (f"product {p.title}: {p.units}" for p in known if p.units)
        return (*own, *products, *self.catalogue_hints)

    @property
    def complex(self) -> bool:
        """True if the file holds complex values, which are read as intensity."""
        return self.grid.dtype.startswith("complex")

    @property
    def remote(self) -> bool:
        """True if a file is read over a network."""
        return any(is_remote(part.path) for part in self.parts)

    @property
    def datasets(self) -> tuple[Any, ...]:
        """The open rasterio datasets, for metadata that this class does not hold."""
        return tuple(part.dataset for part in self.parts)

    def with_bands(self, positions: Sequence[int]) -> RasterSource:
        """The same scene with fewer bands.

        Args:
            positions: Indexes, from 0, of the bands to keep. Their order does not change.
        """
        parts, first = [], 0
        for part in self.parts:
            bands = tuple(b for i, b in enumerate(part.bands, first) if i in positions)
            first += len(part.bands)
            if bands:
                parts.append(replace(part, bands=bands))
        return replace(
            self,
            parts=tuple(parts),
            grid=replace(self.grid, **_stored_as(parts)),
            numbers=tuple(n for i, n in enumerate(self.numbers) if i in positions),
            tables=tuple(t for i, t in enumerate(self.tables) if i in positions),
        )

    def with_zero(self, zero: ZeroPower) -> RasterSource:
        """The same scene with another rule for pixels of power 0."""
        return replace(self, zero=zero)

    def calibrated(self) -> RasterSource:
        """The same scene, read as backscatter (power) by the calibration of its product.

        The method returns this source itself if a band has none: the file is not of a known
        product, or the product lacks what it needs (``uncalibrated``).

        Raises:
            SceneError: A table is damaged or does not fit the raster. The message names the file.
        """
        bands = [(part.product, band.index) for part in self.parts for band in part.bands]
        makers = [product and product.calibration(index) for product, index in bands]
        # Digital numbers are integers or complex; real floats have been processed already.
        digital = np.dtype(self.grid.dtype).kind in "iuc"
        if self.tables or not digital or None in makers:
            return self
        height, width = self.grid.height, self.grid.width
        return replace(self, tables=tuple(make(height, width) for make in makers if make))

    @property
    def replaced(self) -> tuple[float, ...]:
        """Declared nodata values that are read as data because of the user's nodata option."""
        pairs = [(b.declared, b.nodata) for b in self.bands]
        values = {d for d, nodata in pairs if d is not None and np.isfinite(d) and d != nodata}
        return tuple(sorted(values))

    def as_stored(self, value: float) -> float:
        """Converts a value that was read to the stored value, before scale and offset.

        ``--nodata`` takes stored values.
        """
        band = self.bands[0]
        # str gives the shortest decimal that rounds to the float32: 0.1, not 0.10000000149.
        stored = (float(str(np.float32(value))) - band.offset) / (band.scale or 1)
        return stored if self.grid.dtype.startswith("float") else round(stored)

    @property
    def calibration(self) -> str | None:
        """The meaning of the values, in words, if they are read as backscatter; else None."""
        return describe(self.names, self.tables) if self.tables else None

    @property
    def uncalibrated(self) -> tuple[str, str] | None:
        """Why the scene's product cannot be calibrated, and what to do (or ""); else None."""
        known = (part.product for part in self.parts if part.product is not None)
        return next(((p.lacks, p.remedy) for p in known if p.lacks), None)

    @property
    def zero_is_specified(self) -> bool:
        """True if the product's documentation says that 0 is nodata wherever it occurs."""
        return all(p.product is not None and p.product.nodata == 0 for p in self.parts)

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Reads all selected bands of a window.

        Args:
            window: A window inside the scene.

        Returns:
            Values, (N, H, W) float32, with scale and offset applied: intensity if the file is
            complex, and sigma nought if the source is calibrated (0 where all bands are 0); with
            less speckle if the source has a filter.
            Values of invalid pixels are arbitrary.
            Valid, (H, W) bool: True where the values of all bands are finite, not nodata and not
            masked. -inf is the value of power 0 in dB: ``zero`` says how it is read.

        Raises:
            SceneError: The file is damaged, or the network failed.
        """
        if self.despeckle is not None:
            return self.despeckle.filtered(window, self.grid.window, self._read)
        return self._read(window)

    def _read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        pixels = self.examine(window)
        return pixels.values, pixels.valid & ~self.zero.fill(pixels, window)

    def examine(self, window: Window) -> Pixels:
        """Reads a window like ``read``, but with the data mask of each band and pixels of power 0.

        Raises:
            SceneError: The file is damaged, or the network failed.
        """
        if window.empty or window.intersect(self.grid.window) != window:
            raise ValueError(f"{window} is not inside the scene")
        pixels = Pixels.joined([self._read_part(part, window) for part in self.parts])
        if self.tables:
            self._calibrate(pixels.values, window)
        return pixels

    def _calibrate(self, values: NDArray[np.float32], window: Window) -> None:
        """Converts digital numbers (N, H, W) to sigma nought in place."""
        # Pixels that are 0 in every band have no echo, and stay 0.
        echo = (values != 0).any(axis=0)  # (H, W)
        for numbers, table in zip(values, self.tables, strict=True):
            table.apply(numbers, window, self.complex)
            np.copyto(numbers, np.float32(0), where=~echo)

    def _read_part(self, part: Part, window: Window) -> Pixels:
        with reading(part.path, window):
            return read_bands(part.dataset, part.bands, part.alpha, window, self.zero)

    def close(self) -> None:
        """Closes the files."""
        for dataset in self.datasets:
            dataset.close()

    def __enter__(self) -> RasterSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_source(
    paths: Sequence[Location] | Location,
    bidx: Sequence[int] | None = None,
    nodata: Nodata = None,
    scale: float | None = None,
    offset: float | None = None,
) -> RasterSource:
    """Opens a scene.

    Args:
        paths: One raster, or several single-band rasters on one grid, which become the bands.
            Each is anything that rasterio opens: a local path, ``/vsicurl/``, ``/vsis3/``, an
            http(s) or s3 URL. A Sentinel-1 product (``.SAFE`` folder or zip) stands for its
            measurement files, and a SNAP product (``.dim``), folder, zip, container or STAC item
            (a file or URL) for the rasters in it that name one polarisation each.
        bidx: Numbers of the bands to read, from 1 and in this order, counted over all files;
            None for all bands but alpha bands.
        nodata: Nodata value that replaces the declared ones; ``"none"`` if only NaN is nodata.
        scale: Factor from stored to true values in every band, which replaces the files' own.
        offset: Added after scaling, in every band; replaces the files' own.

    Raises:
        SceneError: A file cannot be read, or the files do not fit together.
        UsageError: ``bidx`` names a band that does not exist, or a scale is 0 or not finite.
    """
    locations = (
        [paths] if isinstance(paths, str) or not isinstance(paths, Sequence) else list(paths)
    )
    if not locations:
        raise UsageError("no scene given")
    located = locate_rasters(locations)
    with contextlib.ExitStack() as stack:
        datasets: list[Any] = []
        files: list[str] = []
        for file in located.files:
            for dataset, path in open_rasters(file):
                stack.enter_context(contextlib.closing(dataset))
                datasets.append(dataset)
                files.append(path)
        check_tiles(datasets, files)
        products = [recognise(d, path) for d, path in zip(datasets, files, strict=True)]
        for dataset, product, path in zip(datasets, products, files, strict=True):
            check_pictures(dataset, product, path, several=len(files) > 1)
        check_grids(datasets, files)
        parts, numbers = selected_parts(datasets, files, products, bidx, nodata)
        parts = rescaled(with_stated(parts, located, nodata), scale, offset)
        source = RasterSource(
            parts=tuple(parts),
            grid=_placed(replace(grid_of(parts[0].dataset), **_stored_as(parts)), parts[0].path),
            label=" + ".join(display_name(location) for location in locations),
            numbers=tuple(numbers),
            chosen=bidx is not None,
            nodata_option=nodata,
            rescaled=scale is not None or offset is not None,
            acquisition=acquisition_of(located, datasets[0]),
            catalogue_hints=hints_of(located),
        )
        stack.pop_all()  # the source now closes the datasets
    return source if bidx is not None else _without_others(source)


def _without_others(source: RasterSource) -> RasterSource:
    """The source without bands that are no backscatter by their name, if any other is left."""
    positions = [i for i, band in enumerate(source.bands) if not band.other]
    return source.with_bands(positions or range(len(source.bands)))


def _stored_as(parts: Sequence[Part]) -> dict[str, Any]:
    """Fields of a grid that describe the stored bands: their number, type and nodata value."""
    bands = [b for part in parts for b in part.bands]
    return {"count": len(bands), "dtype": stored_type(parts), "nodata": bands[0].nodata}


def _placed(grid: SceneGrid, path: str) -> SceneGrid:
    """The grid; if not georeferenced, with the control points of its Sentinel-1 product."""
    annotation = None if grid.georeferenced or grid.rpcs else annotation_file(path)
    if annotation is None:
        return grid
    return replace(grid, gcps=control_points(annotation), gcp_crs=CRS.from_epsg(4326))
