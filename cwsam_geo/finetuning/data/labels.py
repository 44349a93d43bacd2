"""Reads label files once, checks them, and stores them as rasters of class sets."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from cwsam_geo.core.class_values import (
    REGION_FILE,
    ClassMap,
    ClassValues,
    Value,
    absent_names,
    value_name,
)
from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.windows import windows_over
from cwsam_geo.errors import OutputError, UsageError
from cwsam_geo.finetuning.region.config import LabelledScene
from cwsam_geo.finetuning.targets.class_sets import (
    CellCounts,
    ClassSets,
    cell_shape,
    count_cells,
    joined,
)
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.geolocation import locate
from cwsam_geo.io.raster_file import environment, rio_window
from cwsam_geo.io.reference import Reference, open_reference
from cwsam_geo.io.vector_file import Features
from cwsam_geo.scene.source import Source

# Pixels of a window, about, in which labels are read.
_WINDOW_PIXELS = 1 << 20
# Side in pixels of a block of the temporary GeoTIFF.
_BLOCK = 256
# Values of a window within a range smaller than this are translated by a lookup table.
_LUT = 1 << 16


@dataclass(frozen=True)
class ScannedLabels:
    """Summary of the labels of a scene.

    Attributes:
        cells: The counts by cell; without entries if the scene has no label.
        values: Codes, names and colours that occur, written as in ``map:``.
        remarks: Sentences about the file for the user.
    """

    cells: CellCounts
    values: frozenset[str]
    remarks: tuple[str, ...]


def scan_labels(
    scene: LabelledScene,
    source: Source,
    legend: Legend,
    sets: ClassSets,
    target: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> ScannedLabels:
    """Reads all labels of a scene once and writes them as rows of the class sets.

    Args:
        scene: The scene's entry in the configuration.
        source: The scene, with the bands and the nodata rule of training. Pixels without data get
            no label.
        sets: The class sets of the region.
        target: GeoTIFF to write on the scene's grid; 0 means no label.
        progress: Called with the number of pixels that were read since the last call.

    Raises:
        UsageError: The labels cannot be placed on the scene or do not overlap it, or ``map:`` has
            names that such a file cannot hold.
        LegendError: The labels hold codes without a class. The message lists codes and pixels.
        SceneError: A file cannot be read.
        OutputError: ``target`` cannot be written.
    """
    location = locate(source.grid, source.label)
    reference = open_reference(
        scene.pair.labels, location, scene.layer, scene.pair.shared, scene.label_band
    )
    if isinstance(reference, Features):
        raise UsageError(
            f"{scene.pair.labels}: holds points; labels to train on are polygons or a raster"
        )
    shape = cell_shape(source.grid)
    counts = []
    try:
        translator = _Translator(scene.map, legend, sets, reference)
        area = reference.window
        # A label file that several scenes share need not overlap each of them.
        if area.empty and not scene.pair.shared:
            raise UsageError(
                f"{reference.label}: the labels do not overlap the scene {source.label}; check "
                "that both show the same place"
            )
        with _label_raster(target, source.grid, len(sets.table)) as out:
            for window in windows_over(area, (_BLOCK, _BLOCK), _WINDOW_PIXELS):
                labels = _read(reference, translator, source, window)
                if labels.any():
                    counts.append(count_cells(labels, window, shape))
                    out.write(labels.astype(out.dtypes[0]), 1, window=rio_window(window))
                progress(window.height * window.width)
        # Unknown values are an error only now, so that the message can list all of them.
        translator.check()
        remarks = (*reference.remarks, *translator.remarks())
        values = frozenset(map(value_name, translator.values))
        return ScannedLabels(joined(counts, shape), values, remarks)
    except RasterioError as error:
        raise OutputError(f"{target}: cannot be written ({error}); is the disk full?") from None
    finally:
        reference.close()


def unused_names(scans: Iterable[tuple[ClassMap, Collection[str]]]) -> list[str]:
    """Names and colours in maps that occur in no label file; see ``absent_names``.

    Scenes with equal maps count together: a name needs to occur in only one of them.

    Args:
        scans: The map of each scene, and the labels that occur in the scene.
    """
    values_by_map: dict[frozenset[tuple[str, tuple[int, ...]]], set[str]] = {}
    for meanings, values in scans:
        values_by_map.setdefault(frozenset(meanings.items()), set()).update(values)
    absent = [absent_names((k for k, _ in m), values) for m, values in values_by_map.items()]
    return sorted({name for names in absent for name in names})


class LabelRaster:
    """Reads the labels that ``scan_labels`` wrote."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            self._dataset = rasterio.open(path)

    def read(self, window: Window) -> NDArray[np.uint16]:
        """Rows of the class sets of a window inside the scene, shape (h, w), uint16."""
        stored = self._dataset.read(1, window=rio_window(window))
        labels: NDArray[np.uint16] = stored.astype(np.uint16)
        return labels

    def close(self) -> None:
        """Closes the file."""
        self._dataset.close()


