"""The functions behind the commands that bring scenes and models together."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cwsam_geo import __version__
from cwsam_geo.blend import BLENDS, BlendName
from cwsam_geo.errors import UsageError
from cwsam_geo.io.crop import crop_to_aoi, crop_to_bounds
from cwsam_geo.io.raster_sink import (
    FORMATS,
    RasterFormat,
    RasterLayout,
    check_raster_output,
    raster_sink,
)
from cwsam_geo.io.source import Source, open_source
from cwsam_geo.legend import NODATA, Legend
from cwsam_geo.model.bundle import ModelBundle
from cwsam_geo.model.device import auto_batch_size, resolve_device, resolve_precision
from cwsam_geo.model.predictor import LoadedModel, TorchPredictor
from cwsam_geo.model.store import find_model, load_full
from cwsam_geo.predict import MapJob, MapSummary, Progress, Sinks, map_scene
from cwsam_geo.reading import Reading, plan_reading
from cwsam_geo.units import UnitsOption

DEFAULT_MODEL = "s1-landcover"
"""The bundled model that ``predict`` takes unless told otherwise."""

Scene = str | os.PathLike[str]
Event = Mapping[str, Any]


@dataclass(frozen=True)
class PredictOptions:
    """How a scene is mapped.

    Attributes:
        model: Name of a bundled model, or path of a model bundle.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        batch_size: Tiles at once, or None for what suits the device.
        overlap: Pixels shared by neighbouring tiles, or None for an eighth of a tile.
        blend: How they share them.
        bidx: Bands of the scene to take, from 1, or None for those the model wants.
        units: What the scene's values are; ``auto`` decides from the whole scene.
        nodata: Value that is nodata, ``"none"``, or None for what the scene declares.
        bounds: West, south, east, north in the scene's CRS: map only this part.
        aoi: Vector file: map only what lies in its polygons.
        tta: Average over four flips, at four times the cost.
    """

    model: str | os.PathLike[str] = DEFAULT_MODEL
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    overlap: int | None = None
    blend: BlendName = "cosine"
    bidx: Sequence[int] | None = None
    units: UnitsOption = "auto"
    nodata: float | str | None = None
    bounds: tuple[float, float, float, float] | None = None
    aoi: str | os.PathLike[str] | None = None
    tta: bool = False

    def __post_init__(self) -> None:
        if self.bounds is not None and self.aoi is not None:
            raise UsageError("give --bounds or --aoi, not both")
        if self.blend not in BLENDS:
            raise UsageError(f"blend {self.blend!r} is none of {', '.join(BLENDS)}")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}: at least 1")


@dataclass(frozen=True)
class PredictOutputs:
    """What ``predict_scene`` writes besides the classes, and how.

    Attributes:
        confidence: Raster of the winning class's probability in per cent.
        probabilities: Raster of every class's probability in per cent, a band each.
        format: ``COG`` or ``GTiff``.
        creation_options: GDAL creation options for all rasters.
        overwrite: Replace files that are there.
    """

    confidence: str | os.PathLike[str] | None = None
    probabilities: str | os.PathLike[str] | None = None
    format: RasterFormat = "COG"
    creation_options: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"format {self.format!r} is none of {', '.join(FORMATS)}")


def predict_scene(
    scene: Scene | Sequence[Scene],
    output: str | os.PathLike[str],
    options: PredictOptions | None = None,
    outputs: PredictOutputs | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> MapSummary:
    """Maps a scene: writes a georeferenced raster of class codes.

    Args:
        scene: Anything rasterio opens, or several single-band files of one grid.
        output: The raster to write, ``*.tif``: uint8 codes, nodata 255, on the scene's grid.
        options: How the scene is mapped.
        outputs: What else is written, and how.
        on_event: Called with mappings whose ``event`` is ``decision``, ``warning``, ``start``,
            ``progress`` or ``done``.

    Returns:
        Counts and times.

    Raises:
        CwsamGeoError: With one line that says what is wrong and what to do.
        MemoryError: A single tile does not fit into memory.
    """
    options, outputs = options or PredictOptions(), outputs or PredictOutputs()
    scenes = [scene] if isinstance(scene, (str, os.PathLike)) else list(scene)
    _check_paths(scenes, Path(output), outputs)
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device)
    model_path = find_model(options.model)
    bundle = load_full(model_path)
    with contextlib.closing(open_source(scenes, options.bidx, _nodata(options))) as whole:
        reading = plan_reading(whole, bundle.preprocess, options.units)
        _tell(on_event, bundle, reading)
        source = _cropped(reading.source, options)
        model = LoadedModel(bundle, device, precision)
        predictor = TorchPredictor(model, options.tta)
        job = MapJob(
            spec=bundle.preprocess,
            legend=bundle.legend,
            scene=reading.scene_bands,
            overlap=default_overlap(predictor.tile_size)
            if options.overlap is None
            else options.overlap,
            blend=options.blend,
            batch_size=options.batch_size or auto_batch_size(bundle.architecture, device),
        )
        tags = _tags(bundle.legend, model_path, source, _settings(job, predictor, options.tta))
        on_event(_start_event(source, predictor, job))
        with contextlib.ExitStack() as stack:
            sinks = _open_sinks(stack, Path(output), source, bundle.legend, outputs, tags)
            summary = map_scene(
                source, predictor, job, sinks, lambda p: on_event(_progress_event(p))
            )
    on_event(_done_event(Path(output), bundle.legend, summary))
    return summary


def default_overlap(tile_size: int) -> int:
    """An eighth of a tile."""
    return tile_size // 8


def _check_paths(scenes: Sequence[Scene], output: Path, outputs: PredictOutputs) -> None:
    """All outputs are usable, and none is an input or another output."""
    targets = [Path(p) for p in (output, outputs.confidence, outputs.probabilities) if p]
    taken = {os.path.realpath(s): "the scene" for s in scenes}
    for target in targets:
        check_raster_output(target, outputs.overwrite)
        real = os.path.realpath(target)
        if real in taken:
            raise UsageError(f"{target}: is {taken[real]} too; choose another output")
        taken[real] = "another output"


def _nodata(options: PredictOptions) -> Any:
    if options.nodata is None or options.nodata == "none":
        return options.nodata
    try:
        return float(options.nodata)
    except ValueError:
        raise UsageError(f'nodata {options.nodata!r}: give a number, "nan" or "none"') from None


def _tell(on_event: Callable[[Event], None], bundle: ModelBundle, reading: Reading) -> None:
    for text in reading.remarks:
        on_event({"event": "decision", "text": text})
    warnings = list(reading.warnings)
    if bundle.provenance.get("trained") is False:
        warnings.append(
            "this model has not been trained: its classes mean nothing; "
            "fine-tune it, or use it only to try the program"
        )
    for text in warnings:
        on_event({"event": "warning", "text": text})


def _cropped(source: Source, options: PredictOptions) -> Source:
    if options.bounds is not None:
        return crop_to_bounds(source, options.bounds)
    return source if options.aoi is None else crop_to_aoi(source, options.aoi)


def _open_sinks(
    stack: contextlib.ExitStack,
    output: Path,
    source: Source,
    legend: Legend,
    outputs: PredictOutputs,
    tags: Mapping[str, str],
) -> Sinks:
    """The sinks, the classes first: they are put in place last, when all else is done."""

    def sink(path: str | os.PathLike[str], layout: RasterLayout) -> Any:
        return stack.enter_context(raster_sink(path, source.grid, layout, outputs.overwrite))

    def layout(bands: int, descriptions: Sequence[str], classes: bool) -> RasterLayout:
        return RasterLayout(
            bands=bands,
            format=outputs.format,
            overviews="MODE" if classes else "AVERAGE",
            options=outputs.creation_options,
            colormap=legend.colormap if classes else None,
            descriptions=tuple(descriptions),
            tags=tags,
        )

    classes = sink(output, layout(1, ["class"], True))
    confidence = probabilities = None
    if outputs.confidence is not None:
        confidence = sink(outputs.confidence, layout(1, ["confidence (%)"], False))
    if outputs.probabilities is not None:
        names = [f"{name} (%)" for name in legend.names]
        probabilities = sink(outputs.probabilities, layout(len(names), names, False))
    return Sinks(classes, confidence, probabilities)


def _settings(job: MapJob, predictor: TorchPredictor, tta: bool) -> dict[str, Any]:
    return {
        "tile_size": predictor.tile_size,
        "overlap": job.overlap,
        "blend": job.blend,
        "precision": predictor.precision,
        "tta": tta,
        "units": job.scene.units,
        "bands": dict(zip(job.spec.bands, job.scene.positions, strict=True)),
        "stretch": job.scene.stretch,
    }


def _tags(
    legend: Legend, model: Path, source: Source, settings: Mapping[str, Any]
) -> dict[str, str]:
    """Provenance: enough to make the same map again."""
    return {
        "LEGEND": legend.to_json(),
        "CWSAM_GEO_VERSION": __version__,
        "CWSAM_GEO_MODEL": json.dumps({"file": model.name, "sha256": _sha256(model)}),
        "CWSAM_GEO_SETTINGS": json.dumps(settings),
        "CWSAM_GEO_INPUT": source.label,
        "TIFFTAG_SOFTWARE": f"cwsam-geo {__version__} (Python {platform.python_version()})",
        "TIFFTAG_DATETIME": datetime.now(timezone.utc).strftime("%Y:%m:%d %H:%M:%S"),
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _start_event(source: Source, predictor: TorchPredictor, job: MapJob) -> Event:
    return {
        "event": "start",
        "width": source.grid.width,
        "height": source.grid.height,
        "device": str(predictor.device),
        "precision": predictor.precision,
        "tile_size": predictor.tile_size,
        "overlap": job.overlap,
        "batch_size": job.batch_size,
    }


def _progress_event(progress: Progress) -> Event:
    rate = progress.tiles / max(progress.seconds, 1e-9)
    return {
        "event": "progress",
        "tiles": progress.tiles,
        "total": progress.total,
        "tiles_per_second": round(rate, 3),
        "mpx_per_second": round(progress.pixels / 1e6 / max(progress.seconds, 1e-9), 4),
        "seconds_left": math.ceil((progress.total - progress.tiles) / rate),
    }


def _done_event(output: Path, legend: Legend, summary: MapSummary) -> Event:
    known = {int(e.code): e.name for e in legend.entries} | {NODATA: "nodata"}
    return {
        "event": "done",
        "output": str(output),
        "pixels": {known[code]: n for code, n in summary.pixels.items()},
        "tiles": summary.tiles,
        "empty_tiles": summary.empty_tiles,
        "batch_size": summary.batch_size,
        "seconds": round(summary.seconds, 3),
        "model_seconds": round(summary.model_seconds, 3),
    }
