"""Labels on a scene's grid: checked once as a whole, kept as a raster of class sets."""

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
from rasterio.windows import Window as RioWindow

from cwsam_geo.errors import LegendError, OutputError, UsageError
from cwsam_geo.grid import SceneGrid, Window
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.features import Features, Value
from cwsam_geo.io.geolocation import Geolocation
from cwsam_geo.io.opening import environment
from cwsam_geo.io.reference import Reference, open_reference
from cwsam_geo.io.source import Source
from cwsam_geo.legend import Legend, is_code, is_color
from cwsam_geo.tally import windows_over
from cwsam_geo.train.class_sets import CellCounts, ClassSets, cell_shape, count_cells, joined
from cwsam_geo.train.config import ClassMap, LabelledScene

_WINDOW_PIXELS = 1 << 20
_BLOCK = 256
_LISTED = 12
_MANY_COLOURS = 16
_LUT = 1 << 16


@dataclass(frozen=True)
class ScannedLabels:
    """What the labels of a scene came to.

    Attributes:
        cells: The counts by cell; empty where the scene has no label.
        values: Codes, names and colours that occur, as a map writes them.
        remarks: What the user should know of the file.
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
        source: The scene, with the bands and the nodata rule of training: where it has no data,
            there is no label.
        legend: The classes.
        sets: The class sets.
        target: GeoTIFF to write, on the scene's pixels; 0 where there is no label.
        progress: Called with the pixels done.

    Raises:
        UsageError: The labels cannot be laid over the scene, or do not overlap it, or the map
            names what they cannot hold.
        LegendError: They hold codes without a class: codes and pixels are listed.
        SceneError: A file cannot be read.
    """
    location = Geolocation(source.grid, source.label)
    reference = open_reference(scene.pair.labels, location, scene.layer, scene.pair.shared)
    if isinstance(reference, Features):
        raise UsageError(
            f"{scene.pair.labels}: holds points; labels to train on are polygons or a raster"
        )
    shape = cell_shape(source.grid)
    counts = []
    try:
        translator = _Translator(scene.map, legend, sets, reference)
        area = reference.window
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
                    out.write(labels.astype(out.dtypes[0]), 1, window=_rect(window))
                progress(window.height * window.width)
    except RasterioError as error:
        raise OutputError(f"{target}: cannot be written ({error}); is the disk full?") from None
    finally:
        reference.close()
    translator.check()
    return ScannedLabels(joined(counts, shape), translator.values, reference.remarks)


def unmet(scans: Iterable[tuple[ClassMap, Collection[str]]]) -> list[str]:
    """Names and colours in maps that no label has, so that they may be misspelt.

    A map may be for many scenes: what one of them has is met. Codes are not listed.

    Args:
        scans: The map of each scene, and the labels that occur there.
    """
    open_names: dict[object, set[str]] = {}
    for meanings, values in scans:
        names = open_names.setdefault(frozenset(meanings.items()), set(meanings))
        names.difference_update(values)
    return sorted({name for names in open_names.values() for name in names if not is_code(name)})


