"""Which scenes have been mapped already: by what their outputs were made of, not by their names."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from cwsam_geo.errors import CwsamGeoError, UsageError
from cwsam_geo.io.raster_file import open_dataset
from cwsam_geo.prediction.fingerprint import difference, read_fingerprint
from cwsam_geo.prediction.preparation import MapRequest, ModelFacts, fingerprint_of
from cwsam_geo.scene.source import RasterSource


class Finished(Enum):
    """Which outputs of a scene are there already."""

    NOTHING = "nothing"
    RASTERS = "rasters"
    ALL = "all"


def check_finished(request: MapRequest, source: RasterSource, model: ModelFacts) -> Finished:
    """Which outputs of a request are there, made of the same scene in the same way.

    Args:
        source: The scene, from ``open_request``. None of its pixels is read.

    Raises:
        UsageError: A raster of that name is there, but was made otherwise, and must not be
            replaced. The message says what differs.
    """
    rasters = request.rasters
    if not any(path.exists() for path in rasters):
        return Finished.NOTHING
    now = fingerprint_of(request, source, model)
    for path in rasters:
        differs = _difference(path, now) if path.exists() else "missing"
        if differs is None:
            continue
        if path.exists() and not request.outputs.overwrite:
            raise UsageError(
                f"{path}: exists already, and {differs}; pass --overwrite to replace it, or write "
                "to another path"
            )
        return Finished.NOTHING
    return Finished.ALL if _has_polygons(request) else Finished.RASTERS


def _difference(path: Path, now: Mapping[str, Any]) -> str | None:
    """How an existing raster differs from the one to be written; None if it is the same."""
    try:
        with open_dataset(path) as dataset:
            earlier = read_fingerprint(dataset.tags())
    except CwsamGeoError:
        return "is no raster that can be read"
    if earlier is None:
        return "is no map that tells what it was made of"
    differs = difference(earlier, now)
    return None if differs is None else f"was made otherwise ({differs})"


def _has_polygons(request: MapRequest) -> bool:
    """Whether the polygons, if any are wanted, were made after the map."""
    if request.outputs.vectors is None:
        return True
    vectors = Path(request.outputs.vectors)
    return vectors.exists() and vectors.stat().st_mtime_ns >= request.output.stat().st_mtime_ns
