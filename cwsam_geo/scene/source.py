"""Scenes as the pipeline reads them: the Source protocol, and sources that rasterio opens."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.io.raster_file import (
    Location,
    display_name,
    environment,
    grid_of,
    is_remote,
    open_dataset,
)
from cwsam_geo.scene.bands import Nodata, check_pictures, hints, read_bands
from cwsam_geo.scene.files import Part, check_grids, selected_parts, stored_type, unreadable
from cwsam_geo.scene.sentinel1.calibration import SigmaNought, describe_tables
from cwsam_geo.scene.sentinel1.product import (
    annotation_file,
    measurements,
    missing_table,
    table_files,
)
from cwsam_geo.scene.sentinel1.tables import control_points, read_sigma_nought


class Source(Protocol):
    """A scene that can be read window by window.

    One thread reads at a time; it need not be the one that opened the scene.

    Attributes:
        grid: Shape and georeferencing; ``count`` is the number of selected bands.
        names: Polarisation of each selected band, upper case, or None where unknown.
        label: The scene's name in messages and provenance, without secrets.
        hints: Texts of the file that may name the units of its values.
        complex: True if the file holds complex values, which are read as intensity.
    """

    grid: SceneGrid
    names: tuple[str | None, ...]
    label: str
    hints: tuple[str, ...]
    complex: bool

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Values, (N, H, W) float32, and where all N bands have data, (H, W) bool."""

    def close(self) -> None:
        """Closes the files."""


