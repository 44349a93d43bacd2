"""STAC items among the locations of a scene: their rasters, and what the items say of these."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cwsam_geo.errors import SceneError
from cwsam_geo.io.raster_file import Location
from cwsam_geo.scene.acquisition import Acquisition
from cwsam_geo.scene.bands import Band, Nodata
from cwsam_geo.scene.files import Part
from cwsam_geo.scene.locations import raster_files
from cwsam_geo.scene.stac_item import StacAsset, is_item, read_item

_ORDER = ("VV", "VH", "HH", "HV")
"""Order of the bands of an item, whose assets have none."""


@dataclass(frozen=True)
class Located:
    """The raster files of a scene.

    Attributes:
        files: Path, URL or GDAL name of each file.
        stated: What a catalogue says of a file, as (polarisation, asset), by file.
        acquisition: What the catalogue says of the scene; None without a catalogue.
        units: Units of the values by the catalogue's documentation, or None.
    """

    files: tuple[str, ...]
    stated: Mapping[str, tuple[str, StacAsset]] = field(default_factory=dict)
    acquisition: Acquisition | None = None
    units: str | None = None


def locate_rasters(locations: Sequence[Location]) -> Located:
    """Finds the rasters behind the locations of a scene; see ``raster_files``.

    A STAC item stands for its assets that name a polarisation each.

    Raises:
        SceneError: There is no raster, or more than one way to read a location.
    """
    files: list[str] = []
    stated: dict[str, tuple[str, StacAsset]] = {}
    acquisition = units = None
    for location in locations:
        if not is_item(location):
            files += raster_files(location)
            continue
        item = read_item(location)
        rasters = item.rasters()
        if not rasters:
            names = ", ".join(list(item.assets)[:8]) or "none"
            raise SceneError(
                f"{item.label}: no asset of this STAC item is a raster of VV, VH, HH or HV; its "
                f"assets are: {names}"
            )
        for name in sorted(rasters, key=_ORDER.index):
            file = os.fspath(rasters[name].location())
            files.append(file)
            stated[file] = name, rasters[name]
        acquisition, units = item.acquisition, item.units
    several = len(locations) > 1
    return Located(tuple(files), stated, acquisition, None if several else units)


def with_stated(parts: Sequence[Part], located: Located, nodata: Nodata) -> list[Part]:
    """The parts with names, nodata, scale and offset that the catalogue states.

    What a file itself declares counts more, except for the names of the bands.

    Args:
        nodata: The user's nodata option, which counts most.
    """

    def changed(part: Part, band: Band) -> Band:
        if part.path not in located.stated:
            return band
        name, asset = located.stated[part.path]
        band = replace(band, name=name)
        if band.declared is None and asset.nodata is not None:
            stored = asset.nodata if np.isfinite(asset.nodata) else None
            band = replace(
                band,
                declared=asset.nodata,
                nodata=stored if nodata is None else band.nodata,
            )
        if (band.scale, band.offset) == (1.0, 0.0):
            scale, offset = asset.scale or 1.0, asset.offset or 0.0
            if np.isfinite([scale, offset]).all():
                band = replace(band, scale=scale, offset=offset)
        return band

    return [replace(p, bands=tuple(changed(p, b) for b in p.bands)) for p in parts]


def acquisition_of(located: Located, dataset: Any) -> Acquisition | None:
    """What a catalogue says of the scene, now or when ``fetch`` wrote the file."""
    return located.acquisition or Acquisition.from_tags(dataset.tags())


def hints_of(located: Located) -> tuple[str, ...]:
    """Texts of the catalogue that name the units; see ``RasterSource.hints``."""
    units = [f"tag STAC_units: {asset.unit}" for _, asset in located.stated.values() if asset.unit]
    if located.units:
        units.append(f"tag STAC_units of the collection: {located.units}")
    return tuple(dict.fromkeys(units))
