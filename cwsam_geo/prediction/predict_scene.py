"""Maps a scene with a model: ``predict_scene``, the function behind ``cwsam-geo predict``."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cwsam_geo.areas.class_areas import class_areas, write_areas
from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.core.legend import NODATA, Legend
from cwsam_geo.io.qml import qml_path, write_qml
from cwsam_geo.io.raster_sink import RasterLayout, raster_sink
from cwsam_geo.model.bundles.bundle import read_header
from cwsam_geo.model.device import (
    check_compile,
    precision_warning,
    resolve_device,
    resolve_precision,
)
from cwsam_geo.model.runtime.predictor import LoadedModel, TorchPredictor
from cwsam_geo.model.store import find_bundle, load_full, renamed
from cwsam_geo.prediction.map_item import Companion, write_item
from cwsam_geo.prediction.options import PredictOptions, PredictOutputs
from cwsam_geo.prediction.pipeline import MapSettings, MapSummary, Progress, Sinks, map_scene
from cwsam_geo.prediction.preparation import (
    Event,
    MapRequest,
    ModelFacts,
    PreparedScene,
    Scene,
    check_request,
    prepare_scene,
)
from cwsam_geo.prediction.report import report_on_map, with_confidence
from cwsam_geo.prediction.stream import BandReader


def predict_scene(
    scene: Scene | Sequence[Scene],
    output: str | os.PathLike[str],
    options: PredictOptions | None = None,
    outputs: PredictOutputs | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
    model: LoadedModel | None = None,
) -> MapSummary:
    """Maps a scene: writes a georeferenced raster of class codes.

    Args:
        scene: Anything rasterio opens, a STAC item, or several single-band files of one grid.
        output: Path of the raster, ``*.tif``: uint8 codes, nodata 255, on the scene's grid.
        options: How the scene is mapped; None for the defaults.
        outputs: Further outputs, and the format; None for the defaults.
        on_event: Called with mappings whose ``event`` is ``decision``, ``warning``, ``start``,
            ``progress`` or ``done``; events of ``vectorize`` and
            ``report_map`` also have ``stage: vectors`` and ``stage: report``.
        model: A model of ``load_model``, to map several scenes without loading it again. The
            options ``model``, ``device``, ``precision`` and ``compile`` then have no effect.

    Returns:
        Counts of pixels and tiles, and times in seconds.

    Raises:
        CwsamGeoError: An option, the scene, the model or an output is at fault; one line says what
            is wrong and what to do.
        MemoryError: A single tile does not fit into memory.
    """
    scenes = (scene,) if isinstance(scene, (str, os.PathLike)) else tuple(scene)
    request = MapRequest(
        scenes, Path(output), options or PredictOptions(), outputs or PredictOutputs()
    )
    # All checks come before the model computes, which may take hours.
    check_request(request)
    if model is None:
        model = load_chosen(choose_model(request.options, on_event), request.options.compile)
    with prepare_scene(request, ModelFacts.of(model), on_event) as prepared:
        return map_prepared(prepared, model, on_event)


def choose_model(options: PredictOptions, on_event: Callable[[Event], None]) -> ModelFacts:
    """The model that the options name, its device and precision, without its weights.

    Warns of a precision that is slow on this device.

    Raises:
        ModelError: There is no such model.
        UsageError: The device or the precision is not available on this machine.
    """
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device, fast=True)
    if options.compile:
        check_compile(device)
    slow = precision_warning(precision, device)
    if slow is not None:
        on_event({"event": "warning", "text": slow})
    path = find_bundle(options.model)
    if (remark := renamed(options.model, path)) is not None:
        on_event({"event": "decision", "text": remark})
    return ModelFacts(read_header(path), path, device, precision)


def load_chosen(model: ModelFacts, compile: bool) -> LoadedModel:
    """Loads the model of ``choose_model``, for inference only.

    Raises:
        ModelError: See ``load_full``.
    """
    assert model.path is not None
    bundle = load_full(model.path)
    return LoadedModel(bundle, model.device, model.precision, "fast", compile, model.path)


def map_prepared(
    prepared: PreparedScene,
    model: LoadedModel,
    on_event: Callable[[Event], None] = lambda _: None,
    bands: BandReader | None = None,
) -> MapSummary:
    """Maps a prepared scene and writes its outputs; see ``predict_scene``.

    Args:
        bands: Reads the scene for ``prepared.plan`` already; None to begin now.
    """
    settings, grid = prepared.settings, prepared.grid
    predictor = TorchPredictor(model, prepared.request.options.tta)
    on_event(_start_event(grid, predictor, settings))
    with with_confidence(prepared.request) as request:
        # Leaving the stack finishes the files and renames them into place.
        with contextlib.ExitStack() as stack:
            sinks = _open_sinks(stack, request, grid, settings, prepared.tags)
            summary = map_scene(
                prepared.source,
                predictor,
                settings,
                sinks,
                lambda progress: on_event(_progress_event(progress)),
                prepared.part,
                bands,
            )
        summary.output = str(request.output)
        on_event(_done_event(request.output, settings.map_legend, summary))
        describe_map(request, settings.map_legend, on_event)
        if request.outputs.report is not None:
            report_on_map(request, model.path, on_event)
    if request.outputs.stac is not None:
        catalogue_map(prepared.request)
    return summary


def describe_map(
    request: MapRequest, legend: Legend, on_event: Callable[[Event], None] = lambda _: None
) -> None:
    """Writes the outputs of a request that are made from its map: style, areas and polygons.

    Args:
        request: The request, whose map exists.
        legend: The classes of the map.
    """
    outputs = request.outputs
    if outputs.qml:
        write_qml(request.output, legend, outputs.overwrite)
    if outputs.areas is not None:
        table = class_areas(request.output)
        write_areas(table, outputs.areas, outputs.overwrite)
        on_event({"event": "areas", **table.to_dict(), "output": str(outputs.areas)})
    if outputs.vectors is not None:
        vectorize_map(request, on_event)


def catalogue_map(request: MapRequest) -> None:
    """Writes the STAC item of a request whose outputs exist."""
    outputs = request.outputs
    assert outputs.stac is not None
    listed: list[tuple[str, Any, str, str]] = [
        ("confidence", outputs.confidence, "Probability of the winning class in per cent", "data"),
        ("probabilities", outputs.probabilities, "Probability of each class in per cent", "data"),
        ("polygons", outputs.vectors, "The classes as polygons", "data"),
        ("areas", outputs.areas, "Area of each class", "metadata"),
        ("report", outputs.report, "Report of the map", "metadata"),
        ("style", qml_path(request.output) if outputs.qml else None, "QGIS style", "metadata"),
    ]
    companions = tuple(Companion(*item) for item in listed if item[1] is not None)
    write_item(request.output, outputs.stac, companions, outputs.overwrite)


def vectorize_map(request: MapRequest, on_event: Callable[[Event], None]) -> None:
    """Writes the polygons of a request whose map exists."""
    # Imported only when needed: geopandas takes a second and 150 MB.
    from cwsam_geo.vectorization.options import VectorizeOptions
    from cwsam_geo.vectorization.vectorize import vectorize

    outputs = request.outputs
    assert outputs.vectors is not None
    vectorize(
        request.output,
        outputs.vectors,
        VectorizeOptions(confidence=outputs.confidence, overwrite=outputs.overwrite),
        lambda event: on_event({"stage": "vectors", **event}),
    )


def _open_sinks(
    stack: contextlib.ExitStack,
    request: MapRequest,
    grid: SceneGrid,
    settings: MapSettings,
    tags: Mapping[str, str],
) -> Sinks:
    outputs = request.outputs

    def sink(path: str | os.PathLike[str], layout: RasterLayout) -> Any:
        return stack.enter_context(raster_sink(path, grid, layout, outputs.overwrite))

    def layout(bands: int, descriptions: Sequence[str], classes: bool) -> RasterLayout:
        return RasterLayout(
            bands=bands,
            format=outputs.format,
            overviews="MODE" if classes else "AVERAGE",
            options=outputs.creation_options,
            legend=settings.map_legend if classes else None,
            descriptions=tuple(descriptions),
            tags=tags,
        )

    # The stack closes in reverse order. The classes are opened first, so that their file is renamed
    # into place last: once it exists, the other outputs are complete.
    classes = sink(request.output, layout(1, ["class"], True))
    confidence = probabilities = None
    if outputs.confidence is not None:
        confidence = sink(outputs.confidence, layout(1, ["confidence (%)"], False))
    if outputs.probabilities is not None:
        names = [f"{name} (%)" for name in settings.legend.names]
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