def _read(
    reference: Reference, translator: _Translator, source: Source, window: Window
) -> NDArray[np.uint16]:
    values, labelled = reference.read(window)
    labels = translator.rows(values, labelled)
    # Read the scene, which takes longer, only where there are labels.
    if labels.any():
        labels[~source.read(window)[1]] = 0
    return labels


class _Translator:
    """Translates a label file's values to rows of the class sets, and counts unknown values."""

    def __init__(
        self, meanings: ClassMap | None, legend: Legend, sets: ClassSets, reference: Reference
    ) -> None:
        self._meanings = ClassValues(legend, reference.label, REGION_FILE, meanings or {})
        self._sets, self._reference = sets, reference
        # Refuse what this kind of file cannot hold, rather than ignore it. Polygons hold anything.
        if reference.colors:
            self._meanings.check_entries("colour", "which is a picture (write '#rrggbb')")
        elif isinstance(reference, ClassRaster):
            self._meanings.check_entries("code", "whose labels are whole numbers")
        # The row of every value so far; -1 for values without a class.
        self._rows: dict[int, int] = {}
        self._unknown: dict[Value, int] = {}
        self._pixels = 0

    @property
    def values(self) -> frozenset[Value]:
        """Labels that occur."""
        return frozenset(self._reference.label_of(value) for value in self._rows)

    def rows(self, values: NDArray[np.int32], labelled: NDArray[np.bool_]) -> NDArray[np.uint16]:
        """Rows of the class sets, shape (h, w); 0 where unlabelled or of an unknown value.

        Args:
            values: Values of the label file, shape (h, w).
            labelled: Where there is a label, shape (h, w).
        """
        out = np.zeros(values.shape, np.uint16)
        label_values = values[labelled]
        if not label_values.size:
            return out
        self._pixels += label_values.size
        low = int(label_values.min())
        if int(label_values.max()) - low < _LUT:
            counts = np.bincount(label_values - low)
            present = np.flatnonzero(counts)
            table = np.zeros(len(counts), np.uint16)
            table[present] = [
                self._row(v + low, n)
                for v, n in zip(present.tolist(), counts[present].tolist(), strict=True)
            ]
            out[labelled] = table[label_values - low]
        else:
            present, index, counts = np.unique(
                label_values, return_inverse=True, return_counts=True
            )
            rows = [self._row(v, n) for v, n in zip(present.tolist(), counts.tolist(), strict=True)]
            out[labelled] = np.array(rows, np.uint16)[index]
        return out

    def _row(self, value: int, pixels: int) -> int:
        """The row of a value; 0 for an unknown value, whose pixels are counted."""
        if value not in self._rows:
            channels = self._meanings.channels(self._reference.label_of(value))
            self._rows[value] = -1 if channels is None else self._sets.row(channels)
        row = self._rows[value]
        if row < 0:
            label = self._reference.label_of(value)
            self._unknown[label] = self._unknown.get(label, 0) + pixels
        return max(row, 0)

    def check(self) -> None:
        """Raises LegendError if the file has values without a class."""
        self._meanings.check_known(self._unknown, self._pixels, "labelled pixels")

    def remarks(self) -> tuple[str, ...]:
        """Remarks on codes that may mean something else than they are taken for."""
        return self._meanings.remarks(self.values, self._reference.legend())


@contextlib.contextmanager
def _label_raster(path: Path, grid: SceneGrid, sets: int) -> Iterator[Any]:
    """Creates a tiled GeoTIFF on the scene's grid; blocks without a label take no disk space."""
    with environment(remote=False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            out = rasterio.open(
                path,
                "w",
                driver="GTiff",
                height=grid.height,
                width=grid.width,
                count=1,
                dtype="uint8" if sets <= 256 else "uint16",
                tiled=True,
                blockxsize=_BLOCK,
                blockysize=_BLOCK,
                compress="DEFLATE",
                zlevel=1,
                sparse_ok=True,
                bigtiff="IF_SAFER",
            )
        with out:
            yield out
