"""Which scenes have been mapped already: by what their outputs were made of, not by their names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cwsam_geo.batch.names import companion_paths
from cwsam_geo.errors import CwsamGeoError, UsageError
from cwsam_geo.io.legend_file import tagged_legend
from cwsam_geo.io.qml import has_users_style
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
    rasters = request.rasters
    if not any(path.exists() for path in rasters):
        return Finished(False)
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
        return Finished(False)
    return Finished(True, _missing(request))


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


def _missing(request: MapRequest) -> tuple[str, ...]:
    """Outputs made from the map that are not there, or are older than the map.

    Raises:
        UsageError: The report is missing, and the confidence that it shows is in no raster.
    """
    made = request.output.stat().st_mtime_ns
    paths = companion_paths(request)
    if has_users_style(request.output):
        paths.pop("qml", None)
    missing = tuple(n for n, p in paths.items() if not p.exists() or p.stat().st_mtime_ns < made)
    if "report" in missing and request.outputs.confidence is None:
        raise UsageError(
            f"{paths['report']}: the map is there, but not its report, which shows the confidence; "
            "remove the map to make both again, or write to another path with --confidence"
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
    outputs = request.outputs
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
