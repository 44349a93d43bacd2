"""Layers of a report's map, made from rasters and vector files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import SceneGrid, Window, same_grid
from cwsam_geo.core.legend import NODATA
from cwsam_geo.core.numbering import numbered
from cwsam_geo.errors import SceneError
from cwsam_geo.io.geolocation import locate, pixel_window, transformed
from cwsam_geo.io.raster_file import grid_of, open_dataset
from cwsam_geo.pages.pyramid import (
    Level,
    code_levels,
    image_url,
    percent_levels,
    picture_levels,
)
from cwsam_geo.rendering.class_view import ClassView, view_classes, view_percent
from cwsam_geo.rendering.coarse import coarse_grid, coarse_shape
from cwsam_geo.rendering.frame import picked
from cwsam_geo.rendering.scene_view import SceneView, view_scene
from cwsam_geo.rendering.stretch import fit_stretch
from cwsam_geo.scene.source import RasterSource

LayerKind = Literal["codes", "percent", "picture", "outlines", "points"]

PathLike = str | os.PathLike[str]

Codes = NDArray[np.int32]
Valid = NDArray[np.bool_]

_STILL = 1000
"""Longest side in pixels of the still picture for paper, about: 15 cm at 170 dots per inch."""

_STRETCH_SIZE = 1024
"""Longest side in pixels of the view that a scene's stretch is fitted to."""

_MOST_SIDE = 4096
"""Longest side in pixels of a view of a scene that is laid over another grid."""

_ROWS = 64
"""Rows that are numbered at once, which bounds the memory of a large layer."""

_MOST_CLASSES = NODATA
"""Different classes that a layer can hold in a byte, beside nodata."""

_CONFIDENCE = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725")
"""Viridis: even steps of lightness, also for those who confuse red and green."""


@dataclass(frozen=True)
class Entry:
    """A value of a layer: its number in the embedded array, its name and colour."""

    code: int
    name: str
    color: str


@dataclass(frozen=True)
class Layer:
    """A layer of the map.

    Attributes:
        id: Name in the page's script, of letters only.
        name: Name that the reader sees.
        asked: What a click reads, such as ``class``.
        levels: The embedded raster, the finest level first.
        entries: Classes, or the colours of percentages.
        rings: Outlines as flat lists of columns and rows, each a difference to the one before.
        caption: What the reader should know about the layer, or empty.
        still: Data URL of a small picture of the whole layer, or empty.
    """

    id: str
    name: str
    kind: LayerKind
    asked: str = ""
    levels: Sequence[Level] = ()
    entries: Sequence[Entry] = ()
    rings: Sequence[Sequence[int]] = ()
    caption: str = ""
    still: str = ""
    shown: bool = True
    opacity: float = 1.0
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The layer for the page's script."""
        return {
            "id": self.id,
            "kind": self.kind,
            "asked": self.asked,
            "shown": self.shown,
            "opacity": self.opacity,
            "nodata": NODATA,
            "entries": [[e.code, e.name, e.color] for e in self.entries],
            "levels": [level.to_dict() for level in self.levels],
            "rings": self.rings,
            **self.more,
        }


