"""Paths of the outputs of each scene, by a pattern such as ``maps/{stem}_landcover.tif``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cwsam_geo.batch.batch_scene import BatchScene
from cwsam_geo.errors import CwsamGeoError, UsageError
from cwsam_geo.io.map_tags import VERSION_TAG
from cwsam_geo.io.qml import qml_path
from cwsam_geo.io.raster_file import open_dataset
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs
from cwsam_geo.prediction.preparation import MapRequest

FIELDS = ("stem", "parent", "id", "date")
"""Fields of a pattern, in braces."""

_FIELD = re.compile(r"\{([^{}]*)\}")

_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
"""Characters that a file name cannot have on every system. A STAC item may have any name."""

_DEFAULT_ENDS = {
    "output": "_landcover.tif",
    "confidence": "_confidence.tif",
    "probabilities": "_probabilities.tif",
    "vectors": "_landcover.gpkg",
    "report": "_report.html",
    "areas": "_areas.csv",
    "stac": "_landcover.json",
}
"""Ends of names in a folder that is given instead of a pattern."""


def map_requests(
    scenes: Sequence[BatchScene],
    output: str | os.PathLike[str],
    options: PredictOptions,
    outputs: PredictOutputs,
) -> list[MapRequest]:
    """What to map and what to write for each scene.

    Args:
        output: A pattern with ``FIELDS`` in braces, or a folder: the maps in it are then called
            ``{stem}_landcover.tif``. The paths in ``outputs`` are patterns or folders too.

    Raises:
        UsageError: A pattern has an unknown field, a scene lacks a field's value, or two outputs
            would have the same path.
    """
    patterns = {
        name: _pattern(value, end)
        for name, end in _DEFAULT_ENDS.items()
        if (value := output if name == "output" else getattr(outputs, name)) is not None
    }
    requests = [_request(scene, patterns, options, outputs) for scene in scenes]
    _check_distinct(scenes, requests, str(output))
    return requests


def without_outputs(
    scenes: Sequence[BatchScene], requests: Sequence[MapRequest]
) -> tuple[list[BatchScene], list[MapRequest]]:
    """Leaves out maps of an earlier run: a pattern for scenes may match them too.

    Raises:
        UsageError: A scene that is no map would be overwritten by the map of another.
    """
    written = {_identity(place): place for request in requests for place in output_places(request)}
    kept = []
    for scene, request in zip(scenes, requests, strict=True):
        hit = [written[key] for file in scene.files if (key := _identity(file)) in written]
        if hit and not _is_map(hit[0]):
            raise UsageError(
                f"{hit[0]}: is one of the scenes, and would be the output of another; choose other "
                "names for the outputs, or another folder"
            )
        if not hit:
            kept.append((scene, request))
    return [scene for scene, _ in kept], [request for _, request in kept]


def _is_map(path: str) -> bool:
    """Whether a file is a raster that ``predict`` has written."""
    try:
        with open_dataset(path) as dataset:
            return VERSION_TAG in dataset.tags()
    except CwsamGeoError:
        return False


def _request(
    scene: BatchScene,
    patterns: Mapping[str, str],
    options: PredictOptions,
    outputs: PredictOutputs,
) -> MapRequest:
    paths: dict[str, Any] = {n: _filled(pattern, scene) for n, pattern in patterns.items()}
    output = paths.pop("output")
    return MapRequest.of(scene.files, output, options, replace(outputs, **paths))


def output_paths(request: MapRequest) -> list[Path]:
    """Paths of all outputs of a request, the raster of classes first."""
    return [*request.rasters, *companion_paths(request).values()]


def output_places(request: MapRequest) -> list[str]:
    """Paths or URLs of all outputs of a request, the raster of classes first."""
    return [request.uploads.location(path) for path in output_paths(request)]


def companion_paths(request: MapRequest) -> dict[str, Path]:
    """Paths of the outputs of a request that are made from its map, by their option."""
    outputs = request.outputs
    paths = {
        "qml": qml_path(request.output) if outputs.qml else None,
        "areas": outputs.areas,
        "vectors": outputs.vectors,
        "report": outputs.report,
        "stac": outputs.stac,
    }
    return {name: Path(path) for name, path in paths.items() if path is not None}


def _pattern(value: str | os.PathLike[str], end: str) -> str:
    text = os.fspath(value)
    if text.endswith(("/", os.sep)) or os.path.isdir(text):
        text = os.path.join(text, f"{{stem}}{end}")
    rest = _FIELD.sub("", text)
    unknown = [name for name in _FIELD.findall(text) if name not in FIELDS]
    if unknown or "{" in rest or "}" in rest:
        wrong = f"{{{unknown[0]}}} is no field" if unknown else "a brace is not closed"
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise UsageError(f"{text}: {wrong}; the fields of a name are {known}")
    return text


def _filled(pattern: str, scene: BatchScene) -> str:
    def value(match: re.Match[str]) -> str:
        text = getattr(scene, match[1])
        if not text:
            raise UsageError(
                f"{scene.label}: neither its name nor a STAC item tells its {match[1]}; "
                f"name the outputs by another field than {match[0]}, such as {{stem}}"
            )
        # Leading dots would hide the file or leave the folder.
        return _UNSAFE.sub("_", text).strip(". ") or "_"

    return _FIELD.sub(value, pattern)


def _check_distinct(
    scenes: Sequence[BatchScene], requests: Sequence[MapRequest], pattern: str
) -> None:
    if len(requests) > 1 and not _FIELD.search(_pattern(pattern, "")):
        raise UsageError(
            f"{pattern}: is one name for {len(requests)} scenes; put a field into it, such as "
            f"{_with_stem(pattern)}"
        )
    taken: dict[str, BatchScene] = {}
    for scene, request in zip(scenes, requests, strict=True):
        for path in output_places(request):
            other = taken.setdefault(_identity(path), scene)
            if other is not scene:
                raise UsageError(
                    f"{path}: would be the output of {other.label} and of {scene.label}; "
                    "distinguish their names, such as by {parent}_{stem}, {date} or {id}"
                )


def _identity(path: str | os.PathLike[str]) -> str:
    return os.path.normcase(os.path.realpath(path))


def _with_stem(pattern: str) -> str:
    folder, name = os.path.split(pattern)
    return os.path.join(folder, f"{{stem}}_{name}")
