"""Windows of one raster on a server: opened when first read, asked again where the server fails."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform, transform_bounds

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.errors import SceneError
from cwsam_geo.fetch.catalogue import GRD
from cwsam_geo.io.raster_file import (
    display_name,
    environment,
    gdal_message,
    grid_of,
    is_remote,
    rio_window,
)
from cwsam_geo.io.signing import is_signable
from cwsam_geo.io.web import Answer, Patience, ask, is_web
from cwsam_geo.scene.stac_item import StacAsset

T = TypeVar("T")

_TOLERANCE = 0.02
"""Pixels of error allowed to GDAL's approximate warp; its default is 0.125."""

_ALIGNED = 1e-3
"""Pixels by which two grids may be apart and still count as the same."""

_COARSER = 1.9
"""From this ratio of pixel sizes on, a pixel is made of all pixels of the raster that it covers."""

_EARTHDATA = (".earthdata.nasa.gov", ".earthdatacloud.nasa.gov", ".asf.alaska.edu")
"""Ends of host names that want a login of NASA Earthdata."""

_LOGIN = (
    "it wants a login of NASA Earthdata (free): put `machine urs.earthdata.nasa.gov login NAME "
    "password WORD` into ~/.netrc, or a token into EARTHDATA_TOKEN"
)


@dataclass
class RemoteRaster:
    """One band of a raster of a catalogue.

    Attributes:
        asset: The raster, as the catalogue describes it.
        patience: How often the server is asked again.
        tell: Called with a sentence for the user when the server is asked again.
        number: Number of the band, from 1.
    """

    asset: StacAsset
    patience: Patience = field(default_factory=Patience)
    tell: Callable[[str], None] = lambda _: None
    number: int = 1
    _dataset: Any = None
    _failures: int = 0
    _afresh: bool = False

    @property
    def label(self) -> str:
        """The raster's name in messages, without signature."""
        return display_name(self.asset.href)

    @property
    def grid(self) -> SceneGrid:
        """Shape and georeferencing.

        Raises:
            SceneError: The raster cannot be opened, or is not on a map grid.
        """
        return self._persist(grid_of)

    @property
    def nodata(self) -> float | None:
        """The nodata value that the file declares or, without one, the catalogue states."""
        declared: float | None = self._persist(lambda dataset: dataset.nodata)
        return self.asset.nodata if declared is None else declared

    def window_on(self, grid: SceneGrid) -> Window:
        """Pixels of another grid that the raster may cover.

        Raises:
            SceneError: See ``grid``.
        """
        own = self.grid
        left, top = own.transform * (0, 0)
        right, bottom = own.transform * (own.width, own.height)
        bounds = transform_bounds(own.crs, grid.crs, left, bottom, right, top, densify_pts=21)
        to_pixels = ~grid.transform
        cols, rows = zip(
            *(to_pixels * (bounds[i], bounds[j]) for i in (0, 2) for j in (1, 3)), strict=True
        )
        if not np.isfinite([*cols, *rows]).all():
            return grid.window
        first = int(np.floor(min(rows))) - 1, int(np.floor(min(cols))) - 1
        last = int(np.ceil(max(rows))) + 1, int(np.ceil(max(cols))) + 1
        area = Window(*first, last[0] - first[0], last[1] - first[1])
        return area.intersect(grid.window)

    def measured(self, grid: SceneGrid, window: Window) -> NDArray[np.float32]:
        """Values on another grid, (h, w), NaN where the raster has no data.

        Values are copied where both grids have the same pixels. Else they are interpolated
        bilinearly, or averaged where the pixels of ``grid`` are larger.

        Raises:
            SceneError: The server fails again and again, or refuses the raster.
        """
        own, nodata = self.grid, self.nodata
        scale, offset = self._scaling()
        shift = _shift(own, grid)

        def read(dataset: Any) -> NDArray[np.float32]:
            if shift is not None:
                return self._copied(dataset, window.shift(*shift), nodata)
            with WarpedVRT(
                dataset,
                crs=grid.crs,
                transform=grid.transform,
                width=grid.width,
                height=grid.height,
                resampling=Resampling.average if _coarser(own, grid) else Resampling.bilinear,
                src_nodata=nodata,
                nodata=np.nan,
                dtype="float32",
                tolerance=_TOLERANCE,
            ) as warped:
                values: NDArray[np.float32] = warped.read(self.number, window=rio_window(window))
            return values

        values = self._persist(read)
        # GDAL applies no scale of its own here.
        return (
            values
            if (scale, offset) == (1.0, 0.0)
            else np.float32(scale) * values + np.float32(offset)
        )

    def codes(self, grid: SceneGrid, window: Window, nodata: int) -> NDArray[np.int32]:
        """Class codes on another grid, (h, w), and ``nodata`` where the raster has none.

        A pixel has the code at its centre or, where the pixels of ``grid`` are larger, the most
        frequent one.

        Raises:
            SceneError: See ``measured``.
        """
        own, declared = self.grid, self.nodata

        def read(dataset: Any) -> NDArray[np.int32]:
            with WarpedVRT(
                dataset,
                crs=grid.crs,
                transform=grid.transform,
                width=grid.width,
                height=grid.height,
                resampling=Resampling.mode if _coarser(own, grid) else Resampling.nearest,
                src_nodata=declared,
                add_alpha=declared is None,
                nodata=declared,
                tolerance=_TOLERANCE,
            ) as warped:
                values = warped.read(self.number, window=rio_window(window)).astype(np.int32)
                if declared is None:
                    there = warped.read(warped.count, window=rio_window(window)) > 0
                else:
                    there = values != declared
            return np.where(there, values, nodata).astype(np.int32)

        return self._persist(read)

    def close(self) -> None:
        """Closes the raster; the next read opens it again."""
        dataset, self._dataset = self._dataset, None
        if dataset is not None:
            with contextlib.suppress(RasterioError, OSError):
                dataset.close()

    def _scaling(self) -> tuple[float, float]:
        """Scale and offset that the file declares or, without them, the catalogue states."""
        at = self.number - 1
        own: tuple[float, float] = self._persist(lambda d: (d.scales[at], d.offsets[at]))
        stated = self.asset.scale or 1.0, self.asset.offset or 0.0
        return stated if own == (1.0, 0.0) else own

    def _copied(self, dataset: Any, window: Window, nodata: float | None) -> NDArray[np.float32]:
        """Values of a window that may reach beyond the raster, (h, w), NaN without data."""
        values = np.full((window.height, window.width), np.nan, np.float32)
        inside = window.intersect(Window(0, 0, dataset.height, dataset.width))
        if inside.empty:
            return values
        stored = dataset.read(self.number, window=rio_window(inside)).astype(np.float32)
        if nodata is not None and np.isfinite(nodata):
            stored[stored == np.float32(nodata)] = np.nan
        values[inside.within(window).slices] = stored
        return values

    def _persist(self, work: Callable[[Any], T]) -> T:
        """Does some work on the open raster, again where the server fails for a while."""
        while True:
            try:
                with environment(is_remote(self.asset.href)), rasterio.Env(**self._access()):
                    if self._dataset is None:
                        self._dataset = self._opened()
                    result = work(self._dataset)
            except (RasterioError, OSError) as error:
                self.close()
                self._failures += 1
                self._wait(error)
            else:
                self._failures, self._afresh = 0, False
                return result

    def _opened(self) -> Any:
        # Only GeoTIFF: a VRT of a stranger's could name files of this computer.
        remote = is_remote(self.asset.href)
        dataset = rasterio.open(
            self.asset.location(self._afresh), driver="GTiff" if remote else None
        )
        problem = _unplaced(dataset)
        if problem:
            dataset.close()
            raise SceneError(f"{self.label}: {problem}")
        return dataset

    def _access(self) -> dict[str, str]:
        """GDAL's options for this raster."""
        # Without this GDAL would remember that a file could not be opened, and not ask again.
        options = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/", "GDAL_HTTP_MAX_RETRY": "2"}
        host = urlsplit(self.asset.href).hostname or ""
        if host.endswith(_EARTHDATA):
            options |= {"GDAL_HTTP_COOKIEFILE": _cookies(), "GDAL_HTTP_COOKIEJAR": _cookies()}
            token = os.environ.get("EARTHDATA_TOKEN")
            if token:
                options |= {"GDAL_HTTP_AUTH": "BEARER", "GDAL_HTTP_BEARER": token}
        return {k: v for k, v in options.items() if k not in os.environ}

    def _wait(self, error: Exception) -> None:
        """Waits before the next attempt.

        Raises:
            SceneError: Another attempt makes no sense.
        """
        why = gdal_message(error, self.asset.href)
        if not is_remote(self.asset.href):
            raise SceneError(f"{self.label}: cannot be read ({why}); check the file") from None
        answer = self._answer()
        if answer is not None:
            if answer.status is None or answer.status >= 400:
                why = str(answer)
            if answer.status in (401, 403, 409) and self._sign_again():
                return
            if answer.status is not None and answer.status >= 400 and not answer.temporary:
                raise SceneError(f"{self.label}: {_refusal(answer, self.asset.href)}") from None
        if self._failures >= self.patience.attempts:
            raise SceneError(
                f"{self.label}: cannot be read, after {self._failures} attempts ({why}); run the "
                "command again to go on from here"
            ) from None
        pause = self.patience.pause(self._failures, answer.retry_after if answer else None)
        self.tell(f"{self.label}: {why}; asked again in {pause:.3g} s")
        time.sleep(pause)

    def _answer(self) -> Answer | None:
        """What the server says of the raster now; None if it cannot be asked without GDAL."""
        location = self.asset.location()
        return ask(location, self.patience) if is_web(location) else None

    def _sign_again(self) -> bool:
        """Asks for a new signature at the next attempt, unless the last one was just as new."""
        if not is_signable(self.asset.href) or self._afresh:
            return False
        self._afresh = True
        return True


