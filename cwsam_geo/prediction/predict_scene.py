"""Maps a scene with a model: ``predict_scene``, the function behind ``cwsam-geo predict``."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cwsam_geo.atomic import check_apart
from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.core.legend import NODATA, Legend
from cwsam_geo.core.tiling import default_overlap
from cwsam_geo.errors import UsageError
from cwsam_geo.io.geolocation import locate
from cwsam_geo.io.raster_sink import RasterLayout, check_raster_output, raster_sink
from cwsam_geo.model.bundles.bundle import ModelBundle
from cwsam_geo.model.device import (
    auto_batch_size,
    check_compile,
    precision_warning,
    resolve_device,
    resolve_precision,
)
from cwsam_geo.model.runtime.predictor import LoadedModel, TorchPredictor
from cwsam_geo.model.store import find_model, load_full
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs
from cwsam_geo.prediction.pipeline import MapSettings, MapSummary, Progress, Sinks, map_scene
from cwsam_geo.prediction.provenance import map_tags, settings_of
from cwsam_geo.scene.crop import ScenePart, part_in_area, part_in_bounds
from cwsam_geo.scene.plausibility import place_warning
from cwsam_geo.scene.reading import Reading, plan_reading
from cwsam_geo.scene.source import RasterSource, Source, open_source

Scene = str | os.PathLike[str]

Event = Mapping[str, Any]


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
        output: Path of the raster, ``*.tif``: uint8 codes, nodata 255, on the scene's grid.
        options: How the scene is mapped; None for the defaults.
        outputs: Further outputs, and the format; None for the defaults.
        on_event: Called with mappings whose ``event`` is ``decision``, ``warning``, ``start``,
            ``progress`` or ``done``; events of ``vectorize`` also have ``stage: vectors``.

    Returns:
        Counts of pixels and tiles, and times in seconds.

    Raises:
        CwsamGeoError: An option, the scene, the model or an output is at fault; one line says what
            is wrong and what to do.
        MemoryError: A single tile does not fit into memory.
    """
    # All checks come before the model computes, which may take hours.
    options, outputs = options or PredictOptions(), outputs or PredictOutputs()
    scenes = [scene] if isinstance(scene, (str, os.PathLike)) else list(scene)
    targets = _check_paths(scenes, Path(output), options, outputs)
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device, fast=True)
    if options.compile:
        check_compile(device)
    slow = precision_warning(precision, device)
    if slow is not None:
        on_event({"event": "warning", "text": slow})
    model_path = find_model(options.model)
    bundle = load_full(model_path)
    opened = open_source(scenes, options.bidx, _nodata(options), options.scale, options.offset)
    with contextlib.closing(opened) as whole:
        _check_files(targets, whole)
        _check_vectors(outputs, whole)
        reading = plan_reading(whole, bundle.preprocess, options.units)
        _report_decisions(on_event, bundle, reading)
        source = reading.source
        part = _part(source, options)
        grid = source.grid.crop(part.window)
        model = LoadedModel(bundle, device, precision, "fast", options.compile)
        del bundle  # frees its weights, gigabytes for vit_h: the model has its own copy
        predictor = TorchPredictor(model, options.tta)
        job = MapSettings(
            spec=model.preprocess,
            legend=model.legend,
            scene=reading.scene_bands,
            overlap=default_overlap(predictor.tile_size)
            if options.overlap is None
            else options.overlap,
            blend=options.blend,
            batch_size=options.batch_size or auto_batch_size(model.architecture, device),
        )
        tags = map_tags(
            model.legend, model_path, source, settings_of(job, predictor, options, reading)
        )
        on_event(_start_event(grid, predictor, job))
        # Leaving the stack finishes the files and renames them into place.
        with contextlib.ExitStack() as stack:
            sinks = _open_sinks(stack, Path(output), grid, model.legend, outputs, tags)
            summary = map_scene(
                source, predictor, job, sinks, lambda p: on_event(_progress_event(p)), part
            )
    on_event(_done_event(Path(output), model.legend, summary))
    if outputs.vectors is not None:
        _vectorize(output, outputs, on_event)
    return summary


def _vectorize(
    output: str | os.PathLike[str], outputs: PredictOutputs, on_event: Callable[[Event], None]
) -> None:
    # Imported only when needed: geopandas takes a second and 150 MB.
    from cwsam_geo.vectorization.options import VectorizeOptions
    from cwsam_geo.vectorization.vectorize import vectorize

    assert outputs.vectors is not None
    vectorize(
        output,
        outputs.vectors,
        VectorizeOptions(confidence=outputs.confidence, overwrite=outputs.overwrite),
        lambda event: on_event({"stage": "vectors", **event}),
    )


