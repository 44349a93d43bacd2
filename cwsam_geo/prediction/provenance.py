"""The tags of a map: written by ``predict``, read by ``info``."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from cwsam_geo._version import __version__
from cwsam_geo.core.legend import LEGEND_TAG, Legend
from cwsam_geo.prediction.options import PredictOptions
from cwsam_geo.prediction.pipeline import MapSettings
from cwsam_geo.scene.acquisition import SCENE_TAG, Acquisition
from cwsam_geo.scene.reading import Reading
from cwsam_geo.scene.source import RasterSource

VERSION_TAG = "CWSAM_GEO_VERSION"
"""Tag in every raster that ``predict`` writes."""

_MODEL_TAG = "CWSAM_GEO_MODEL"
_SETTINGS_TAG = "CWSAM_GEO_SETTINGS"
_INPUT_TAG = "CWSAM_GEO_INPUT"
_DATE_TAG = "TIFFTAG_DATETIME"
_SOFTWARE_TAG = "TIFFTAG_SOFTWARE"


def settings_of(
    job: MapSettings, tile_size: int, precision: str, options: PredictOptions, reading: Reading
) -> dict[str, Any]:
    """The settings of a run, as the tag ``CWSAM_GEO_SETTINGS`` holds them."""
    return {
        "tile_size": tile_size,
        "overlap": job.overlap,
        "blend": job.blend,
        "precision": precision,
        "tta": options.tta,
        "temperature": job.temperature,
        "units": job.scene.units,
        "calibration": reading.source.calibration,
        "bands": dict(zip(job.spec.bands, reading.numbers, strict=True)),
        "stretch": job.scene.stretch,
        "nodata": None if options.nodata is None else str(options.nodata),
        "scale": options.scale,
        "offset": options.offset,
        "zero_is_nodata": reading.zero_is_nodata,
        "bounds": options.bounds,
        "aoi": None if options.aoi is None else os.fspath(options.aoi),
    }


def map_tags(
    legend: Legend, model: Mapping[str, Any], source: RasterSource, settings: Mapping[str, Any]
) -> dict[str, str]:
    """GeoTIFF tags with the provenance: enough to make the same map again.

    Args:
        model: ``file`` and ``sha256`` of the bundle.
    """
    scene = source.acquisition
    return {
        LEGEND_TAG: legend.to_json(),
        VERSION_TAG: __version__,
        _MODEL_TAG: json.dumps(dict(model)),
        _SETTINGS_TAG: json.dumps(settings),
        _INPUT_TAG: source.label,
        _SOFTWARE_TAG: f"cwsam-geo {__version__} (Python {platform.python_version()})",
        _DATE_TAG: datetime.now(timezone.utc).strftime("%Y:%m:%d %H:%M:%S"),
        **({} if scene is None else {SCENE_TAG: scene.to_json()}),
    }


def read_provenance(tags: Mapping[str, str]) -> dict[str, Any]:
    """Reads model, settings, input and acquisition from the tags of a map."""
    scene = Acquisition.from_tags(tags)
    return {
        "version": tags.get(VERSION_TAG),
        "model": _parsed(tags.get(_MODEL_TAG)),
        "settings": _parsed(tags.get(_SETTINGS_TAG)),
        "input": tags.get(_INPUT_TAG),
        "date": tags.get(_DATE_TAG),
        "acquisition": None if scene is None else asdict(scene),
    }


def _parsed(text: str | None) -> dict[str, Any] | None:
    """The JSON object in a tag; None without the tag, or if another program has changed it."""
    with contextlib.suppress(ValueError):
        value = json.loads(text or "null")
        return value if isinstance(value, dict) else None
    return None
