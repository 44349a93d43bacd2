"""A summary of the training data, in plain values for the bundle and the model card."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.crs import CRS

from cwsam_geo.atomic import atomic_output
from cwsam_geo.core.pixel_size import PixelSizes
from cwsam_geo.finetuning.data.prepare import RegionData
from cwsam_geo.finetuning.region.config import RegionConfig
from cwsam_geo.finetuning.split.blocks import SpatialSplit
from cwsam_geo.finetuning.split.planes import Plane
from cwsam_geo.finetuning.split.roles import ROLES
from cwsam_geo.io.geolocation import Geolocation, transformed
from cwsam_geo.io.pixel_size import pixel_size_of
from cwsam_geo.io.raster_file import display_name

_DEGREES = CRS.from_epsg(4326)

_NAMES = {role: name for name, role in ROLES.items()}

# Vertices are added so that no part of an edge is longer than 1 / 8 of the longest side of a block:
# straight edges on the plane are curves in longitude and latitude.
_EDGE_PARTS = 8

# Tolerance for simplifying the footprint, as a share of the smallest scene's side.
_FINE = 1e-3

# Decimals of a degree in the footprint; five are about 1 m.
_DECIMALS = 5

# Scenes that the summary lists; the bundle's header must stay small.
_LISTED = 200


def data_summary(config: RegionConfig, data: RegionData) -> dict[str, Any]:
    """Returns scenes, labels, split, footprint and pixel size of the training data, for JSON."""
    sizes = PixelSizes.of(pixel_size_of(location) for location in data.locations)
    names = _told_apart([pair.scene[0] for pair in data.pairs])
    labels = _told_apart([pair.labels for pair in data.pairs])
    scenes = [
        {"scene": name, "labels": label, "split": whole}
        for name, label, whole in zip(names, labels, data.split.whole, strict=True)
    ]
    blocks = {name: sum(b.role == role for b in data.split.blocks) for name, role in ROLES.items()}
    pixels = zip(config.legend.names, data.class_pixels, strict=True)
    return {
        "scene_count": len(scenes),
        "scenes": scenes[:_LISTED],
        "partial_labels": [[config.legend.names[i] for i in label] for label in data.partial],
        "training_pixels": {name: int(n) for name, n in pixels},
        "tiles": {
            "training": len(data.training),
            "validation": len(data.validation),
            "test": len(data.test) if data.test else 0,
        },
        "blocks": blocks if data.split.blocks else None,
        "footprint": footprint(data.locations),
        "pixel_size_m": None if sizes is None else sizes.to_json(),
    }


def _told_apart(files: Sequence[str]) -> list[str]:
    """Short names of files: their last parts, as many as distinguish all of them."""
    parts = [Path(display_name(file)).parts for file in files]
    names: list[str] = []
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            break
    return names


def footprint(locations: Sequence[Geolocation]) -> dict[str, Any] | None:
    """The ground that scenes cover, as a GeoJSON geometry in longitude and latitude.

    Args:
        locations: Georeferencing of the scenes. Scenes without a CRS are left out.

    Returns:
        The geometry, or None if no scene has a place on the ground.
    """
    outlines = []
    for location in locations:
        if location.crs is None:
            continue
        x, y = transformed(*location.outline(), location.crs, _DEGREES)
        corners = np.column_stack([x, y])
        # Coordinates are infinite where the CRS cannot be transformed to longitude and latitude.
        if np.isfinite(corners).all():
            outlines.append(shapely.make_valid(shapely.Polygon(corners)))
    if not outlines:
        return None
    # Outlines have many vertices, because their edges may be curved. Straight edges need only the
    # corners, which simplification keeps.
    covered = shapely.simplify(shapely.union_all(outlines), _FINE * _extent(outlines))
    rounded = shapely.transform(covered, lambda p: np.round(p, _DECIMALS))
    geometry: dict[str, Any] = json.loads(shapely.to_geojson(rounded))
    return geometry


def _extent(shapes: Sequence[Any]) -> float:
    """The shortest side of the bounding boxes of some outlines."""
    bounds = shapely.bounds(np.array(shapes))
    return float(np.minimum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1]).min())


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
