"""Scenes as the pipeline reads them: the Source protocol and what rasterio opens."""

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

from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.grid import SceneGrid, Window
from cwsam_geo.io.bands import Nodata, check_pictures, hints, read_bands
from cwsam_geo.io.georef import check_grids, grid_of
from cwsam_geo.io.opening import (
    Location,
    environment,
    is_remote,
    measurements,
    open_dataset,
    shown,
)
from cwsam_geo.io.parts import Part, selected_parts, stored_type, unreadable
from cwsam_geo.io.sentinel1 import (
    SigmaNought,
    annotation_file,
    describe_tables,
    missing_table,
    table_files,
)
from cwsam_geo.io.sentinel1_tables import control_points, read_sigma_nought


class Source(Protocol):
    """A scene that can be read window by window.

    One thread reads at a time; it need not be the one that opened the scene.

    Attributes:
        grid: Shape and georeferencing; ``count`` is the number of selected bands.
        names: Polarisation of each selected band, upper case, or None where not known.
        label: What to call the scene in messages and provenance; it holds no secret.
        hints: Texts of the file that may tell the units of its values.
        complex: True where the file holds complex values, which are read as intensity.
    """

    grid: SceneGrid
    names: tuple[str | None, ...]
    label: str
    hints: tuple[str, ...]
    complex: bool

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Values (N, H, W), float32, and where all N bands are data, (H, W)."""

    def close(self) -> None:
        """Lets go of the files."""


class RasterSource:
    """A scene in one multi-band raster, or in several single-band rasters of one grid.

    Made by ``open_source``.

    Attributes:
        grid: Shape and georeferencing, of the first file; ``count`` is the selected bands.
        names: Polarisation of each selected band, upper case, or None where not known.
        label: The path or paths, without query strings and passwords.
        hints: Texts that may tell the units: band units, descriptions, tags, file names.
        complex: True where the file holds complex values, which are read as intensity.
        nodata: Stored value of each selected band that means no data, or None.
        nodata_option: What the user said of nodata.
        chosen: True where the user chose the bands.
        numbers: Number of each selected band, from 1, as ``-b`` counts them.
        tells_nodata: True where the user or the file says what is nodata, if only NaN. An alpha
            band does not: it tells what warping left empty, and nothing of zeros inside.
        masked: True where an internal or external mask or an alpha band tells what is data.
        zero_is_nodata: True where pixels that are 0 in every selected band are nodata; a
            declared nodata value of 0 then means this too. Set by ``restricted``.
        tables: Calibration of each selected band, where values are read as sigma nought; empty
            where they are read as stored. Set by ``calibrated``.
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
        self.label = " + ".join(dict.fromkeys(shown(part.path) for part in parts))
        self.names = tuple(b.name for b in bands)
        self.nodata = tuple(b.nodata for b in bands)
        self.masked = any(b.masked for b in bands) or any(part.alpha for part in parts)
        self.tells_nodata = nodata is not None or any(
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
        """The open rasterio datasets, for what only the file itself can tell."""
        return tuple(part.dataset for part in self._parts)

    def restricted(self, positions: Sequence[int], zero_is_nodata: bool) -> RasterSource:
        """The same scene with fewer bands and a decision on zeros.

        Both share the open files: closing one closes the other.

        Args:
            positions: Which of this source's bands to keep, from 0; the file's order stays.
            zero_is_nodata: Whether pixels that are 0 in every kept band are nodata.
        """
        parts, first = [], 0
        for part in self._parts:
            kept = tuple(b for i, b in enumerate(part.bands, first) if i in positions)
            first += len(part.bands)
            if kept:
                parts.append(replace(part, bands=kept))
        numbers = [n for i, n in enumerate(self.numbers) if i in positions]
        fewer = RasterSource(parts, self.nodata_option, self.chosen, numbers)
        fewer.label = self.label
        fewer.grid = replace(self.grid, count=fewer.grid.count, nodata=fewer.grid.nodata)
        fewer.zero_is_nodata = zero_is_nodata
        fewer.tables = tuple(t for i, t in enumerate(self.tables) if i in positions)
        return fewer

    def calibrated(self) -> RasterSource:
        """The same scene, read as sigma nought (power) by the tables of its Sentinel-1 product.

        Both share the open files. It is this very source where a band has no tables: the file
        is no product's, or on a server, or the product lacks them (``lacking_table``).

        Raises:
            SceneError: A table is damaged or does not fit; the message names it.
        """
        found = [table_files(part.path) for part in self._parts for _ in part.bands]
        files = [f for f in found if f is not None]
        digital = np.dtype(self.grid.dtype).kind in "iuc"
        if self.tables or not digital or len(files) < len(found):
            return self
        same = self.restricted(range(self.grid.count), self.zero_is_nodata)
        same.tables = tuple(read_sigma_nought(f, self.grid.height, self.grid.width) for f in files)
        return same

    @property
    def replaced(self) -> tuple[float, ...]:
        """Declared nodata values that the user's word makes data."""
        told = [(b.declared, b.nodata) for part in self._parts for b in part.bands]
        found = {d for d, nodata in told if d is not None and np.isfinite(d) and d != nodata}
        return tuple(sorted(found))

    def as_stored(self, value: float) -> float:
        """The stored value that reads as this one: before scale and offset, as nodata is given."""
        band = self._parts[0].bands[0]
        # The float32 that was read stands for the shortest decimal that is it.
        stored = (float(str(np.float32(value))) - band.offset) / (band.scale or 1)
        return stored if self.grid.dtype.startswith("float") else round(stored)

    @property
    def calibration(self) -> str | None:
        """What the values are, in words, where they are read as sigma nought; else None."""
        return describe_tables(self.names, self.tables) if self.tables else None

    @property
    def lacking_table(self) -> str | None:
        """The calibration file that the scene's product should have, and lacks; else None."""
        missing = (missing_table(part.path) for part in self._parts)
        return next((path for path in missing if path), None)

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Reads all selected bands of a window.

        Args:
            window: A window inside the scene.

        Returns:
            Values, (N, H, W) float32: intensity where the file is complex, scale and offset
            applied, sigma nought of a calibrated source (0 where all bands hold 0); anything
            where not valid. Valid, (H, W): True where every band has data,
            which means a number, not the nodata value, and not masked.

        Raises:
            SceneError: The file is damaged there, or the network failed.
        """
        if window.empty or window.intersect(self.grid.window) != window:
            raise ValueError(f"{window} is not inside the scene")
        valid = np.ones((window.height, window.width), bool)
        values, first = np.empty((0, *valid.shape), np.float32), 0
        for part in self._parts:
            planes, good = self._read_part(part, window)
            valid &= good
            if len(self._parts) == 1:
                values = planes
                break
            if first == 0:
                values = np.empty((self.grid.count, *valid.shape), np.float32)
            values[first : first + len(planes)] = planes
            first += len(planes)
        if self.zero_is_nodata or self.tables:
            echo = (values != 0).any(axis=0)
            if self.zero_is_nodata:
                valid &= echo
            if self.tables:
                self._calibrate(values, window, echo)
        return values, valid

    def _calibrate(
        self, values: NDArray[np.float32], window: Window, echo: NDArray[np.bool_]
    ) -> None:
        """Digital numbers become sigma nought in place; 0 stays where no band has an echo."""
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
        paths: One raster, or several single-band rasters of one grid that become the bands; each
            is anything rasterio opens: local, ``/vsicurl/``, ``/vsis3/``, http(s) and s3 URLs. A
            Sentinel-1 product (``.SAFE`` folder or zip) stands for its measurement files.
        bidx: Bands to take, from 1, in this order (over all files, where there are several);
            None takes all but an alpha band.
        nodata: A value that is nodata, instead of what the files declare; ``"none"`` where
            nothing is nodata but NaN.

    Raises:
        SceneError: A file cannot be read, or the files do not fit together.
        UsageError: ``bidx`` names a band that is not there.
    """
    given = [paths] if isinstance(paths, str) or not isinstance(paths, Sequence) else list(paths)
    if not given:
        raise UsageError("no scene given")
    files = [file for location in given for file in measurements(location)]
    with contextlib.ExitStack() as stack:
        datasets = [stack.enter_context(contextlib.closing(open_dataset(f))) for f in files]
        for dataset, path in zip(datasets, files, strict=True):
            check_pictures(dataset, path, several=len(files) > 1)
        check_grids(datasets, files)
        parts, numbers = selected_parts(datasets, files, bidx, nodata)
        source = RasterSource(parts, nodata, bidx is not None, numbers)
        source.label = " + ".join(shown(location) for location in given)
        source.grid = _placed(source.grid, parts[0].path)
        stack.pop_all()
    return source


def _placed(grid: SceneGrid, path: str) -> SceneGrid:
    """The grid, with the control points of its Sentinel-1 product where the file has no place."""
    annotation = None if grid.georeferenced or grid.rpcs else annotation_file(path)
    if annotation is None:
        return grid
    return replace(grid, gcps=control_points(annotation), gcp_crs=CRS.from_epsg(4326))
