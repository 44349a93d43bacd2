"""Writes the spatial split as GeoJSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from rasterio.crs import CRS

from cwsam_geo.io.atomic import atomic_output
from cwsam_geo.io.geolocation import Geolocation, transformed
from cwsam_geo.train.planes import Plane
from cwsam_geo.train.regions import ROLES
from cwsam_geo.train.split import SpatialSplit

_DEGREES = CRS.from_epsg(4326)
_NAMES = {role: name for name, role in ROLES.items()}
# Vertices are added so that no part of an edge is longer than 1 / 8 of the longest side of a block:
# straight edges on the plane are curves in longitude and latitude.
_EDGE_PARTS = 8


def write_split(
    split: SpatialSplit,
    locations: Sequence[Geolocation],
    path: str | os.PathLike[str],
    overwrite: bool = False,
) -> None:
    """Writes the blocks, and the outlines of scenes that have one role as a whole.

    Coordinates are longitude and latitude, as GeoJSON requires. For scenes without a CRS they are
    pixels (column, row), and the property ``pixels_of`` names the scene.

    Args:
        split: The split.
        locations: Georeferencing of the scenes, in the order of ``split.names``.
        path: The GeoJSON file to write.
        overwrite: Replace an existing file.

    Raises:
        UsageError: See ``check_output``.
        OutputError: See ``check_output``.
    """
    collection = {"type": "FeatureCollection", "features": split_features(split, locations)}
    with atomic_output(path, overwrite) as temporary:
        temporary.write_text(json.dumps(collection, ensure_ascii=False), encoding="utf-8")


def split_features(split: SpatialSplit, locations: Sequence[Geolocation]) -> list[dict[str, Any]]:
    """Returns the GeoJSON features of a split; see ``write_split``."""
    features = []
    for block in split.blocks:
        plane = split.planes[block.plane]
        scenes = [split.names[i] for i in plane.members if split.whole[i] is None]
        shape = shapely.box(*block.box)
        features.append(_feature(shape, plane, _NAMES[block.role], scenes))
    for plane in split.planes:
        for i in plane.members:
            whole = split.whole[i]
            if whole is not None:
                shape = plane.footprint(locations[i])
                features.append(_feature(shape, plane, whole, [split.names[i]]))
    return features


def _feature(shape: Any, plane: Plane, name: str, scenes: list[str]) -> dict[str, Any]:
    properties: dict[str, Any] = {"split": name, "scenes": scenes}
    if plane.crs is None:
        properties["pixels_of"] = scenes[0]
    else:
        longest = max(shape.bounds[2] - shape.bounds[0], shape.bounds[3] - shape.bounds[1])
        parts = shapely.segmentize(shape, longest / _EDGE_PARTS)
        shape = shapely.transform(
            parts, lambda p: np.column_stack(transformed(p[:, 0], p[:, 1], plane.crs, _DEGREES))
        )
    geometry = json.loads(shapely.to_geojson(shapely.orient_polygons(shape)))
    return {"type": "Feature", "properties": properties, "geometry": geometry}
