"""Labels of a place: found in a catalogue or a file, and written on the grid of the scenes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from cwsam_geo.core.grid import SceneGrid, Window, same_grid
from cwsam_geo.core.legend import LEGEND_TAG, NODATA, Legend, LegendEntry
from cwsam_geo.core.windows import windows_over
from cwsam_geo.errors import LegendError, SceneError, UsageError
from cwsam_geo.fetch.catalogue import PLANETARY_COMPUTER, SOURCES, Catalogue, Source
from cwsam_geo.fetch.land_cover import LAND_COVER, Meaning
from cwsam_geo.fetch.places import Place
from cwsam_geo.fetch.remote import RemoteRaster
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.raster_file import (
    display_name,
    environment,
    grid_of,
    is_remote,
    reading,
    rio_window,
)
from cwsam_geo.io.raster_sink import RasterLayout, raster_sink
from cwsam_geo.io.web import Patience
from cwsam_geo.scene.stac_item import StacAsset, StacItem

_WINDOW_PIXELS = 1 << 21
"""Pixels that are read and written at once."""


@dataclass(frozen=True)
class LabelSource:
    """Where the labels of a place come from.

    Attributes:
        name: The name or address that the user gave, without query string.
        rasters: Rasters that together cover what they cover of the place; the first one counts.
        legend: Classes of the rasters; None if the rasters name none.
        meanings: What each code means for ``CLASSES``; None if codes are classes themselves.
        items: Ids of the STAC items, or the address.
        licence: Licence, or None where nobody says.
        attribution: Who must be named.
    """

    name: str
    rasters: tuple[StacAsset, ...]
    legend: Legend | None
    meanings: Mapping[int, Meaning] | None
    items: tuple[str, ...]
    licence: str | None
    attribution: str


class LabelFinder:
    """Finds the labels of places.

    Args:
        name: ``worldcover``, ``esri-lulc``, or a path or address of a class raster.
        source: The catalogue of the scenes. Labels are searched there too if it is an address or
            the Planetary Computer, and in the Planetary Computer if it is another one by name.
        year: Year of the scenes: the map of the nearest year is taken.
        patience: How often a server is asked again.
    """

    def __init__(self, name: str, source: Source, year: int, patience: Patience) -> None:
        self._name, self._year, self._patience = name, year, patience
        self._cover = LAND_COVER.get(name)
        own = source.url not in {s.url for s in SOURCES.values()}
        self._url = source.url if own else SOURCES[PLANETARY_COMPUTER].url
        self._catalogue: Catalogue | None = None
        if self._cover is None and not (is_remote(name) or Path(name).is_file()):
            raise UsageError(
                f"--labels {name}: is none of {', '.join(LAND_COVER)}, no file and no address"
            )

    def find(self, place: Place) -> LabelSource:
        """The labels of a place.

        Raises:
            UsageError: The map has nothing there, as in the open sea.
            SceneError: The catalogue fails.
            LegendError: The raster's own legend has a mistake.
        """
        if self._cover is None:
            return self._of_file()
        cover = self._cover
        if self._catalogue is None:
            self._catalogue = Catalogue(self._url, self._patience)
            self._catalogue.collection(cover.collection)
        items = self._nearest(self._catalogue.search(cover.collection, place.boxes, None))
        if not items:
            raise UsageError(
                f"--labels {self._name}: has no map of {place.label}; is it open sea? leave "
                "--labels out to fetch scenes only"
            )
        return LabelSource(
            self._name,
            tuple(item.asset(cover.asset) for item in items),
            cover.legend,
            cover.meanings,
            tuple(item.id for item in items),
            cover.licence,
            cover.attribution,
        )

    def _of_file(self) -> LabelSource:
        name = display_name(self._name)
        with contextlib.closing(ClassRaster(self._name)) as raster:
            if raster.colors:
                raise UsageError(
                    f"--labels {name}: is a picture of colours; give a raster of class codes"
                )
            legend = raster.legend()
        return LabelSource(name, (StacAsset(self._name),), legend, None, (name,), None, name)

    def _nearest(self, items: Sequence[StacItem]) -> list[StacItem]:
        """The items of the year that is nearest to that of the scenes; of two, the later one."""
        by_year: dict[int, list[StacItem]] = {}
        for item in items:
            if item.start is not None:
                by_year.setdefault(item.start.year, []).append(item)
        if not by_year:
            return []
        best = min(by_year, key=lambda year: (abs(year - self._year), -year))
        return sorted(by_year[best], key=lambda item: item.id)


def write_labels(
    path: Path,
    grid: SceneGrid,
    source: LabelSource,
    patience: Patience,
    on_pixels: Callable[[int], None],
    tell: Callable[[str], None] = lambda _: None,
) -> dict[int, int]:
    """Writes the labels of a place as a class raster: codes of the map, nodata 255.

    Returns:
        Pixels of each code that occurs.

    Raises:
        LegendError: The raster holds codes that are no classes of 0 to 254.
        UsageError: There is not one label in the area.
        SceneError: A server fails again and again.
        OutputError: The file cannot be written.
    """
    counts: dict[int, int] = {}
    rasters = [RemoteRaster(asset, patience, tell) for asset in source.rasters]
    tags = {
        "ITEMS": _listed_items(source),
        "LICENCE": source.licence or "not stated",
        "ATTRIBUTION": source.attribution,
        LABELS_TAG: source.name,
    }
    layout = RasterLayout(format="GTiff", legend=source.legend, descriptions=("labels",), tags=tags)
    if source.legend is not None:
        tags[LEGEND_TAG] = source.legend.to_json()
    try:
        reach = [raster.window_on(grid) for raster in rasters]
        with raster_sink(path, grid, layout, overwrite=True) as sink:
            for window in windows_over(grid.window, (512, 512), _WINDOW_PIXELS):
                codes = _codes(rasters, reach, grid, window)
                if source.meanings is not None:
                    # Zero is nodata in both maps, whether or not a file declares it.
                    codes[codes == 0] = NODATA
                values, pixels = np.unique(codes, return_counts=True)
                for value, count in zip(values.tolist(), pixels.tolist(), strict=True):
                    counts[value] = counts.get(value, 0) + count
                _check_codes(counts, source)
                sink.write(window, codes.astype(np.uint8))
                on_pixels(window.height * window.width)
            counts.pop(NODATA, None)
            if not counts:
                raise UsageError(
                    f"--labels {source.name}: has not one label in {path.name}'s area; is it open "
                    "sea? leave --labels out to fetch scenes only"
                )
    finally:
        for raster in rasters:
            raster.close()
    return counts


def is_labels(path: Path, grid: SceneGrid, source: LabelSource) -> bool:
    """Whether a file holds the labels of a source on a grid."""
    if not path.is_file():
        return False
    try:
        with environment(remote=False), rasterio.open(path) as labels:
            tags = labels.tags()
            return same_grid(grid_of(labels), grid) and (
                tags.get(LABELS_TAG),
                tags.get("ITEMS"),
            ) == (source.name, _listed_items(source))
    except RasterioError:
        return False


def label_counts(path: Path, grid: SceneGrid) -> dict[int, int]:
    """Pixels of each code in a raster of labels that is complete.

    Raises:
        SceneError: The file is damaged.
    """
    totals = np.zeros(NODATA + 1, np.int64)
    with reading(path, grid.window), rasterio.open(path) as labels:
        for window in windows_over(grid.window, (512, 512), _WINDOW_PIXELS):
            codes = labels.read(1, window=rio_window(window))
            totals += np.bincount(codes.ravel(), minlength=NODATA + 1)
    return {code: int(totals[code]) for code in np.flatnonzero(totals[:NODATA]).tolist()}


def _listed_items(source: LabelSource) -> str:
    return " ".join(source.items)[:1000]


LABELS_TAG = "CWSAM_GEO_LABELS"
"""Tag of a raster of labels with the name or address of the map that it was made from."""


def _codes(
    rasters: Sequence[RemoteRaster], reach: Sequence[Window], grid: SceneGrid, window: Window
) -> NDArray[np.int32]:
    codes = np.full((window.height, window.width), NODATA, np.int32)
    for raster, covered in zip(rasters, reach, strict=True):
        part = window.intersect(covered)
        if part.empty:
            continue
        place = codes[part.within(window).slices]
        if (place == NODATA).any():
            found = raster.codes(grid, part, NODATA)
            np.copyto(place, found, where=place == NODATA)
    return codes


def _check_codes(counts: Mapping[int, int], source: LabelSource) -> None:
    known = None if source.legend is None else {*map(int, source.legend.codes), NODATA}
    wrong = sorted(
        c for c in counts if not 0 <= c <= NODATA or (source.meanings and known and c not in known)
    )
    if wrong:
        listed = ", ".join(map(str, wrong[:8]))
        raise LegendError(
            f"--labels {source.name}: holds codes that are no classes of it: {listed}; is it the "
            "right map?"
        )


def legend_of(source: LabelSource, counts: Mapping[int, int]) -> Legend:
    """The classes of labels that name none themselves: one for each code, in shades of grey."""
    if source.legend is not None:
        return source.legend
    codes = sorted(counts)
    if not codes:
        raise SceneError(f"--labels {source.name}: has no labels there")
    shade = [int(v) for v in np.linspace(40, 230, len(codes))]
    return Legend(
        tuple(
            LegendEntry(code, f"class {code}", (s, s, s))
            for code, s in zip(codes, shade, strict=True)
        )
    )
