"""The places to fetch, in degrees, and the grid of each."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.errors import UsageError
from cwsam_geo.fetch.options import Bounds, FetchOptions
from cwsam_geo.io.geolocation import crs_name, locate, metres_per_unit, transformed
from cwsam_geo.io.map_grid import place_crs
from cwsam_geo.io.vector_file import read_area

DEGREES = CRS.from_epsg(4326)

MOST_PIXELS = 1_000_000_000
"""Pixels of a scene: more than two whole Sentinel-1 scenes, 4 GB in each band."""

DEFAULT_RESOLUTION_M = 10.0

_EDGE_PARTS = 64
"""Parts into which the edge of an area is divided, because it is curved in another CRS."""

_WORLD = SceneGrid(180, 360, Affine(1, 0, -180, 0, -1, 90), DEGREES)
"""A grid of degrees, on which polygons of any CRS are read."""

_POLAR = (3031, 3413)
"""EPSG codes of the polar stereographic CRS where there is no UTM, in the south and the north."""


@dataclass(frozen=True)
class Place:
    """An area of which scenes are fetched.

    Attributes:
        name: Start of the names of its files, made of letters, digits, ``_`` and ``-``; empty if it
            is the only place.
        area: Polygons in degrees, a shapely geometry. Longitudes do not jump: an area across the
            antimeridian goes on beyond 180.
    """

    name: str
    area: Any

    @property
    def label(self) -> str:
        """The place in messages."""
        west, south, east, north = self.area.bounds
        box = f"{west:.5g} {south:.5g} {_wrapped(east):.5g} {north:.5g}"
        return f"{self.name} ({box})" if self.name else f"the area {box}"

    @property
    def boxes(self) -> list[Bounds]:
        """The rectangle around the area, cut at the antimeridian, with longitudes up to 180."""
        west, south, east, north = self.area.bounds
        if east <= 180:
            return [(west, south, east, north)]
        return [(west, south, 180.0, north), (-180.0, south, east - 360, north)]

    def file_name(self, what: str) -> str:
        """Name of a file of this place, such as ``scene_1.tif``."""
        return f"{self.name}_{what}" if self.name else what


def places_of(options: FetchOptions) -> tuple[Place, ...]:
    """The places that the options name.

    Raises:
        UsageError: A rectangle is none, or a file has no polygons or cannot be read.
    """
    if options.bbox:
        named = [("", _rectangle(bounds)) for bounds in options.bbox]
    elif options.aoi is not None:
        named = [("", _joined(_polygons(options.aoi)))]
    else:
        named = [
            (Path(file).stem, polygon) for file in options.places for polygon in _polygons(file)
        ]
    names = _names([stem for stem, _ in named])
    return tuple(Place(name, area) for name, (_, area) in zip(names, named, strict=True))


def grid_of_place(place: Place, options: FetchOptions) -> SceneGrid:
    """The grid of a place's scenes: pixels of whole multiples of the resolution.

    Raises:
        UsageError: The CRS is unknown or does not reach there, or the grid is too large.
    """
    crs = _crs(place, options.crs)
    size = _pixel_size(crs, options.resolution)
    west, south, east, north = area_in(place, crs).bounds
    left, top = math.floor(west / size), math.ceil(north / size)
    width, height = math.ceil(east / size) - left, top - math.floor(south / size)
    if width * height > MOST_PIXELS:
        raise UsageError(
            f"{place.label} has {width:,} x {height:,} = {width * height / 1e6:,.0f} Mpx at a "
            f"resolution of {size:g}; fetch takes up to {MOST_PIXELS / 1e6:,.0f} Mpx: give a "
            "smaller area, or a larger --res"
        )
    return SceneGrid(
        height=max(height, 1),
        width=max(width, 1),
        transform=Affine(size, 0, left * size, 0, -size, top * size),
        crs=crs,
        count=len(options.bands),
        nodata=math.nan,
    )


def area_in(place: Place, crs: CRS) -> Any:
    """The area in another CRS, a shapely geometry.

    Raises:
        UsageError: A part of the area has no coordinates there.
    """
    return projected(place.area, crs, place.label)


def projected(area: Any, crs: CRS, label: str) -> Any:
    """Polygons in degrees in another CRS, a shapely geometry.

    Raises:
        UsageError: A part of them has no coordinates there.
    """
    west, south, east, north = area.bounds
    # Longitude differences below one degree are normal too: an edge has at least one part.
    part = max(east - west, north - south, 1e-9) / _EDGE_PARTS

    def move(points: Any) -> Any:
        return np.column_stack(transformed(points[:, 0], points[:, 1], DEGREES, crs))

    moved = shapely.transform(shapely.segmentize(area, part), move)
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        raise UsageError(f"{label}: does not lie in {crs_name(crs)}; choose another --crs")
    return moved


def _rectangle(bounds: Sequence[float]) -> Any:
    west, south, east, north = bounds
    text = " ".join(f"{v:g}" for v in bounds)
    if not all(map(math.isfinite, bounds)) or max(map(abs, bounds)) > 360:
        raise UsageError(f"--bbox {text}: give degrees of longitude and latitude (EPSG:4326)")
    if not -90 <= south < north <= 90:
        raise UsageError(
            f"--bbox {text}: give west south east north, in this order and in degrees; south is "
            "below north, both between -90 and 90"
        )
    west = _wrapped(west)
    east = _wrapped(east)
    if east <= west:
        east += 360
    if east - west > 180:
        raise UsageError(
            f"--bbox {text}: is {east - west:g} degrees wide; give west first (an area across 180 "
            "degrees has a west that is greater than its east)"
        )
    return shapely.box(west, south, east, north)


def _wrapped(longitude: float) -> float:
    """A longitude between -180 and 180; 180 stays."""
    return longitude if -180 <= longitude <= 180 else (longitude + 180) % 360 - 180


def _polygons(file: str | os.PathLike[str]) -> list[Any]:
    shapes = read_area(file, locate(_WORLD, str(file)))
    polygons = [
        shapely.transform(shape, lambda p: np.column_stack([p[:, 0] - 180, 90 - p[:, 1]]))
        for shape in shapes
    ]
    if not polygons:
        raise UsageError(f"{file}: holds no polygons; an area is made of polygons")
    return polygons


def _joined(polygons: Sequence[Any]) -> Any:
    """The polygons as one geometry; those west of the antimeridian and east of it side by side."""
    west, _, east, _ = shapely.total_bounds(polygons)
    if east - west > 180:
        polygons = [
            shapely.transform(p, lambda q: q + np.array([360.0, 0.0])) if p.bounds[2] <= 0 else p
            for p in polygons
        ]
    return shapely.make_valid(shapely.union_all(polygons))


def _names(stems: Sequence[str]) -> list[str]:
    """File names for places, each different, from names of files that may hold anything."""
    if len(stems) == 1:
        return [""]
    clean = [re.sub(r"[^\w-]+", "_", stem).strip("_-")[:40] or "place" for stem in stems]
    taken: set[str] = set()
    names = []
    for i, name in enumerate(clean):
        several = sum(c.casefold() == name.casefold() for c in clean) > 1
        names.append(_free(f"{name}_{i + 1}" if several else name, taken))
        taken.add(names[-1].casefold())
    return names


def _free(name: str, taken: Iterable[str]) -> str:
    return name if name.casefold() not in taken else _free(f"{name}_", taken)


def _crs(place: Place, requested: str | None) -> CRS:
    if requested is not None:
        try:
            return CRS.from_user_input(requested)
        except CRSError:
            raise UsageError(f"--crs {requested}: is no CRS; give one like EPSG:32633") from None
    west, south, east, north = place.area.bounds
    return place_crs((west + east) / 2, (south + north) / 2, _POLAR)


def _pixel_size(crs: CRS, requested: float | None) -> float:
    if requested is not None:
        return requested
    metres = metres_per_unit(pyproj.CRS.from_wkt(crs.to_wkt())) if crs.is_projected else None
    if metres is None:
        raise UsageError(
            f"--crs {crs_name(crs)}: is not in metres; give --res in its units, such as 0.0001 for "
            "degrees"
        )
    return DEFAULT_RESOLUTION_M / metres
