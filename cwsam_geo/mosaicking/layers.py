"""The maps of a mosaic: what each of them is, and whether they belong together."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rasterio.enums import MaskFlags

from cwsam_geo.core.counting import how_many
from cwsam_geo.core.grid import SceneGrid, same_grid
from cwsam_geo.core.legend import LEGEND_TAG, Legend
from cwsam_geo.errors import LegendError, SceneError, UsageError
from cwsam_geo.io.class_band import ClassBand
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.geolocation import Geolocation
from cwsam_geo.io.raster_file import grid_of, open_dataset

_MOST_OPEN = 48
"""Rasters that are open at a time: many systems allow a process 256 open files."""

_OWN_TAGS = ("_FINGERPRINT", "_DATETIME", "_SOFTWARE", "AREA_OR_POINT", "_INPUT")
"""Ends of tags that are true of one map only."""

_RUN_TAGS = ("CWSAM_GEO_INPUT", "CWSAM_GEO_SETTINGS", "TIFFTAG_DATETIME")
"""Tags that the map and the confidence of one run of ``predict`` have in common."""


@dataclass(frozen=True)
class Layer:
    """A map of a mosaic.

    Attributes:
        tags: Dataset tags.
        plain: Whether its pixels without data all have one stored value, as GDAL's VRT needs it.
        confidence: Its raster of confidence, or None.
    """

    path: Path
    grid: SceneGrid
    legend: Legend | None
    tags: Mapping[str, str]
    plain: bool
    confidence: Path | None = None


def read_layers(paths: Sequence[str | os.PathLike[str]]) -> list[Layer]:
    """Opens each map once, to see what it is.

    Raises:
        SceneError: A file is no class raster.
        LegendError: The maps have different classes.
    """
    layers = [_layer(Path(path)) for path in paths]
    first = layers[0]
    for other in layers[1:]:
        _check_legends(first, other)
    return layers


def _layer(path: Path) -> Layer:
    band = ClassBand(path)
    try:
        if band.colors:
            raise SceneError(f"{path}: is a picture, not a class raster; give class rasters")
        flags = band.dataset.mask_flag_enums[band.numbers[0] - 1]
        return Layer(
            path,
            band.grid,
            band.names.legend((), band.dataset.nodata),
            band.dataset.tags(),
            plain=band.numbers == [1]
            and band.dtype == "uint8"
            and not band.alpha
            and MaskFlags.per_dataset not in flags,
        )
    finally:
        band.close()


def _check_legends(first: Layer, other: Layer) -> None:
    a, b = (_classes(layer.legend) for layer in (first, other))
    if a == b:
        return
    if not a or not b:
        lacking, having = (first, other) if not a else (other, first)
        raise LegendError(
            f"{lacking.path}: has no class names, but {having.path} has; the maps of a mosaic need "
            "one legend"
        )
    code = next(c for c in sorted({**a, **b}) if a.get(c) != b.get(c))
    texts = [
        f"{names[code]!r} in {layer.path}" if code in names else f"no class in {layer.path}"
        for names, layer in ((a, first), (b, other))
    ]
    raise LegendError(
        f"{other.path}: its classes differ: code {code} is {' and '.join(texts)}; the maps of a "
        "mosaic need one legend, so map all scenes with one model"
    )


def _classes(legend: Legend | None) -> dict[int, str]:
    return {} if legend is None else {e.code: e.name for e in legend.entries}


def common_tags(layers: Sequence[Layer]) -> dict[str, str]:
    """Tags that all maps have with the same value, except those that tell of one map or file."""
    first, *others = (layer.tags for layer in layers)
    return {
        key: value
        for key, value in first.items()
        if not key.endswith(_OWN_TAGS)
        and key != LEGEND_TAG
        and all(tags.get(key) == value for tags in others)
    } | ({LEGEND_TAG: layers[0].legend.to_json()} if layers[0].legend is not None else {})


def with_confidence(
    layers: Sequence[Layer], paths: Sequence[str | os.PathLike[str]]
) -> list[Layer]:
    """The maps with their rasters of confidence, found by the tags of ``predict``, else by order.

    Raises:
        UsageError: A map has no raster of confidence of its own, or one is left over.
        SceneError: A file cannot be read, or is not on the grid of its map.
    """
    if len(paths) != len(layers):
        raise UsageError(
            f"--confidence: {how_many(len(paths), 'raster')} for {how_many(len(layers), 'map')}; "
            "give one for each map"
        )
    rasters = [_percentages(Path(path)) for path in paths]
    keys = [_run_of(tags) for _, _, tags in rasters]
    by_run = None not in keys and len(set(keys)) == len(keys)
    paired = []
    for i, layer in enumerate(layers):
        run = _run_of(layer.tags)
        position = keys.index(run) if by_run and run in keys else i
        path, grid, _ = rasters[position]
        if not same_grid(layer.grid, grid):
            raise SceneError(
                f"{path}: is not on the grid of {layer.path}; give the rasters of confidence in "
                "the order of the maps"
            )
        paired.append(replace(layer, confidence=path))
    if len({layer.confidence for layer in paired}) < len(paired):
        raise UsageError("--confidence: two maps have the same raster; give one for each map")
    return paired


def _percentages(path: Path) -> tuple[Path, SceneGrid, Mapping[str, str]]:
    with open_dataset(path) as dataset:
        if dataset.dtypes[0] != "uint8":
            raise SceneError(
                f"{path}: holds {dataset.dtypes[0]}, but confidence is given in per cent as uint8, "
                "as predict writes it"
            )
        return path, grid_of(dataset), dataset.tags()


def _run_of(tags: Mapping[str, str]) -> tuple[str, ...] | None:
    values = [tags.get(name) for name in _RUN_TAGS]
    return None if None in values else tuple(map(str, values))


class OpenRasters:
    """Opens rasters when they are read, and closes those that were read longest ago.

    Args:
        onto: The grid on which they are read; None for the grid of each raster.
    """

    def __init__(self, onto: Geolocation | None) -> None:
        self._onto = onto
        self._open: OrderedDict[Path, ClassRaster] = OrderedDict()

    def get(self, path: Path, band: int | None = None) -> ClassRaster:
        """The open raster of a path.

        Args:
            band: Number of its band; None to find the band of class codes.
        """
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        while len(self._open) >= _MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        raster = ClassRaster(path, self._onto, band)
        self._open[path] = raster
        return raster

    def close(self) -> None:
        """Closes all."""
        for raster in self._open.values():
            raster.close()
        self._open.clear()

    def __enter__(self) -> OpenRasters:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