class _Numbers:
    """Numbers codes of any size from 0, in the order in which they are met."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._number_by_code: dict[int, int] = {}

    def of(self, codes: Codes, valid: Valid) -> NDArray[np.uint8]:
        """Numbers of codes; ``NODATA`` where not valid.

        Raises:
            SceneError: There are too many codes for classes.
        """
        numbers = np.full(codes.shape, NODATA, np.uint8)
        for top in range(0, len(codes), _ROWS):
            rows = slice(top, top + _ROWS)
            occurring, places = numbered(codes[rows][valid[rows]])
            table = np.array([self._number(c) for c in occurring.tolist()], np.uint8)
            if len(table):
                numbers[rows][valid[rows]] = table[places]
        return numbers

    def _number(self, code: int) -> int:
        number = self._number_by_code.setdefault(code, len(self._number_by_code))
        if number >= _MOST_CLASSES:
            raise SceneError(
                f"{self._label}: holds more than {_MOST_CLASSES} different values, too many for "
                "classes; give a class raster"
            )
        return number

    def entries(self, classes: Iterable[tuple[int, str, str]]) -> list[Entry]:
        """Entries of classes (code, name, colour), in their order."""
        return [Entry(self._number(code), name, color) for code, name, color in classes]


Classes = Callable[[], Iterable[tuple[int, str, str]]]


def codes_layer(
    read: Callable[[int], tuple[Codes, Valid]],
    grid: SceneGrid,
    classes: Classes,
    budget: int,
    layer: Layer,
) -> Layer:
    """A layer of class codes.

    Args:
        read: Returns codes and where they are valid, (h, w) each, for a size of the longer side.
        grid: The raster's grid.
        classes: Called after all reading; code, name and colour of each class.
        budget: Characters that the layer may take, about.
        layer: The layer without its content.
    """
    numbers = _Numbers(layer.name)
    shape = grid.height, grid.width
    levels = code_levels(lambda size: numbers.of(*read(size)), shape, budget)
    codes, valid = read(_STILL)
    small = numbers.of(codes, valid)
    entries = numbers.entries(classes())
    table = np.zeros((NODATA + 1, 4), np.uint8)
    for entry in entries:
        table[entry.code] = (*bytes.fromhex(entry.color[1:]), 255)
    return _filled(layer, levels, entries, image_url(table[small], lossless=True))


def class_layer(path: PathLike, budget: int, layer: Layer, band: int | str | None = None) -> Layer:
    """A layer of the classes of a raster; see ``codes_layer``.

    Raises:
        SceneError: The raster cannot be read, or holds no classes.
    """
    finest: list[ClassView] = []

    def read(size: int) -> tuple[Codes, Valid]:
        view = view_classes(path, size=size, band=band)
        if not finest or view.codes.size > finest[0].codes.size:
            finest[:] = [view]
        return view.codes, view.valid

    def classes() -> list[tuple[int, str, str]]:
        # The finest view knows every class that occurs in what is embedded.
        return [(e.code, e.name, e.color) for e in finest[0].entries]

    return codes_layer(read, raster_grid(path), classes, budget, layer)


def percent_layer(path: PathLike, grid: SceneGrid, budget: int, layer: Layer) -> Layer:
    """A layer of percentages, such as confidence.

    Args:
        path: Raster of per cent on ``grid``.
        grid: The map's grid.
        budget: Characters that the layer may take, about.
        layer: The layer without its content.

    Raises:
        SceneError: The raster cannot be read.
    """

    def read(size: int) -> NDArray[np.uint8]:
        percent, valid = view_percent(path, size)
        return np.where(valid, percent, NODATA).astype(np.uint8)

    levels = percent_levels(read, (grid.height, grid.width), budget)
    entries = [Entry(n, f"{n} %", color) for n, color in enumerate(_ramp(_CONFIDENCE, 101))]
    table = np.zeros((NODATA + 1, 4), np.uint8)
    table[:101] = [(*bytes.fromhex(e.color[1:]), 255) for e in entries]
    return _filled(layer, levels, entries, image_url(table[read(_STILL)], lossless=True))


def scene_layer(source: RasterSource, grid: SceneGrid, budget: int, layer: Layer) -> Layer:
    """A layer of the scene, stretched.

    Args:
        source: The scene, on any grid.
        grid: The map's grid, on which the scene is shown.
        budget: Characters that the layer may take, about.
        layer: The layer without its content.

    Raises:
        SceneError: The scene cannot be read.
        UsageError: The scene cannot be laid over the map.
    """
    pictures = ScenePictures(source, grid)
    levels = picture_levels(pictures.read, (grid.height, grid.width), budget)
    filled = _filled(layer, levels, (), image_url(pictures.read(_STILL)))
    captions = [
        f"{layer.name}: {'; '.join(pictures.stretch.describe())}.",
        *pictures.remarks,
        filled.caption,
    ]
    return replace(filled, caption=" ".join(c for c in captions if c))


class ScenePictures:
    """Stretched pictures of a scene on a map's grid.

    Args:
        source: The scene.
        grid: The map's grid.

    Attributes:
        stretch: How values become colours.
        remarks: What the reader should know about the picture.

    Raises:
        SceneError: The scene cannot be read.
    """

    def __init__(self, source: RasterSource, grid: SceneGrid) -> None:
        self._source, self._grid = source, grid
        self._part = _part_of(source.grid, grid)
        view = view_scene(source, _STRETCH_SIZE, window=self._part)
        self.stretch = fit_stretch(view)
        self.remarks = view.remarks

    def read(self, size: int) -> NDArray[np.uint8]:
        """The picture, (h, w, 4) RGBA, of at most ``size`` pixels along the longer side.

        Raises:
            SceneError: The scene cannot be read.
            UsageError: The scene cannot be laid over the map.
        """
        return self._picture(self._grid.window, size)

    def of(self, window: Window) -> NDArray[np.uint8]:
        """The picture of a window of the map, (h, w, 4) RGBA.

        Raises:
            SceneError: The scene cannot be read.
            UsageError: The scene cannot be laid over the map.
        """
        return self._picture(window, max(window.height, window.width))

    def _picture(self, window: Window, size: int) -> NDArray[np.uint8]:
        """The picture of a window of the map with at most ``size`` pixels along its longer side."""
        if self._part is not None:
            own = window.shift(self._part.row, self._part.col)
            return self._stretched(view_scene(self._source, size, window=own))
        onto = reduced_grid(self._grid.crop(window), size)
        # The scene lies otherwise: it is read around the window, at about the same resolution.
        around = locate(onto, "the map")
        place = locate(self._source.grid, self._source.label)
        x, y = transformed(*around.outline(), around.crs, place.crs)
        good = np.isfinite(x) & np.isfinite(y)
        if not good.any():
            return np.zeros((onto.height, onto.width, 4), np.uint8)
        cols, rows = place.to_pixels(x[good], y[good])
        bounds = (cols.min() - 2, rows.min() - 2, cols.max() + 2, rows.max() + 2)
        own = pixel_window(bounds, self._source.grid)
        if own.empty:
            return np.zeros((onto.height, onto.width, 4), np.uint8)
        longest = max(onto.height, onto.width)
        view = view_scene(self._source, min(2 * longest, _MOST_SIDE), window=own)
        picked_rows, picked_cols, inside = picked(view.grid, onto, self._source.label)
        picture = self._stretched(view)[picked_rows, picked_cols]
        picture[~inside] = 0
        return picture

    def _stretched(self, view: SceneView) -> NDArray[np.uint8]:
        rgb = self.stretch.apply(view.values, view.valid)
        return np.dstack([rgb, np.where(view.valid, 255, 0).astype(np.uint8)])


def _part_of(scene: SceneGrid, grid: SceneGrid) -> Window | None:
    """The window of a scene that a map of it covers; None if the map has another grid."""
    if same_grid(scene, grid):
        return scene.window
    if not scene.georeferenced:
        return None
    if scene.gcps and grid.gcps:
        col = round(scene.gcps[0].col - grid.gcps[0].col)
        row = round(scene.gcps[0].row - grid.gcps[0].row)
    elif scene.transform.is_degenerate or scene.gcps or grid.gcps:
        return None
    else:
        t = grid.transform
        col, row = (round(v) for v in ~scene.transform * (t.c, t.f))
    window = Window(row, col, grid.height, grid.width)
    inside = window.intersect(scene.window) == window
    return window if inside and same_grid(scene.crop(window), grid) else None


def reduced_grid(grid: SceneGrid, size: int) -> SceneGrid:
    """A grid with larger pixels, of at most ``size`` along the longer side."""
    return coarse_grid(grid, coarse_shape(grid.height, grid.width, size))


def raster_grid(path: PathLike) -> SceneGrid:
    """The grid of a raster.

    Raises:
        SceneError: The raster cannot be opened.
    """
    with contextlib.closing(open_dataset(path)) as dataset:
        return grid_of(dataset)


def _filled(layer: Layer, levels: Sequence[Level], entries: Sequence[Entry], still: str) -> Layer:
    cell = max(levels[0].cell)
    caption = ""
    if cell > 1:
        caption = (
            f"{layer.name}: shown at 1 : {cell:.3g} of the map's resolution, to keep this file "
            f"small; each value stands for about {cell:.3g} x {cell:.3g} pixels."
        )
    return replace(layer, levels=levels, entries=entries, still=still, caption=caption)


def _ramp(colors: Sequence[str], count: int) -> list[str]:
    """Colours between given ones, at equal steps."""
    stops = np.array([list(bytes.fromhex(c[1:])) for c in colors], np.float64)
    places = np.linspace(0, len(stops) - 1, count)
    channels = [np.interp(places, np.arange(len(stops)), stops[:, i]) for i in range(3)]
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.rint(channels).astype(int).T.tolist()]
