"""Class rasters and RGB label pictures, read on their own grid or resampled to another."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from cwsam_geo.core.grid import SceneGrid, Window, same_grid
from cwsam_geo.core.legend import Legend
from cwsam_geo.errors import SceneError
from cwsam_geo.io.class_band import ClassBand, Plane, Valid
from cwsam_geo.io.class_names import ClassNames
from cwsam_geo.io.geolocation import Geolocation, locate, pixel_window, transformed
from cwsam_geo.io.pixel_lookup import nearest_pixels
from cwsam_geo.io.raster_file import reading, rio_window

Codes = NDArray[np.int32]

_PLANE = 'LOCAL_CS["plane",UNIT["metre",1]]'
"""CRS that GDAL gets for grids without one, because a warp needs a CRS on both sides."""


_TOLERANCE = 0.02
"""Pixels of error allowed to GDAL's approximate warp; its default of 0.125 shifts class borders."""

_LARGEST_READ = 1 << 26
"""Largest number of pixels of the raster to read at once if the other grid has control points:
256 MB of int32 codes."""


class ClassRaster:
    """Class codes, or colours, of a raster, read on its own grid or on another.

    Another grid is resampled by nearest neighbour: each of its pixels takes the code of the
    raster's pixel that contains its centre. The colours of RGB pictures are packed as
    ``0xrrggbb``.

    Args:
        path: A raster with one band of class codes, or an 8-bit RGB picture.
        onto: The grid to read on; None for the raster's own grid.
        band: See ``ClassBand``.

    Attributes:
        grid: The grid on which windows are read.
        label: The raster's name in messages.
        colors: True if values are packed colours.
        remarks: Remarks on the file for the user.

    Raises:
        SceneError: The raster cannot be opened, or is not a class raster.
        UsageError: The raster cannot be placed on ``onto``; see ``Geolocation.check_crs``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        onto: Geolocation | None = None,
        band: int | str | None = None,
    ) -> None:
        self._band = ClassBand(path, band)
        self.label, self.colors = self._band.label, self._band.colors
        self.remarks = self._band.remarks
        self.grid: SceneGrid = self._band.grid if onto is None else onto.grid
        self._warped: Any = None
        self._onto: Geolocation | None = None
        try:
            self._own = locate(self._band.grid, self.label)
            if onto is not None and not _alike(self._band.grid, onto.grid):
                onto.check_crs(self._own.crs, self.label)
                self._check_placeable(onto)
                if not (onto.straight and self._own.straight):
                    # WarpedVRT cannot warp to a grid that is placed by control points, and from
                    # one it makes an empty raster if it is told the grid of the result.
                    self._onto = onto
                else:
                    self._warped = self._warp(onto)
        except BaseException:
            self.close()
            raise

    def _check_placeable(self, onto: Geolocation) -> None:
        if not (self.grid.georeferenced and self._own.grid.georeferenced):
            own = self._own.grid
            raise SceneError(
                f"{self.label}: {own.height} x {own.width} px do not fit the "
                f"{onto.grid.height} x {onto.grid.width} px of {onto.label}, and there is no "
                "georeferencing to lay one over the other; georeference both"
            )

    def _warp(self, onto: Geolocation) -> Any:
        # The last band of the warped raster is an alpha band: the file's own, or an added one
        # that is 0 where the file has no data.
        options: dict[str, Any] = {"add_alpha": not self._band.alpha}
        if self._band.alpha:
            options["src_nodata"] = None
        return WarpedVRT(
            self._band.dataset,
            src_crs=self._own.crs or _PLANE,
            crs=onto.crs or _PLANE,
            transform=onto.grid.transform,
            width=onto.grid.width,
            height=onto.grid.height,
            resampling=Resampling.nearest,
            tolerance=_TOLERANCE,
            **options,
        )

    def label_of(self, value: int) -> int | str:
        """The code itself, or the colour as ``#rrggbb``."""
        return f"#{value:06x}" if self.colors else value

    @property
    def window(self) -> Window:
        """Pixels of ``grid`` that the raster may cover."""
        if self._warped is None and self._onto is None:
            return self.grid.window
        onto = self._onto or locate(self.grid, self.label)
        # Project the outline of the raster to the grid, and add a margin for its curvature.
        x, y = transformed(*self._own.outline(), self._own.crs, onto.crs)
        good = np.isfinite(x) & np.isfinite(y)
        if not good.any():
            return Window(0, 0, 0, 0)
        cols, rows = onto.to_pixels(x[good], y[good])
        return pixel_window(
            (cols.min() - 2, rows.min() - 2, cols.max() + 2, rows.max() + 2), self.grid
        )

    @property
    def names(self) -> ClassNames:
        """Names and colours of the codes."""
        return self._band.names

    @property
    def nodata(self) -> float | None:
        """The declared nodata value, or None."""
        nodata: float | None = self._band.dataset.nodata
        return nodata

    def read(self, window: Window) -> tuple[Codes, Valid]:
        """Values, (h, w) int32, and valid, (h, w) bool, of a window inside ``grid``.

        Raises:
            SceneError: The file is damaged, or its values are not integers of 32 bits.
        """
        if self._onto is not None:
            return self._read_bent(window, self._onto)
        if self._warped is None:
            return self._codes(*self._band.read(window))
        rect = rio_window(window)
        with reading(self._band.path, window):
            valid = self._warped.read(self._warped.count, window=rect) > 0
            stored = self._warped.read(self._band.numbers, window=rect)
        if self.colors:
            return self._codes(stored, valid)
        return self._codes(*self._band.to_codes(stored[0], valid))

    def _read_bent(self, window: Window, onto: Geolocation) -> tuple[Codes, Valid]:
        # The pixels of the raster in which the centres lie
        row, col, inside = nearest_pixels(window, onto, self._own)
        values = np.zeros(inside.shape, np.int32)
        valid = np.zeros(inside.shape, np.bool_)
        if not len(row):
            return values, valid
        # Read the smallest window of the raster that holds all of them.
        part = Window(int(row.min()), int(col.min()), int(np.ptp(row)) + 1, int(np.ptp(col)) + 1)
        if part.height * part.width > _LARGEST_READ and window.height > 1:
            return self._read_halves(window, onto)
        codes, good = self._codes(*self._band.read(part))
        values[inside] = codes[row - part.row, col - part.col]
        valid[inside] = good[row - part.row, col - part.col]
        return values, valid

    def _read_halves(self, window: Window, onto: Geolocation) -> tuple[Codes, Valid]:
        # A raster much finer than the grid has too many pixels in one window of the grid.
        half = window.height // 2
        top = Window(window.row, window.col, half, window.width)
        rest = Window(window.row + half, window.col, window.height - half, window.width)
        parts = [self._read_bent(part, onto) for part in (top, rest)]
        return np.vstack([p[0] for p in parts]), np.vstack([p[1] for p in parts])

    def _codes(self, plane: Plane, valid: Valid) -> tuple[Codes, Valid]:
        if self.colors:
            r, g, b = plane.astype(np.int32)
            return (r << 16) | (g << 8) | b, valid
        if plane.dtype == np.uint32 and plane.max(where=valid, initial=0) >= 2**31:
            raise SceneError(f"{self.label}: holds values above 2147483647; give a class raster")
        return plane.astype(np.int32), valid

    def close(self) -> None:
        """Closes the file."""
        if self._warped is not None:
            self._warped.close()
        self._band.close()

    def legend(self, occurring: Collection[int] = ()) -> Legend | None:
        """The raster's legend; None if nothing in the raster or beside it names a class.

        Args:
            occurring: Codes that occur in the raster; see ``ClassNames.legend``.

        Raises:
            LegendError: The ``LEGEND`` tag holds an invalid legend.
        """
        return self.names.legend(occurring, self.nodata)


def _alike(a: SceneGrid, b: SceneGrid) -> bool:
    def points(grid: SceneGrid) -> list[tuple[float, ...]]:
        return [(p.row, p.col, p.x, p.y) for p in grid.gcps] if grid.transform.is_identity else []

    return same_grid(a, b) and points(a) == points(b)
