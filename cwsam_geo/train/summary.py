"""What a model was trained on, in plain values for its bundle and card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.crs import CRS

from cwsam_geo.io.geolocation import Geolocation, transformed
from cwsam_geo.io.opening import shown
from cwsam_geo.train.config import RegionConfig
from cwsam_geo.train.prepare import RegionData
from cwsam_geo.train.regions import ROLES

_DEGREES = CRS.from_epsg(4326)
_FINE = 1e-3
_DECIMALS = 5
_LISTED = 200


def data_summary(config: RegionConfig, data: RegionData) -> dict[str, Any]:
    """Scenes, labels, split and footprint, for JSON.

    Args:
        config: The region.
        data: Its data.
    """
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
    }


def _told_apart(files: Sequence[str]) -> list[str]:
    """Names of files, with as much of their folders as tells them apart."""
    parts = [Path(shown(file)).parts for file in files]
    names: list[str] = []
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            break
    return names


def footprint(locations: Sequence[Geolocation]) -> dict[str, Any] | None:
    """The ground that scenes cover, a GeoJSON geometry in longitude and latitude.

    Args:
        locations: The scenes; those without a CRS could be anywhere and are left out.
    """
    outlines = []
    for location in locations:
        if location.crs is None:
            continue
        x, y = transformed(*location.outline(), location.crs, _DEGREES)
        corners = np.column_stack([x, y])
        if np.isfinite(corners).all():
            outlines.append(shapely.make_valid(shapely.Polygon(corners)))
    if not outlines:
        return None
    # Outlines keep their corners: they have many vertices because they may be curved.
    covered = shapely.simplify(shapely.union_all(outlines), _FINE * _extent(outlines))
    rounded = shapely.transform(covered, lambda p: np.round(p, _DECIMALS))
    geometry: dict[str, Any] = json.loads(shapely.to_geojson(rounded))
    return geometry


def _extent(shapes: Sequence[Any]) -> float:
    """Side of the smallest of some outlines."""
    bounds = shapely.bounds(np.array(shapes))
    return float(np.minimum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1]).min())
