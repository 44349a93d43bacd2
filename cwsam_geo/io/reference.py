"""Reference labels for a map or a scene: class rasters, polygons, or sample points."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from cwsam_geo.core.class_values import Value
from cwsam_geo.core.counting import how_many
from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import Legend
from cwsam_geo.errors import UsageError
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.geolocation import Geolocation, window_around
from cwsam_geo.io.vector_file import Features, VectorLayer, burn, is_vector, read_features

_FEW_CLASSES = 64
"""Classes in a window up to which overlaps are counted; each class costs a pass over the window."""


class Reference(Protocol):
    """Class labels on a grid, read window by window.

    Attributes:
        grid: The grid on which windows are read.
        label: The file's name in messages.
        colors: True if values are packed colours of a picture.
    """

    grid: SceneGrid
    label: str
    colors: bool

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on the file for the user, complete after the last window was read."""

    @property
    def window(self) -> Window:
        """Pixels of ``grid`` that may have a label."""

    def read(self, window: Window) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Values, (h, w) int32, and where there is a label, (h, w) bool."""

    def label_of(self, value: int) -> Value:
        """The class of a value as the file writes it: a code, a name, or a colour ``#rrggbb``."""

    def legend(self) -> Legend | None:
        """The file's own legend, if it has one."""

    def close(self) -> None:
        """Closes the file."""


class PolygonReference:
    """Polygons, rasterised window by window.

    A pixel has the class of the polygon that contains its centre. Where polygons overlap, the
    last one in the file counts, as in ``gdal_rasterize``. ``remarks`` says so after windows with
    pixels in polygons of different classes have been read.

    Args:
        features: Polygons in pixel coordinates of ``grid``.
        grid: The grid on which windows are read.
    """

    def __init__(self, features: Features, grid: SceneGrid) -> None:
        self.grid, self.label, self.colors = grid, features.label, False
        self._features = features
        self._disputed = 0
        self._tree = shapely.STRtree(features.shapes)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on the file, and on overlapping polygons in the windows read so far."""
        if not self._disputed:
            return self._features.remarks
        overlap = (
            f"{self.label}: polygons of different classes overlap on "
            f"{how_many(self._disputed, 'pixel')}; the one that is later in the file counts"
        )
        return (*self._features.remarks, overlap)

    @property
    def window(self) -> Window:
        """Pixels that a polygon may cover."""
        return window_around(self._features.shapes, self.grid)

    def label_of(self, value: int) -> Value:
        """The code or name of the class in the file."""
        return self._features.names[value]

    def legend(self) -> Legend | None:
        """None: a vector file names the class of each polygon."""
        return None

    def read(self, window: Window) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Values, (h, w) int32, and where there is a polygon, (h, w) bool."""
        box = shapely.box(window.col, window.row, window.right, window.bottom)
        # Sorted, because the order in the file decides where polygons overlap.
        indexes = np.sort(self._tree.query(box))
        shapes, values = self._features.shapes[indexes], self._features.values[indexes]
        # Rasterise class by class, which costs no more than all at once: polygons of two classes
        # on one pixel are an overlap. 0 means that there is no polygon, n the n-th in the file.
        last = np.zeros((window.height, window.width), np.int32)
        disputed = np.zeros(last.shape, np.bool_)
        for chosen in _by_class(values):
            layer = burn(shapes[chosen], chosen + 1, window)
            disputed |= (last > 0) & (layer > 0)
            np.maximum(last, layer, out=last)
        self._disputed += int(disputed.sum())
        labelled = last > 0
        classes = np.zeros(last.shape, np.int32)
        classes[labelled] = values[last[labelled] - 1]
        return classes, labelled

    def close(self) -> None:
        """Does nothing: the file is not open."""


def _by_class(values: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Indexes of the features of each class; of all together where there are many classes."""
    classes = np.unique(values)
    if len(classes) > _FEW_CLASSES:
        return [np.arange(len(values))]
    return [np.flatnonzero(values == c) for c in classes]


def open_reference(
    path: str | os.PathLike[str],
    onto: Geolocation,
    layer: VectorLayer,
    blank: bool = False,
    band: int | str | None = None,
) -> Reference | Features:
    """Opens reference labels for a grid.

    Args:
        path: A class raster or label picture, or a vector file.
        onto: The grid on which labels are read.
        layer: Layer and column of a vector file.
        blank: If True, a vector file may have no labelled feature near the grid. Several scenes
            that share a file need this.
        band: Number (from 1) or name of the band of a raster that holds the class codes.

    Returns:
        A reference; for points, the features themselves.

    Raises:
        UsageError: The file cannot be placed on the grid, or has no usable classes.
        SceneError: The raster cannot be read.
    """
    if not is_vector(path):
        if layer != VectorLayer():
            raise UsageError(f"{path}: is a raster; a column or layer is for vector files")
        return ClassRaster(path, onto, band)
    if band is not None:
        raise UsageError(f"{path}: is a vector file; --band is for rasters")
    features = read_features(path, onto, layer)
    if features.unlabelled and not len(features.shapes) and not blank:
        column = f"the column {layer.column!r}" if layer.column else "its only column"
        raise UsageError(
            f"{path}: {how_many(features.unlabelled, 'feature')} here, but none with a class: "
            f"{column} is empty; name another (--column)"
        )
    return features if features.points else PolygonReference(features, onto.grid)