class LabelRaster:
    """Labels that ``scan_labels`` wrote.

    Args:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            self._dataset = rasterio.open(path)

    def read(self, window: Window) -> NDArray[np.uint16]:
        """Rows of the class sets, (h, w), uint16, of a window inside the scene."""
        labels: NDArray[np.uint16] = self._dataset.read(1, window=_rect(window)).astype(np.uint16)
        return labels

    def close(self) -> None:
        """Closes the file."""
        self._dataset.close()


def _read(
    reference: Reference, translator: _Translator, source: Source, window: Window
) -> NDArray[np.uint16]:
    values, known = reference.read(window)
    labels = translator.rows(values, known)
    if labels.any():
        labels[~source.read(window)[1]] = 0
    return labels


class _Translator:
    """From a label file's values to rows of the class sets; unknown values are counted."""

    def __init__(
        self, meanings: ClassMap | None, legend: Legend, sets: ClassSets, reference: Reference
    ) -> None:
        self._meanings, self._legend, self._sets = meanings, legend, sets
        self._reference = reference
        self._check_map()
        if reference.colors:
            # Refuses classes that share a colour.
            legend.decode_rgb(np.array(legend.entries[0].rgb, np.uint8).reshape(3, 1, 1))
        self._rows: dict[int, int] = {}
        self._unknown: dict[Value, int] = {}
        self._pixels = 0

    @property
    def values(self) -> frozenset[str]:
        """Labels that occur, as a map writes them."""
        return frozenset(str(self._reference.label_of(value)) for value in self._rows)

    def _check_map(self) -> None:
        """Refuses names that no such file holds; they would be dropped without a word."""
        reference = self._reference
        for name in self._meanings or ():
            if reference.colors and not is_color(name):
                raise UsageError(
                    f"{reference.label}: is a picture, so `map:` says what its colours "
                    f"('#rrggbb') are, not {name}"
                )
            if isinstance(reference, ClassRaster) and not reference.colors and not is_code(name):
                raise UsageError(
                    f"{reference.label}: holds codes, so `map:` says what whole numbers are, not "
                    f"{name}"
                )

    def rows(self, values: NDArray[np.int32], known: NDArray[np.bool_]) -> NDArray[np.uint16]:
        """Rows of the class sets, 0 where unknown or not known."""
        out = np.zeros(values.shape, np.uint16)
        picked = values[known]
        if not picked.size:
            return out
        self._pixels += picked.size
        low = int(picked.min())
        if int(picked.max()) - low < _LUT:
            counts = np.bincount(picked - low)
            present = np.flatnonzero(counts)
            table = np.zeros(len(counts), np.uint16)
            table[present] = [
                self._row(v + low, n)
                for v, n in zip(present.tolist(), counts[present].tolist(), strict=True)
            ]
            out[known] = table[picked - low]
        else:
            found, place, numbers = np.unique(picked, return_inverse=True, return_counts=True)
            rows = [self._row(v, n) for v, n in zip(found.tolist(), numbers.tolist(), strict=True)]
            out[known] = np.array(rows, np.uint16)[place]
        return out

    def _row(self, value: int, pixels: int) -> int:
        if value not in self._rows:
            channels = self._channels(self._reference.label_of(value))
            self._rows[value] = -1 if channels is None else self._sets.row(channels)
        row = self._rows[value]
        if row < 0:
            label = self._reference.label_of(value)
            self._unknown[label] = self._unknown.get(label, 0) + pixels
        return max(row, 0)

    def _channels(self, label: Value) -> tuple[int, ...] | None:
        if self._meanings is not None and str(label) in self._meanings:
            return self._meanings[str(label)]
        if self._meanings is not None and not self._reference.colors:
            return None
        for i, entry in enumerate(self._legend.entries):
            names = {entry.color} if self._reference.colors else {str(entry.code), entry.name}
            if str(label) in names:
                return (i,)
        return None

    def check(self) -> None:
        """Raises LegendError where values had no meaning."""
        if not self._unknown:
            return
        order = sorted(self._unknown.items(), key=lambda item: -item[1])
        listed = ", ".join(f"{value} ({n} px)" for value, n in order[:_LISTED])
        more = f" and {len(order) - _LISTED} more" if len(order) > _LISTED else ""
        what = "colours" if self._reference.colors else "codes"
        hint = (
            "so many look like JPEG compression: export the labels losslessly (PNG, GeoTIFF)"
            if self._reference.colors and len(order) > _MANY_COLOURS
            else "say with `map:` which class each is, or ignore"
        )
        raise LegendError(
            f"{self._reference.label}: {what} without an entry in map or classes: "
            f"{listed}{more}; {sum(self._unknown.values())} of {self._pixels} labelled pixels; "
            f"{hint}"
        )


@contextlib.contextmanager
def _label_raster(path: Path, grid: SceneGrid, sets: int) -> Iterator[Any]:
    """A tiled file on the scene's pixels; blocks without a label take no room."""
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


def _rect(window: Window) -> RioWindow:
    return RioWindow(window.col, window.row, window.width, window.height)
