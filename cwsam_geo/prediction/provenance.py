"""The tags of a map, which ``io.map_tags`` names and reads."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from cwsam_geo._version import __version__
from cwsam_geo.core.legend import LEGEND_TAG, Legend
from cwsam_geo.io.map_tags import (
    DATE_TAG,
    INPUT_TAG,
    MODEL_TAG,
    SETTINGS_TAG,
    SOFTWARE_TAG,
    VERSION_TAG,
    WARNINGS_TAG,
)
from cwsam_geo.prediction.options import PredictOptions
from cwsam_geo.prediction.pipeline import MapSettings
from cwsam_geo.scene.acquisition import SCENE_TAG
from cwsam_geo.scene.reading import Reading
from cwsam_geo.scene.source import RasterSource


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
        "min_confidence": job.min_confidence or None,
        "units": job.scene.units,
        "calibration": reading.source.calibration,
        "bands": dict(zip(job.spec.bands, reading.numbers, strict=True)),
        "stretch": job.scene.stretch,
        "nodata": None if options.nodata is None else str(options.nodata),
        "scale": options.scale,
        "offset": options.offset,
        "zero_is_nodata": reading.zero_is_nodata,
        "border_noise": reading.border_noise,
        "despeckle": reading.source.despeckle and reading.source.despeckle.words,
        "bounds": options.bounds,
        "aoi": None if options.aoi is None else os.fspath(options.aoi),
        "t_srs": options.t_srs,
        "res": options.res,
    }


def map_tags(
    legend: Legend,
    model: Mapping[str, Any],
    source: RasterSource,
    settings: Mapping[str, Any],
    warnings: Sequence[str] = (),
) -> dict[str, str]:
    """GeoTIFF tags with the provenance: enough to make the same map again.

    Args:
        model: ``file`` and ``sha256`` of the bundle.
        warnings: Warnings on the scene, for whoever looks at the map later.
    """
    scene = source.acquisition
    return {
        LEGEND_TAG: legend.to_json(),
        VERSION_TAG: __version__,
        MODEL_TAG: json.dumps(dict(model)),
        SETTINGS_TAG: json.dumps(settings),
        INPUT_TAG: source.label,
        WARNINGS_TAG: json.dumps(list(warnings), ensure_ascii=False),
        SOFTWARE_TAG: f"cwsam-geo {__version__} (Python {platform.python_version()})",
        DATE_TAG: datetime.now(timezone.utc).strftime("%Y:%m:%d %H:%M:%S"),
        **({} if scene is None else {SCENE_TAG: scene.to_json()}),
    }
