"""The pixels of a map and its reference as channels of the compared classes, for pictures."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import NODATA
from cwsam_geo.core.numbering import numbered
from cwsam_geo.core.windows import windows_over
from cwsam_geo.evaluation.result import Evaluation
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.geolocation import locate
from cwsam_geo.io.reference import Reference, open_reference
from cwsam_geo.io.vector_file import Features, burn, read_area

PathLike = str | os.PathLike[str]

Channels = NDArray[np.uint8]
"""Channels of the compared classes, (h, w); ``NODATA`` where a pixel does not count."""


@dataclass(frozen=True)
class ComparedFiles:
    """The files of an evaluation, to be read again.

    Attributes:
        map: The map.
        reference: A reference that covers an area.
        evaluation: What came of the comparison.
    """

    map: PathLike
    reference: PathLike
    evaluation: Evaluation


class ComparedPixels:
    """Map and reference on a grid, as channels after mapping, merging and ignoring.

    Args:
        files: Map, reference and how they correspond.
        grid: The grid to read on: the map's, or one with larger pixels, which take the classes at
            their centres.
    """

    def __init__(self, files: ComparedFiles, grid: SceneGrid) -> None:
        evaluation = files.evaluation
        options = evaluation.options
        self.grid = grid
        self._channels, self._ignored = evaluation.channels, evaluation.classes.ignored
        self._by_code = np.full(256, NODATA, np.uint8)
        for code, channel in evaluation.classes.by_code.items():
            self._by_code[code] = channel
        with contextlib.ExitStack() as stack:
            location = locate(grid, evaluation.map)
            self._map = stack.enter_context(
                contextlib.closing(ClassRaster(files.map, location, options.map_band))
            )
            reference = open_reference(
                files.reference, location, options.layer, blank=True, band=options.band
            )
            assert not isinstance(reference, Features), "points cover no area"
            self._reference: Reference = stack.enter_context(contextlib.closing(reference))
            self._aoi = None if options.aoi is None else read_area(options.aoi, location)
            self._open_files = stack.pop_all()

    def close(self) -> None:
        """Closes the files."""
        self._open_files.close()

    def read(self, window: Window) -> tuple[Channels, Channels]:
        """Channels of the map and of the reference; ``NODATA`` where a pixel does not count.

        Raises:
            SceneError: A file is damaged.
        """
        codes, shown = self._map.read(window)
        mapped = self._by_code[np.where(shown, codes, NODATA)]
        values, labelled = self._reference.read(window)
        labelled &= mapped != NODATA
        if self._aoi is not None:
            labelled &= burn(self._aoi, np.ones(len(self._aoi), np.int32), window) > 0
        reference = np.full(values.shape, NODATA, np.uint8)
        occurring, places = numbered(values[labelled])
        table = np.array([self._channel(v) for v in occurring.tolist()], np.uint8)
        if len(table):
            reference[labelled] = table[places]
        return mapped, reference

    def _channel(self, value: int) -> int:
        channel = self._channels.get(self._reference.label_of(value))
        return NODATA if channel is None or channel in self._ignored else channel

    def windows(self) -> Iterator[Window]:
        """Windows that cover the grid."""
        return windows_over(self.grid.window, self.grid.block_shape)


def compared_arrays(files: ComparedFiles, grid: SceneGrid) -> tuple[Channels, Channels]:
    """Channels of the map and of the reference on all of a grid.

    Raises:
        SceneError: A file is damaged.
    """
    mapped = np.full((grid.height, grid.width), NODATA, np.uint8)
    reference = mapped.copy()
    with contextlib.closing(ComparedPixels(files, grid)) as pixels:
        for window in pixels.windows():
            mapped[window.slices], reference[window.slices] = pixels.read(window)
    return mapped, reference


@dataclass(frozen=True)
class SamplePoint:
    """A compared point: its place in pixels of the map, and its channels."""

    col: float
    row: float
    reference: int
    mapped: int


def sample_points(files: ComparedFiles, grid: SceneGrid) -> list[SamplePoint]:
    """The points of a sample that count.

    Args:
        files: Map and points.
        grid: The map's grid.

    Raises:
        SceneError: The map is damaged.
    """
    evaluation = files.evaluation
    options, classes = evaluation.options, evaluation.classes
    location = locate(grid, evaluation.map)
    features = open_reference(files.reference, location, options.layer)
    assert isinstance(features, Features), "the reference covers an area"
    aoi = None if options.aoi is None else read_area(options.aoi, location)
    points = []
    with contextlib.closing(ClassRaster(files.map, location, options.map_band)) as raster:
        for shape, value in zip(features.shapes, features.values.tolist(), strict=True):
            channel = evaluation.channels.get(features.names[value])
            pixel = Window(math.floor(shape.y), math.floor(shape.x), 1, 1)
            if channel is None or channel in classes.ignored or pixel.intersect(grid.window).empty:
                continue
            if aoi is not None and not burn(aoi, np.ones(len(aoi), np.int32), pixel).any():
                continue
            codes, valid = raster.read(pixel)
            if valid.all() and int(codes[0, 0]) in classes.by_code:
                mapped = classes.by_code[int(codes[0, 0])]
                points.append(SamplePoint(shape.x, shape.y, channel, mapped))
    return points
