"""Reads rasters of confidence, which hold how certain each pixel of a class raster is."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from cwsam_geo.core.grid import SceneGrid, Window, same_grid
from cwsam_geo.errors import SceneError
from cwsam_geo.io.class_band import data_bands
from cwsam_geo.io.raster_file import display_name, grid_of, open_dataset, reading, rio_window

_ADVICE = "give the confidence raster that belongs to it (predict --confidence)"

_PERCENT = "%"
"""Sign in the unit or the name of a band whose values are per cents."""


class ConfidenceRaster:
    """A raster with one band of confidences on the grid of a class raster.

    Args:
        path: The file; its scale and offset are applied.
        grid: Grid of the class raster.
        grid_label: Name of the class raster in messages.

    Attributes:
        label: The file's name in messages.

    Raises:
        SceneError: The file cannot be opened, has another grid, or does not have exactly one band
            of values.
    """

    def __init__(self, path: str | os.PathLike[str], grid: SceneGrid, grid_label: str) -> None:
        self.label = display_name(path)
        self._path = path
        self._file = open_dataset(path)
        try:
            self._band = self._checked_band(grid, grid_label)
        except BaseException:
            self.close()
            raise
        place = self._band - 1
        self._scale, self._offset = self._file.scales[place], self._file.offsets[place]
        names = f"{self._file.descriptions[place]} {self._file.units[place]}"
        whole = np.dtype(self._file.dtypes[place]).kind in "iu" and self._scale == 1
        self._most = 100.0 if whole or _PERCENT in names else 1.0

    def _checked_band(self, like: SceneGrid, label: str) -> int:
        grid, bands = grid_of(self._file), data_bands(self._file)
        if np.dtype(grid.dtype).kind == "c" or not same_grid(grid, like):
            raise SceneError(f"{self.label}: is not on the grid of {label}; {_ADVICE}")
        if len(bands) != 1:
            raise SceneError(
                f"{self.label}: has {len(bands)} bands, but a confidence is one value a pixel; "
                f"{_ADVICE}"
            )
        if self._file.colorinterp[bands[0] - 1] == ColorInterp.palette:
            raise SceneError(f"{self.label}: holds classes (a colour table); {_ADVICE}")
        return bands[0]

    def read(self, window: Window) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Values in the file's own unit, and a mask of the valid ones, each (h, w).

        Raises:
            SceneError: The file is damaged.
        """
        with reading(self._path, window):
            stored: NDArray[Any] = self._file.read(self._band, window=rio_window(window))
            valid = self._file.read_masks(self._band, window=rio_window(window)) > 0
        if stored.dtype.kind == "f":
            valid &= np.isfinite(stored)
        values = np.where(valid, stored, 0) * self._scale + self._offset
        return np.where(valid, values, 0.0), valid

    def shares(self, window: Window) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Confidence as a probability from 0 to 1, and a mask of the valid values, each (h, w).

        Whole numbers, and bands with % in their name or unit, are per cents; other values are
        probabilities.

        Raises:
            SceneError: The file is damaged, or a value is no probability.
        """
        values, valid = self.read(window)
        least, most = float(values.min(initial=0)), float(values.max(initial=0))
        if least < 0 or most > self._most:
            wrong = least if least < 0 else most
            kind = "per cents, 0 to 100" if self._most > 1 else "probabilities, 0 to 1"
            raise SceneError(
                f"{self.label}: holds {wrong:g}, but a confidence is a number of {kind} (whole "
                f"numbers and bands with % in their name are per cents); {_ADVICE}"
            )
        return values / self._most, valid

    @property
    def in_percent(self) -> bool:
        """Whether the stored values are per cents, not probabilities."""
        return self._most > 1

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
