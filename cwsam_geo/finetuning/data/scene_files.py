"""Scenes and label rasters that each process opens for itself, on first use."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.preprocess import SceneBands
from cwsam_geo.errors import SceneError
from cwsam_geo.finetuning.data.labels import LabelRaster
from cwsam_geo.finetuning.split.roles import SceneRoles
from cwsam_geo.scene.bands import Nodata, ZeroPower
from cwsam_geo.scene.source import RasterSource, open_source

# Scenes that a process keeps open at a time; each may be several files.
_OPEN_FILES = 16


@dataclass(frozen=True)
class SceneFile:
    """How to open a scene for a model.

    Attributes:
        paths: One file with all bands, or one file for each band.
        selected: Selected bands, from 1, or None for all.
        nodata: The user's nodata value, or None for the one that the file declares.
        scaling: The user's scale and offset, or None for the file's own.
        kept: Indices of the bands that the model takes, among the selected ones, from 0.
        zero: How pixels of power 0 are read.
        bands: Which kept band is which band of the model.
        grid: Shape and georeferencing.
        label: Name for messages.
        calibrated: Whether values are read as sigma nought, by the tables of the Sentinel-1
            product.
    """

    paths: tuple[str, ...]
    selected: tuple[int, ...] | None
    nodata: Nodata
    scaling: tuple[float | None, float | None]
    kept: tuple[int, ...]
    zero: ZeroPower
    bands: SceneBands
    grid: SceneGrid
    label: str
    calibrated: bool = False

    def open(self) -> RasterSource:
        """Opens the scene with the kept bands.

        Raises:
            SceneError: The scene cannot be read, or its calibration tables are gone.
        """
        with contextlib.ExitStack() as stack:
            whole = stack.enter_context(
                open_source(self.paths, self.selected, self.nodata, *self.scaling)
            )
            source = whole.with_bands(self.kept).with_zero(self.zero)
            if self.calibrated:
                source = source.calibrated()
                if not source.tables:
                    raise SceneError(
                        f"{self.label}: its calibration tables are gone; put them back"
                    )
            # No error: leave the file open for the caller.
            stack.pop_all()
        return source


@dataclass(frozen=True)
class TileScene:
    """A scene that tiles are cut from.

    Attributes:
        file: How to open the scene.
        labels: Raster of the labels, as rows of the class sets; see ``LabelRaster``.
        regions: Roles of the pixels.
    """

    file: SceneFile
    labels: Path
    regions: SceneRoles


@dataclass(frozen=True)
class RawTile:
    """An unprocessed tile. Pixels outside the scene are not valid.

    Attributes:
        values: Raw values, shape (N, T, T), float32.
        valid: True is data, shape (T, T), bool.
        labels: Rows of the class sets, 0 where there is no data, shape (T, T), uint16.
        roles: Roles of the pixels, 0 (unused) outside the scene, shape (T, T), uint8.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    labels: NDArray[np.uint16]
    roles: NDArray[np.uint8]


class SceneReader:
    """Reads tiles of several scenes, with at most 16 scenes open at a time.

    A reader can be pickled. In the other process it opens the files again.
    """

    def __init__(self, scenes: Sequence[TileScene]) -> None:
        self.scenes = tuple(scenes)
        self._open: OrderedDict[int, tuple[RasterSource, LabelRaster]] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        return {"scenes": self.scenes, "_open": OrderedDict()}

    def read(self, index: int, window: Window) -> RawTile:
        """Reads a tile of a scene.

        Args:
            window: Pixels of the tile; it may extend beyond the scene.

        Raises:
            SceneError: The scene is damaged within the window.
        """
        scene = self.scenes[index]
        inside = window.intersect(scene.file.grid.window)
        shape = window.height, window.width
        # Outside the scene: values of 1, which have a logarithm, and no data, label or role.
        values = np.ones((len(scene.file.kept), *shape), np.float32)
        valid = np.zeros(shape, np.bool_)
        labels = np.zeros(shape, np.uint16)
        roles = np.zeros(shape, np.uint8)
        if not inside.empty:
            source, raster = self._files(index)
            place = inside.within(window).slices
            values[(slice(None), *place)], valid[place] = source.read(inside)
            labels[place] = raster.read(inside)
            roles[place] = scene.regions.of(inside)
            labels[~valid] = 0
        return RawTile(values, valid, labels, roles)

    def _files(self, index: int) -> tuple[RasterSource, LabelRaster]:
        """The open files of a scene. The least recently used scene is closed to make room."""
        if index not in self._open:
            while len(self._open) >= _OPEN_FILES:
                self._close(self._open.popitem(last=False)[1])
            scene = self.scenes[index]
            self._open[index] = scene.file.open(), LabelRaster(scene.labels)
        self._open.move_to_end(index)
        return self._open[index]

    @staticmethod
    def _close(files: tuple[RasterSource, LabelRaster]) -> None:
        for file in files:
            file.close()

    def close(self) -> None:
        """Closes the files."""
        while self._open:
            self._close(self._open.popitem()[1])