def _check_paths(
    scenes: Sequence[Scene], output: Path, options: PredictOptions, outputs: PredictOutputs
) -> list[Path]:
    """Refuses outputs that cannot be written or coincide with other files; returns all paths."""
    targets = [Path(p) for p in (output, outputs.confidence, outputs.probabilities) if p]
    for target in targets:
        check_raster_output(target, outputs.overwrite)
    if outputs.vectors is not None:
        # Imported only when needed: geopandas takes a second and 150 MB.
        from cwsam_geo.vectorization.formats import check_vectors

        targets.append(check_vectors(outputs.vectors, outputs.overwrite))
    inputs: dict[str | os.PathLike[str], str] = dict.fromkeys(scenes, "the scene")
    if options.aoi is not None:
        inputs[options.aoi] = "the area of interest"
    check_apart(targets, inputs)
    return targets


def _check_files(targets: Sequence[Path], source: RasterSource) -> None:
    """Refuses an output that is a file of the scene, such as a member of a product or of a VRT."""
    files = [file for dataset in source.datasets for file in dataset.files]
    check_apart(targets, dict.fromkeys(files, "a file of the scene"))


def _check_vectors(outputs: PredictOutputs, source: Source) -> None:
    if outputs.vectors is not None:
        from cwsam_geo.vectorization.vectorize import check_placeable

        check_placeable(locate(source.grid, source.label), outputs.vectors)


def _nodata(options: PredictOptions) -> Any:
    """The nodata option as ``open_source`` takes it: a number, ``"none"`` or None."""
    if options.nodata is None or options.nodata == "none":
        return options.nodata
    try:
        return float(options.nodata)
    except ValueError:
        raise UsageError(f'nodata {options.nodata!r}: give a number, "nan" or "none"') from None


def _report_decisions(
    on_event: Callable[[Event], None], bundle: ModelBundle, reading: Reading
) -> None:
    for text in reading.remarks:
        on_event({"event": "decision", "text": text})
    warnings = list(reading.warnings)
    if (place := place_warning(reading.source.grid)) is not None:
        warnings.append(place)
    if bundle.provenance.get("trained") is False:
        warnings.append(
            "this model has not been trained: its classes mean nothing; "
            "fine-tune it, or use it only to try the program"
        )
    for text in warnings:
        on_event({"event": "warning", "text": text})


def _part(source: Source, options: PredictOptions) -> ScenePart:
    if options.bounds is not None:
        return part_in_bounds(source.grid, source.label, options.bounds)
    if options.aoi is not None:
        return part_in_area(source.grid, source.label, options.aoi)
    return ScenePart(source.grid.window)


def _open_sinks(
    stack: contextlib.ExitStack,
    output: Path,
    grid: SceneGrid,
    legend: Legend,
    outputs: PredictOutputs,
    tags: Mapping[str, str],
) -> Sinks:
    def sink(path: str | os.PathLike[str], layout: RasterLayout) -> Any:
        return stack.enter_context(raster_sink(path, grid, layout, outputs.overwrite))

    def layout(bands: int, descriptions: Sequence[str], classes: bool) -> RasterLayout:
        return RasterLayout(
            bands=bands,
            format=outputs.format,
            overviews="MODE" if classes else "AVERAGE",
            options=outputs.creation_options,
            legend=legend if classes else None,
            descriptions=tuple(descriptions),
            tags=tags,
        )

    # The stack closes in reverse order. The classes are opened first, so that their file is renamed
    # into place last: once it exists, the other outputs are complete.
    classes = sink(output, layout(1, ["class"], True))
    confidence = probabilities = None
    if outputs.confidence is not None:
        confidence = sink(outputs.confidence, layout(1, ["confidence (%)"], False))
    if outputs.probabilities is not None:
        names = [f"{name} (%)" for name in legend.names]
        probabilities = sink(outputs.probabilities, layout(len(names), names, False))
    return Sinks(classes, confidence, probabilities)


def _start_event(grid: SceneGrid, predictor: TorchPredictor, job: MapSettings) -> Event:
    return {
        "event": "start",
        "width": grid.width,
        "height": grid.height,
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
    # If the model has a class "nodata", that class keeps the name.
    nodata = f"nodata ({NODATA})" if "nodata" in legend.names else "nodata"
    names = {int(e.code): e.name for e in legend.entries} | {NODATA: nodata}
    return {
        "event": "done",
        "output": str(output),
        "pixels": {names[code]: n for code, n in summary.pixels.items()},
        "tiles": summary.tiles,
        "empty_tiles": summary.empty_tiles,
        "batch_size": summary.batch_size,
        "seconds": round(summary.seconds, 3),
        "model_seconds": round(summary.model_seconds, 3),
    }
