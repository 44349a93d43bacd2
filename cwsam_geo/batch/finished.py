"""Which scenes have been mapped already: by what their outputs were made of, not by their names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cwsam_geo.batch.names import companion_paths
from cwsam_geo.errors import CwsamGeoError, UsageError
from cwsam_geo.io.legend_file import tagged_legend
from cwsam_geo.io.qml import has_users_style, qml_path
from cwsam_geo.io.raster_file import open_dataset
from cwsam_geo.prediction.fingerprint import difference, read_fingerprint
from cwsam_geo.prediction.map_outputs import catalogue_map, describe_map
from cwsam_geo.prediction.preparation import Event, MapRequest, ModelFacts, fingerprint_of
from cwsam_geo.prediction.report import report_on_map
from cwsam_geo.scene.source import RasterSource

OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Finished:
    """Which outputs of a scene are there already.

    Attributes:
        rasters: Whether all rasters are.
        missing: The outputs to be made from the map, by the names of their options.
    """

    rasters: bool
    missing: tuple[str, ...] = ()


def check_finished(request: MapRequest, source: RasterSource, model: ModelFacts) -> Finished:
    """Which outputs of a request are there, made of the same scene in the same way.

    Args:
        source: The scene, from ``open_request``. None of its pixels is read.

    Raises:
        UsageError: A raster of that name is there, but was made otherwise, and must not be
            replaced. The message says what differs.
    """
    rasters = {path: _exists(request, path) for path in request.rasters}
    if not any(rasters.values()):
        return Finished(False)
    now = fingerprint_of(request, source, model)
    for path, exists in rasters.items():
        differs = _difference(request, path, now) if exists else "missing"
        if differs is None:
            continue
        if exists and not request.outputs.overwrite:
            raise UsageError(
                f"{request.uploads.shown(path)}: exists already, and {differs}; pass "
                "--overwrite to replace it, or write to another path"
            )
        return Finished(False)
    return Finished(True, _missing(request))


def _exists(request: MapRequest, path: Path) -> bool:
    remote = request.uploads.remote(path)
    return path.exists() if remote is None else remote.exists()


def _written(request: MapRequest, path: Path) -> float:
    """When an output was written, in seconds."""
    remote = request.uploads.remote(path)
    return path.stat().st_mtime if remote is None else remote.modified().timestamp()


def _difference(request: MapRequest, path: Path, now: Mapping[str, Any]) -> str | None:
    """How an existing raster differs from the one to be written; None if it is the same."""
    tags = _tags(request, path)
    if tags is None:
        return "is no raster that can be read"
    earlier = read_fingerprint(tags)
    if earlier is None:
        return "is no map that tells what it was made of"
    differs = difference(earlier, now)
    return None if differs is None else f"was made otherwise ({differs})"


def _tags(request: MapRequest, path: Path) -> Mapping[str, str] | None:
    """Tags of a raster; None if it cannot be read."""
    remote = request.uploads.remote(path)
    if remote is not None:
        return remote.raster_tags()
    try:
        with open_dataset(path) as dataset:
            tags: dict[str, str] = dataset.tags()
            return tags
    except CwsamGeoError:
        return None


def _has_remote_style(request: MapRequest) -> bool:
    """Whether a style is at a URL: it may be the user's, who wants to keep it."""
    remote = request.uploads.remote(qml_path(request.output))
    return remote is not None and remote.exists()


def _missing(request: MapRequest) -> tuple[str, ...]:
    """Outputs made from the map that are not there, or are older than the map.

    Raises:
        UsageError: The report is missing, and the confidence that it shows is in no raster.
    """
    made = _written(request, request.output)
    paths = companion_paths(request)
    if has_users_style(request.output) or _has_remote_style(request):
        paths.pop("qml", None)
    missing = tuple(
        name
        for name, path in paths.items()
        if not _exists(request, path) or _written(request, path) < made
    )
    if "report" in missing and request.outputs.confidence is None:
        raise UsageError(
            f"{request.uploads.shown(paths['report'])}: the map is there, but not its report, "
            "which shows the confidence; remove the map to make both again, or write to another "
            "path with --confidence"
        )
    return missing


def make_missing(
    request: MapRequest, missing: Collection[str], model: Path | None, on_event: OnEvent
) -> None:
    """Makes outputs of a request whose rasters are there.

    Args:
        missing: The outputs, by the names of their options.
        model: The model's bundle.

    Raises:
        CwsamGeoError: An output cannot be written.
    """
    outputs, uploads = request.outputs, request.uploads
    uploads.begin()
    there = {n: path for n, path in companion_paths(request).items() if n not in missing}
    uploads.fetch([*request.rasters, *there.values()])
    with open_dataset(request.output) as dataset:
        legend = tagged_legend(dataset.tags(), str(request.output))
    assert legend is not None
    # Older ones belong to an earlier map: nothing that counts is lost.
    chosen = replace(
        outputs,
        qml="qml" in missing,
        areas=outputs.areas if "areas" in missing else None,
        vectors=outputs.vectors if "vectors" in missing else None,
        overwrite=True,
    )
    describe_map(replace(request, outputs=chosen), legend, on_event)
    anew = replace(request, outputs=replace(outputs, overwrite=True))
    if "report" in missing:
        report_on_map(anew, model, on_event)
    if "stac" in missing:
        catalogue_map(anew)
    uploads.send_rest(overwrite=True)
