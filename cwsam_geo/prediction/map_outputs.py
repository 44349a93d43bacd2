"""The files of a map: its rasters, what is made of them, and the events that tell of them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cwsam_geo.areas.class_areas import class_areas, write_areas
from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.core.legend import NODATA, Legend
from cwsam_geo.io.qml import qml_path, write_qml
from cwsam_geo.io.raster_sink import OnBlock, RasterLayout, raster_sink
from cwsam_geo.prediction.map_item import Companion, write_item
from cwsam_geo.prediction.pipeline import MapSummary, Progress, Sinks
from cwsam_geo.prediction.preparation import Event, MapRequest, PreparedScene
from cwsam_geo.prediction.report import report_on_map


def open_sinks(
    stack: contextlib.ExitStack,
    prepared: PreparedScene,
    request: MapRequest,
    on_block: Callable[[str], OnBlock] | None = None,
    grid: SceneGrid | None = None,
) -> Sinks:
    """Opens the rasters of a request; leaving the stack finishes them.

    Args:
        request: The request of the scene, with the rasters that are really written.
        on_block: Gives, by the name of a raster, what also gets its storage blocks.
        grid: The grid of the rasters; None for that of the scene.
    """
    outputs, settings = request.outputs, prepared.settings
    onto = prepared.grid if grid is None else grid

    def sink(name: str, path: str | os.PathLike[str], layout: RasterLayout) -> Any:
        block = None if on_block is None else on_block(name)
        return stack.enter_context(raster_sink(path, onto, layout, outputs.overwrite, block))

    def layout(bands: int, descriptions: Sequence[str], classes: bool) -> RasterLayout:
        return RasterLayout(
            bands=bands,
            format=outputs.format,
            overviews="MODE" if classes else "AVERAGE",
            options=outputs.creation_options,
            legend=settings.map_legend if classes else None,
            descriptions=tuple(descriptions),
            tags=prepared.tags,
        )

    # The stack closes in reverse order. The classes are opened first, so that their file is renamed
    # into place last: once it exists, the other outputs are complete.
    classes = sink("classes", request.output, layout(1, ["class"], True))
    confidence = probabilities = None
    if outputs.confidence is not None:
        confidence = sink("confidence", outputs.confidence, layout(1, ["confidence (%)"], False))
    if outputs.probabilities is not None:
        names = [f"{name} (%)" for name in settings.legend.names]
        shape = layout(len(names), names, False)
        probabilities = sink("probabilities", outputs.probabilities, shape)
    return Sinks(classes, confidence, probabilities)


def finish_map(
    prepared: PreparedScene,
    request: MapRequest,
    summary: MapSummary,
    model: Path | None,
    on_event: Callable[[Event], None],
) -> None:
    """Tells that the rasters are there, and writes what is made of them.

    Args:
        request: The request of the scene, with the rasters that are really written.
        model: The model's bundle, if it is a file.
    """
    legend = prepared.settings.map_legend
    summary.output = request.uploads.shown(request.output)
    on_event(_done_event(request.output, legend, summary))
    describe_map(request, legend, on_event)
    if request.outputs.report is not None:
        report_on_map(request, model, on_event)


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


def start_event(prepared: PreparedScene, device: str, precision: str) -> Event:
    """The event of a run that begins.

    Args:
        device: Where it computes, in words.
    """
    window, settings = prepared.part.window, prepared.settings
    return {
        "event": "start",
        "width": window.width,
        "height": window.height,
        "device": device,
        "precision": precision,
        "tile_size": prepared.plan.tile_size,
        "overlap": settings.overlap,
        "batch_size": settings.batch_size,
    }


def progress_event(progress: Progress, before: int = 0) -> Event:
    """The event of some progress.

    Args:
        before: Tiles that were finished before the run.
    """
    rate = (progress.tiles - before) / max(progress.seconds, 1e-9)
    return {
        "event": "progress",
        "tiles": progress.tiles,
        "total": progress.total,
        "tiles_per_second": round(rate, 3),
        "mpx_per_second": round(progress.pixels / 1e6 / max(progress.seconds, 1e-9), 4),
        "seconds_left": math.ceil((progress.total - progress.tiles) / rate) if rate else None,
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