class RasterSource:
    """A scene in one multi-band raster, or in several single-band rasters on one grid.

    Made by ``open_source``.

    Attributes:
        grid: Shape and georeferencing of the first file; ``count`` is the number of selected
            bands.
        names: Polarisation of each selected band, upper case, or None where unknown.
        label: The path or paths, without query strings and passwords.
        hints: Texts that may name the units: file names, band units, descriptions and tags.
        complex: True if the file holds complex values, which are read as intensity.
        nodata: Stored nodata value of each selected band, or None.
        nodata_option: The user's nodata option.
        chosen: True if the user selected the bands.
        numbers: Number of each selected band, from 1, as ``-b`` counts.
        tells_nodata: True if the user or the file declares nodata, be it only NaN, or the file
            has a mask. An alpha band is not enough: it marks pixels that warping left empty, but
            zeros inside the image may be nodata all the same.
        masked: True if an internal or external mask, or an alpha band, marks valid pixels.
        zero_is_nodata: True if pixels that are 0 in every selected band are nodata. A nodata
            value of 0 is then applied in the same way. Set by ``restricted``.
        tables: Calibration of each selected band if values are read as sigma nought; empty if
            they are read as stored. Set by ``calibrated``.
    """

    def __init__(
        self, parts: Sequence[Part], nodata: Nodata, chosen: bool, numbers: Sequence[int]
    ) -> None:
        bands = [b for part in parts for b in part.bands]
        self._parts = tuple(parts)
        self._remote = any(is_remote(part.path) for part in parts)
        self.nodata_option = nodata
        self.chosen, self.numbers = chosen, tuple(numbers)
        self.zero_is_nodata = False
        self.tables: tuple[SigmaNought, ...] = ()
        self.label = " + ".join(dict.fromkeys(display_name(part.path) for part in parts))
        self.names = tuple(b.name for b in bands)
        self.nodata = tuple(b.nodata for b in bands)
        self.masked = any(b.masked for b in bands) or any(part.alpha for part in parts)
        self.declares_nodata = nodata is not None or any(
            b.declared is not None or b.masked for b in bands
        )
        self.hints = tuple(h for p in parts for h in hints(p.dataset, p.path, p.bands))
        dtype = stored_type(parts)
        self.complex = dtype.startswith("complex")
        self.grid = replace(
            grid_of(parts[0].dataset), count=len(bands), dtype=dtype, nodata=bands[0].nodata
        )

    @property
    def datasets(self) -> tuple[Any, ...]:
        """The open rasterio datasets, for metadata that this class does not hold."""
        return tuple(part.dataset for part in self._parts)

    def restricted(self, positions: Sequence[int], zero_is_nodata: bool) -> RasterSource:
        """The same scene with fewer bands, and with zeros as data or as nodata.

        Both sources share the open files: closing one closes the other.

        Args:
            positions: Indexes, from 0, of the bands to keep. Their order does not change.
            zero_is_nodata: Whether pixels that are 0 in every kept band are nodata.
        """
        parts, first = [], 0
        for part in self._parts:
            bands = tuple(b for i, b in enumerate(part.bands, first) if i in positions)
            first += len(part.bands)
            if bands:
                parts.append(replace(part, bands=bands))
        numbers = [n for i, n in enumerate(self.numbers) if i in positions]
        fewer = RasterSource(parts, self.nodata_option, self.chosen, numbers)
        fewer.label = self.label
        fewer.grid = replace(self.grid, count=fewer.grid.count, nodata=fewer.grid.nodata)
        fewer.zero_is_nodata = zero_is_nodata
        fewer.tables = tuple(t for i, t in enumerate(self.tables) if i in positions)
        return fewer

    def calibrated(self) -> RasterSource:
        """The same scene, read as sigma nought (power) by the tables of its Sentinel-1 product.

        Both sources share the open files. The method returns this source itself if a band has no
        tables: the file is not in a product, is on a server, or the product lacks them
        (``lacking_table``).

        Raises:
            SceneError: A table is damaged or does not fit the raster. The message names the file.
        """
        per_band = [table_files(part.path) for part in self._parts for _ in part.bands]
        files = [f for f in per_band if f is not None]
        # Digital numbers are integers or complex; real floats have been processed already.
        digital = np.dtype(self.grid.dtype).kind in "iuc"
        if self.tables or not digital or len(files) < len(per_band):
            return self
        same = self.restricted(range(self.grid.count), self.zero_is_nodata)
        same.tables = tuple(read_sigma_nought(f, self.grid.height, self.grid.width) for f in files)
        return same

    @property
    def replaced(self) -> tuple[float, ...]:
        """Declared nodata values that are read as data because of the user's nodata option."""
        pairs = [(b.declared, b.nodata) for part in self._parts for b in part.bands]
        values = {d for d, nodata in pairs if d is not None and np.isfinite(d) and d != nodata}
        return tuple(sorted(values))

    def as_stored(self, value: float) -> float:
        """The stored value, before scale and offset, of a value that was read.

        Nodata values are compared with stored values.
        """
        band = self._parts[0].bands[0]
        # str gives the shortest decimal that rounds to the float32: 0.1, not 0.10000000149.
        stored = (float(str(np.float32(value))) - band.offset) / (band.scale or 1)
        return stored if self.grid.dtype.startswith("float") else round(stored)

    @property
    def calibration(self) -> str | None:
        """The meaning of the values, in words, if they are read as sigma nought; else None."""
        return describe_tables(self.names, self.tables) if self.tables else None

    @property
    def lacking_table(self) -> str | None:
        """Path of the calibration table that is missing in the scene's product; else None."""
        missing = (missing_table(part.path) for part in self._parts)
        return next((path for path in missing if path), None)

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Reads all selected bands of a window.

        Args:
            window: A window inside the scene.

        Returns:
            Values, (N, H, W) float32, with scale and offset applied: intensity if the file is
            complex, and sigma nought if the source is calibrated (0 where all bands are 0).
            Values of invalid pixels are arbitrary.
            Valid, (H, W) bool: True where the values of all bands are finite, not nodata and not
            masked.

        Raises:
            SceneError: The file is damaged, or the network failed.
        """
        if window.empty or window.intersect(self.grid.window) != window:
            raise ValueError(f"{window} is not inside the scene")
        valid = np.ones((window.height, window.width), bool)
        values, first = np.empty((0, *valid.shape), np.float32), 0
        for part in self._parts:
            planes, good = self._read_part(part, window)
            valid &= good
            if len(self._parts) == 1:
                values = planes  # no copy
                break
            if first == 0:
                values = np.empty((self.grid.count, *valid.shape), np.float32)
            values[first : first + len(planes)] = planes
            first += len(planes)
        if self.zero_is_nodata or self.tables:
            echo = (values != 0).any(axis=0)  # (H, W); no echo is exactly 0 in every band
            if self.zero_is_nodata:
                valid &= echo
            if self.tables:
                self._calibrate(values, window, echo)
        return values, valid

    def _calibrate(
        self, values: NDArray[np.float32], window: Window, echo: NDArray[np.bool_]
    ) -> None:
        """Converts digital numbers (N, H, W) to sigma nought in place; without an echo 0 stays."""
        for numbers, table in zip(values, self.tables, strict=True):
            table.apply(numbers, window, self.complex)
            np.copyto(numbers, np.float32(0), where=~echo)

    def _read_part(
        self, part: Part, window: Window
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        try:
            with environment(self._remote):
                zeros = self.zero_is_nodata
                return read_bands(part.dataset, part.bands, part.alpha, window, zeros)
        except (RasterioError, OSError) as error:
            raise SceneError(unreadable(part.path, window, error)) from None

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
) -> RasterSource:
    """Opens a scene.

    Args:
        paths: One raster, or several single-band rasters on one grid, which become the bands.
            Each is anything that rasterio opens: a local path, ``/vsicurl/``, ``/vsis3/``, an
            http(s) or s3 URL. A Sentinel-1 product (``.SAFE`` folder or zip) stands for its
            measurement files.
        bidx: Numbers of the bands to read, from 1 and in this order, counted over all files;
            None for all bands but alpha bands.
        nodata: Nodata value that replaces the declared ones; ``"none"`` if only NaN is nodata.

    Raises:
        SceneError: A file cannot be read, or the files do not fit together.
        UsageError: ``bidx`` names a band that does not exist.
    """
    locations = (
        [paths] if isinstance(paths, str) or not isinstance(paths, Sequence) else list(paths)
    )
    if not locations:
        raise UsageError("no scene given")
    files = [file for location in locations for file in measurements(location)]
    with contextlib.ExitStack() as stack:
        datasets = [stack.enter_context(contextlib.closing(open_dataset(f))) for f in files]
        for dataset, path in zip(datasets, files, strict=True):
            check_pictures(dataset, path, several=len(files) > 1)
        check_grids(datasets, files)
        parts, numbers = selected_parts(datasets, files, bidx, nodata)
        source = RasterSource(parts, nodata, bidx is not None, numbers)
        source.label = " + ".join(display_name(location) for location in locations)
        source.grid = _placed(source.grid, parts[0].path)
        stack.pop_all()  # the source now closes the datasets
    return source


def _placed(grid: SceneGrid, path: str) -> SceneGrid:
    """The grid; if not georeferenced, with the control points of its Sentinel-1 product."""
    annotation = None if grid.georeferenced or grid.rpcs else annotation_file(path)
    if annotation is None:
        return grid
    return replace(grid, gcps=control_points(annotation), gcp_crs=CRS.from_epsg(4326))
