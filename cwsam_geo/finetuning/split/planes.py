"""Planes on which blocks are laid out: scenes near each other share one."""

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

# Margin around a scene in degrees (about 11 km); scenes whose margins meet share a plane.
_NEAR_DEGREES = 0.1

# Largest relative error of areas in a CRS that is used for blocks. UTM is within 0.002.
_TRUE_TO_SCALE = 0.02
_DEGREES = CRS.from_epsg(4326)


@dataclass(frozen=True)
class Plane:
    """A plane with coordinates in metres, or in pixels of a scene that has no CRS.

    Attributes:
        crs: CRS of the plane; None for the pixel coordinates of a scene.
        unit: Length of one unit in metres; 1 for pixels.
        members: Indices of the scenes on the plane.
        bounds: Left, bottom, right and top of these scenes, in units.
        pixel: Side of a pixel of the first of these scenes, in units.
    """

    crs: CRS | None
    unit: float
    members: tuple[int, ...]
    bounds: tuple[float, float, float, float]
    pixel: float

    def of_pixels(self, location: Geolocation, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Transforms pixel coordinates of a scene to the plane."""
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
        """Transforms geometries on the plane to pixel coordinates of a scene."""
        if self.crs is None:
            return shapes
        return location.shapes_to_pixels(shapes, self.crs, location.label)

    def footprint(self, location: Geolocation) -> Any:
        """Outline of a scene on the plane, a polygon."""
        if self.crs is None:
            return shapely.box(0, 0, location.grid.width, location.grid.height)
        x, y = transformed(*location.outline(), location.crs, self.crs)
        return shapely.make_valid(shapely.Polygon(np.column_stack([x, y])))


def planes_of(locations: Sequence[Geolocation]) -> list[Plane]:
    """Groups scenes that overlap or nearly touch and gives each group a plane.

    Scenes of one place must agree on which ground is for validation, even if their grids or CRSs
    differ. A scene without a CRS could lie anywhere, so it gets a plane of its own.
    """
    placed = [i for i, loc in enumerate(locations) if loc.crs is not None]
    boxes = [shapely.box(*locations[i].bounds_in(_DEGREES)).buffer(_NEAR_DEGREES) for i in placed]
    planes = [_georeferenced([locations[i] for i in g], g) for g in _connected(placed, boxes)]
    planes += [_of_pixels(loc, i) for i, loc in enumerate(locations) if loc.crs is None]
    return sorted(planes, key=lambda plane: plane.members)


def _connected(indices: Sequence[int], boxes: Sequence[Any]) -> list[list[int]]:
    """Groups the indices of boxes that intersect, directly or by way of others (union-find)."""
    group = list(range(len(boxes)))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    if boxes:
        for a, b in shapely.STRtree(boxes).query(boxes, predicate="intersects").T.tolist():
            group[max(root(a), root(b))] = min(root(a), root(b))
    indices_by_root: dict[int, list[int]] = {}
    for i in range(len(boxes)):
        indices_by_root.setdefault(root(i), []).append(indices[i])
    return list(indices_by_root.values())


def _georeferenced(locations: Sequence[Geolocation], members: Sequence[int]) -> Plane:
    crs, unit = _plane_crs(locations)
    x, y = (
        np.concatenate(values)
        for values in zip(
            *(transformed(*loc.outline(), loc.crs, crs) for loc in locations), strict=True
        )
    )
    first = locations[0]
    # Width of the first scene's middle pixel on the plane
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
    """CRS of a plane, and metres of one unit.

    It is the CRS of the scenes if they share a projected one with nearly true areas, so that blocks
    run along pixels. Otherwise it is a local equal-area projection.
    """
    boxes = [shapely.box(*loc.bounds_in(_DEGREES)) for loc in locations]
    west, south, east, north = shapely.total_bounds(np.array(boxes))
    lon, lat = (west + east) / 2, (south + north) / 2
    common = locations[0].crs
    if common is not None and common.is_projected and all(loc.crs == common for loc in locations):
        factors = pyproj.Proj(common.to_wkt()).get_factors(lon, lat)
        if abs(factors.areal_scale - 1) <= _TRUE_TO_SCALE:
            return common, float(common.linear_units_factor[1])
    equal_area = CRS.from_proj4(
        f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m"
    )
    return equal_area, 1.0