def _unplaced(dataset: Any) -> str | None:
    """Why a raster cannot be laid onto a grid, and what to do; None if it can."""
    if dataset.gcps[0] and dataset.transform.is_identity:
        return GRD
    if dataset.crs is None or dataset.transform.is_identity or dataset.transform.is_degenerate:
        return "has no georeferencing, so nothing says where it lies; choose another collection"
    if np.dtype(dataset.dtypes[0]).kind == "c":
        return "holds complex values (SLC); choose a collection of RTC"
    return None


def _refusal(answer: Answer, href: str) -> str:
    host = urlsplit(href).hostname or ""
    if answer.status in (401, 403) and host.endswith(_EARTHDATA):
        return f"access denied ({answer}); {_LOGIN}"
    if answer.status in (401, 403, 407, 409):
        return (
            f"access denied ({answer}), also with a new signature; ask the catalogue's provider "
            "whether its files need an account"
        )
    if answer.status in (404, 410):
        return (
            f"is gone from the server ({answer}), although the catalogue lists it; leave it out "
            "with another --date, or search anew with --overwrite"
        )
    return f"the server refuses it ({answer}); check the address"


def _shift(own: SceneGrid, grid: SceneGrid) -> tuple[int, int] | None:
    """Rows and columns from a grid's pixels to those of ``own``, if both have the same pixels."""
    if own.crs != grid.crs:
        return None
    pixels = ~own.transform * grid.transform
    rows, cols = round(pixels.f), round(pixels.c)
    # Over the whole width, not only at the corner, the pixels must be the same.
    scale = Affine.translation(cols, rows)
    far = grid.width, grid.height
    here, there = pixels * far, scale * far
    apart = max(abs(here[0] - there[0]), abs(here[1] - there[1]))
    near = max(abs(pixels.c - cols), abs(pixels.f - rows))
    return (rows, cols) if max(near, apart) <= _ALIGNED else None


def _coarser(own: SceneGrid, grid: SceneGrid) -> bool:
    """Whether the pixels of a grid are about twice as large as those of the raster, or larger."""
    if own.crs == grid.crs:
        size = abs(own.transform.a)
    else:
        left, top = own.transform * (0, 0)
        right, bottom = own.transform * (own.width, own.height)
        default, _, _ = calculate_default_transform(
            own.crs, grid.crs, own.width, own.height, left, bottom, right, top
        )
        size = abs(default.a)
    return bool(abs(grid.transform.a) >= _COARSER * size)


_JAR: list[tempfile.TemporaryDirectory[str]] = []


def _cookies() -> str:
    """A file for cookies of a login, which is deleted when the program ends."""
    if not _JAR:
        _JAR.append(tempfile.TemporaryDirectory(prefix="cwsam-geo-", ignore_cleanup_errors=True))
    return os.path.join(_JAR[0].name, "cookies")
