"""The items of a pass laid onto one grid, window by window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.fetch.passes import Pass
from cwsam_geo.fetch.remote import RemoteRaster
from cwsam_geo.io.web import Patience


class PassMosaic:
    """A pass on the grid of a place.

    Where items overlap, the first one with data counts: neighbouring slices of a pass hold the same
    echoes there. Rasters are opened when a window first needs them.

    Args:
        made: The pass.
        grid: The grid of the place.
        patience: How often a server is asked again.
        tell: Called with a sentence for the user when a server is asked again.
    """

    def __init__(
        self,
        made: Pass,
        grid: SceneGrid,
        patience: Patience,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._grid = grid
        self._items = [
            [RemoteRaster(asset, patience, tell) for asset in assets] for assets in made.assets
        ]
        self._reach: dict[int, Window] = {}

    def pixel_size(self) -> float | None:
        """Side of a pixel of the first item, if its CRS has the units of the grid's; else None.

        Raises:
            SceneError: See ``read``.
        """
        own, crs = self._items[0][0].grid, self._grid.crs
        if own.crs is None or crs is None or not crs.is_projected:
            return None
        return abs(own.transform.a) if own.crs.linear_units == crs.linear_units else None

    def read(self, window: Window) -> NDArray[np.float32]:
        """Values of a window inside the grid, (N, h, w) float32, NaN where no item has data.

        Raises:
            SceneError: A server fails again and again, or refuses a raster.
        """
        shape = len(self._items[0]), window.height, window.width
        values = np.full(shape, np.nan, np.float32)
        for number, rasters in enumerate(self._items):
            empty = np.isnan(values)
            if not empty.any():
                break
            if number not in self._reach:
                self._reach[number] = rasters[0].window_on(self._grid)
            part = window.intersect(self._reach[number])
            if part.empty:
                continue
            rows, cols = part.within(window).slices
            for plane, lacking, raster in zip(values, empty, rasters, strict=True):
                found = raster.measured(self._grid, part)
                np.copyto(plane[rows, cols], found, where=lacking[rows, cols])
        return values

    def close(self) -> None:
        """Closes the rasters."""
        for rasters in self._items:
            for raster in rasters:
                raster.close()

    def __enter__(self) -> PassMosaic:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
