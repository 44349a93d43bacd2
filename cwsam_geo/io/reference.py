"""What a map or a scene is compared with: class rasters, polygons, or a sample of points."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from cwsam_geo.errors import UsageError
from cwsam_geo.grid import SceneGrid, Window
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.features import Features, Layer, Value, burn, is_vector, read_features
from cwsam_geo.io.geolocation import Geolocation, window_around


class Reference(Protocol):
    """Class labels on a grid, read window by window.

    Attributes:
        grid: The grid.
        label: The file's name in messages.
        colors: True where values are packed colours of a picture.
        remarks: What the user should know of the file.
    """

    grid: SceneGrid
    label: str
    colors: bool
    remarks: tuple[str, ...]

    @property
    def window(self) -> Window:
        """Pixels of ``grid`` that may have a label."""

    def read(self, window: Window) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Values (h, w), int32, and where there is a label."""

    def label_of(self, value: int) -> Value:
        """What a user calls a value: a code, a name, or a colour ``#rrggbb``."""

    def close(self) -> None:
        """Lets go of the file."""


class PolygonReference:
    """Polygons, rasterised window by window.

    A pixel has the class of the polygon that its centre lies in; of several, the last in the
    file, as ``gdal_rasterize`` has it.

    Args:
        features: The polygons.
        grid: The grid on which windows are read.
    """

    def __init__(self, features: Features, grid: SceneGrid) -> None:
        self.grid, self.label, self.colors = grid, features.label, False
        self.remarks = features.remarks
        self._features = features
        self._tree = shapely.STRtree(features.shapes)

    @property
    def window(self) -> Window:
        """Pixels that a polygon may cover."""
        return window_around(self._features.shapes, self.grid)

    def label_of(self, value: int) -> Value:
        """The class of a value, as the file names it."""
        return self._features.names[value]

    def read(self, window: Window) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Values (h, w), int32, and where there is a polygon."""
        box = shapely.box(window.col, window.row, window.right, window.bottom)
        found = np.sort(self._tree.query(box))
        shapes, values = self._features.shapes[found], self._features.values[found]
        burned = burn(shapes, values + 1, window)
        return burned - 1, burned > 0

    def close(self) -> None:
        """Nothing to let go of."""


def open_reference(
    path: str | os.PathLike[str], onto: Geolocation, layer: Layer, blank: bool = False
) -> Reference | Features:
    """Opens labels for a grid.

    Args:
        path: A class raster or label picture, or a vector file.
        onto: The grid.
        layer: Part of a vector file to read.
        blank: Whether no feature near the grid needs to have a class, as where several scenes
            share the file.

    Returns:
        A reference, or the features where they are points.

    Raises:
        UsageError: The file cannot be laid over the grid, or is not what it should be.
        SceneError: The raster cannot be read.
    """
    if not is_vector(path):
        if layer != Layer():
            raise UsageError(f"{path}: is a raster; a column or layer is for vector files")
        return ClassRaster(path, onto)
    features = read_features(path, onto, layer)
    if features.unlabelled and not len(features.shapes) and not blank:
        column = f"the column {layer.column!r}" if layer.column else "its only column"
        raise UsageError(
            f"{path}: none of its {features.unlabelled} features here has a class: {column} is "
            "empty; name another (--column)"
        )
    return features if features.points else PolygonReference(features, onto.grid)
