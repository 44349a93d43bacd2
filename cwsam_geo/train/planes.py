"""Planes on which blocks are drawn: scenes that lie near each other share one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from cwsam_geo.io.geolocation import Geolocation, transformed

Floats = NDArray[np.float64]

_NEAR_DEGREES = 0.1
_TRUE_TO_SCALE = 0.02
_DEGREES = CRS.from_epsg(4326)


@dataclass(frozen=True)
class Plane:
    """A plane with coordinates in metres, or in pixels of a scene that has no CRS.

    Attributes:
        crs: Its CRS; None for a scene's pixels.
        unit: Metres of one unit of the CRS; 1 for pixels.
        members: Indices of its scenes.
        bounds: Left, bottom, right, top of the scenes on it.
        pixel: Side of a pixel of the first scene, in its units.
    """

    crs: CRS | None
    unit: float
    members: tuple[int, ...]
    bounds: tuple[float, float, float, float]
    pixel: float

    def of_pixels(self, location: Geolocation, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Coordinates on the plane of a scene's pixel coordinates."""
        if self.crs is None:
            return cols, rows
        return transformed(*location.to_map(cols, rows), location.crs, self.crs)

    def pixel_side(self, location: Geolocation) -> float:
        """The longer side of a scene's middle pixel, in the plane's units."""
        cols = location.grid.width / 2 + np.array([0.0, 1.0, 0.0])
        rows = location.grid.height / 2 + np.array([0.0, 0.0, 1.0])
        x, y = self.of_pixels(location, cols, rows)
        return float(np.hypot(x[1:] - x[0], y[1:] - y[0]).max())

    def to_pixels(self, location: Geolocation, shapes: NDArray[Any]) -> NDArray[Any]:
        """Geometries of the plane in a scene's pixel coordinates."""
        if self.crs is None:
            return shapes
        return location.shapes_to_pixels(shapes, self.crs, location.label)

    def footprint(self, location: Geolocation) -> Any:
        """The outline of a scene on the plane, a polygon."""
        if self.crs is None:
            return shapely.box(0, 0, location.grid.width, location.grid.height)
        x, y = transformed(*location.outline(), location.crs, self.crs)
        return shapely.make_valid(shapely.Polygon(np.column_stack([x, y])))


def planes_of(locations: Sequence[Geolocation]) -> list[Plane]:
    """Groups scenes that overlap or nearly touch, each group on a plane of its own.

    Two scenes of one place must agree on which ground is for validation, whatever their grids and
    CRSs are. Scenes without a CRS could be anywhere: each is alone.

    Args:
        locations: The scenes.
    """
    placed = [i for i, loc in enumerate(locations) if loc.crs is not None]
    boxes = [shapely.box(*locations[i].bounds_in(_DEGREES)).buffer(_NEAR_DEGREES) for i in placed]
    planes = [_georeferenced([locations[i] for i in g], g) for g in _connected(placed, boxes)]
    planes += [_of_pixels(loc, i) for i, loc in enumerate(locations) if loc.crs is None]
    return sorted(planes, key=lambda plane: plane.members)


def _connected(indices: Sequence[int], boxes: Sequence[Any]) -> list[list[int]]:
    """Connected components of boxes that intersect."""
    group = list(range(len(boxes)))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    if boxes:
        for a, b in shapely.STRtree(boxes).query(boxes, predicate="intersects").T.tolist():
            group[max(root(a), root(b))] = min(root(a), root(b))
    found: dict[int, list[int]] = {}
    for i in range(len(boxes)):
        found.setdefault(root(i), []).append(indices[i])
    return list(found.values())


def _georeferenced(locations: Sequence[Geolocation], members: Sequence[int]) -> Plane:
    crs, unit = _plane_crs(locations)
    x, y = (
        np.concatenate(values)
        for values in zip(
            *(transformed(*loc.outline(), loc.crs, crs) for loc in locations), strict=True
        )
    )
    first = locations[0]
    middle = first.grid.width / 2 + np.arange(2.0), first.grid.height / 2 + np.zeros(2)
    px, py = transformed(*first.to_map(*middle), first.crs, crs)
    return Plane(
        crs=crs,
        unit=unit,
        members=tuple(members),
        bounds=(float(x.min()), float(y.min()), float(x.max()), float(y.max())),
        pixel=math.hypot(px[1] - px[0], py[1] - py[0]),
    )


def _of_pixels(location: Geolocation, index: int) -> Plane:
    grid = location.grid
    return Plane(None, 1.0, (index,), (0.0, 0.0, float(grid.width), float(grid.height)), 1.0)


def _plane_crs(locations: Sequence[Geolocation]) -> tuple[CRS, float]:
    """The scenes' own CRS, for blocks along their pixels; where it does not serve, one made."""
    boxes = [shapely.box(*loc.bounds_in(_DEGREES)) for loc in locations]
    west, south, east, north = shapely.total_bounds(np.array(boxes))
    lon, lat = (west + east) / 2, (south + north) / 2
    common = locations[0].crs
    if common is not None and common.is_projected and all(loc.crs == common for loc in locations):
        factors = pyproj.Proj(common.to_wkt()).get_factors(lon, lat)
        if abs(factors.areal_scale - 1) <= _TRUE_TO_SCALE:
            return common, float(common.linear_units_factor[1])
    made = CRS.from_proj4(f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m")
    return made, 1.0
