"""The function behind ``cwsam-geo report``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cwsam_geo.atomic import atomic_output, check_apart, check_output
from cwsam_geo.evaluation.compared_pixels import ComparedFiles
from cwsam_geo.evaluation.evaluate import evaluate
from cwsam_geo.evaluation.page import ComparisonPictures, accuracy_values
from cwsam_geo.io.geolocation import Geolocation, locate
from cwsam_geo.io.map_tags import read_provenance
from cwsam_geo.io.raster_file import display_name, open_dataset
from cwsam_geo.map_report.counts import MapCounts, count_classes
from cwsam_geo.map_report.model_facts import model_facts, setting_rows
from cwsam_geo.map_report.options import PathLike, ReportOptions, ReportScene
from cwsam_geo.map_report.page_values import (
    area_table,
    confidence_values,
    file_rows,
    key_figures,
    lead,
)
from cwsam_geo.pages.layers import (
    Layer,
    class_layer,
    percent_layer,
    raster_grid,
    scene_layer,
)
from cwsam_geo.pages.map_view import MapView, layer_budget
from cwsam_geo.pages.outlines import outline_layer
from cwsam_geo.pages.page import render
from cwsam_geo.scene.source import RasterSource, open_source

Event = Mapping[str, Any]

_SCENE = Layer("scene", "Scene", "picture")
_CLASSES = Layer("classes", "Classes", "codes", "class", opacity=0.7)
_CONFIDENCE = Layer("confidence", "Confidence", "percent", "confidence", shown=False)
_OUTLINES = Layer("outlines", "Polygons", "outlines", shown=False, more={"color": "#000000"})


def report_map(
    map_path: PathLike,
    output: PathLike,
    options: ReportOptions | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> None:
    """Writes the report of a map: one HTML file, which needs no internet.

    It has a zoomable map, areas of the classes, the confidence, the settings and the model; with a
    reference also the accuracy. Its size is at most about 15 MB, whatever the map's size.

    Args:
        map_path: A class raster.
        output: The HTML file to write.
        options: What the report shows; None for the map alone.
        on_event: Called with mappings whose ``event`` is ``warning`` or ``done``.

    Raises:
        UsageError: A file cannot be laid over the map, or the output is an input or exists.
        SceneError: A file cannot be read.
        LegendError: The map has no classes, or values of the reference have none.
        OutputError: The report cannot be written.
    """
    options = options or ReportOptions()
    check_output(output, options.overwrite)
    check_apart([output], dict.fromkeys(_inputs(map_path, options), "an input"))
    counts = count_classes(map_path, options.confidence, options.band)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_opened(options.scene)) if options.scene.paths else None
        values = _values(map_path, options, counts, source, on_event)
    title = options.title or f"Land cover: {Path(display_name(map_path)).name}"
    page = render("report.html", title, values, with_map=True)
    with atomic_output(output, options.overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="")
    on_event({"event": "done", "output": os.fspath(output), "bytes": len(page.encode())})


def _opened(scene: ReportScene) -> RasterSource:
    nodata: Any = scene.nodata  # a number, "none" or None
    return open_source(list(scene.paths), scene.bidx, nodata, scene.scale, scene.offset)


def _inputs(map_path: PathLike, options: ReportOptions) -> list[PathLike]:
    others = (options.confidence, options.vectors, options.reference)
    return [map_path, *options.scene.paths, *(path for path in others if path is not None)]


def _values(
    map_path: PathLike,
    options: ReportOptions,
    counts: MapCounts,
    source: RasterSource | None,
    on_event: Callable[[Event], None],
) -> dict[str, Any]:
    label = display_name(map_path)
    location = locate(raster_grid(map_path), label)
    compared = _compared(map_path, options, source, on_event)
    with contextlib.closing(open_dataset(map_path)) as dataset:
        provenance = read_provenance(dataset.tags())
    named = provenance["model"]
    layers = _layers(map_path, options, location, source, compared)
    return {
        "lead": lead(provenance),
        "key_figures": list(key_figures(location, counts)),
        "warnings": list(options.warnings or provenance["warnings"]),
        "view": MapView(f"Land cover map {Path(label).name}", location, layers),
        "areas": area_table(map_path, counts, options.band),
        "confidence": None
        if options.confidence is None
        else confidence_values(counts, (provenance["settings"] or {}).get("temperature") or 1),
        "accuracy_of": _accuracy(compared),
        "model": model_facts(named, options.model) if named or options.model else None,
        "settings": [
            *file_rows(label, location, options, provenance),
            *setting_rows(provenance["settings"]),
        ],
    }


def _layers(
    map_path: PathLike,
    options: ReportOptions,
    location: Geolocation,
    source: RasterSource | None,
    compared: ComparisonPictures | None,
) -> list[Layer]:
    grid = location.grid
    shown = (source, options.confidence, options.vectors)
    number = 1 + sum(item is not None for item in shown) + (compared.layers if compared else 0)
    budget = layer_budget(number)
    layers = []
    if source is not None:
        layers.append(scene_layer(source, grid, budget, _SCENE))
    layers.append(class_layer(map_path, budget, _CLASSES, options.band))
    if options.confidence is not None:
        layers.append(percent_layer(options.confidence, grid, budget, _CONFIDENCE))
    if options.vectors is not None:
        layers.append(outline_layer(options.vectors, location, _OUTLINES))
    if compared is not None:
        layers += compared.drawn(budget)
    return layers


def _compared(
    map_path: PathLike,
    options: ReportOptions,
    source: RasterSource | None,
    on_event: Callable[[Event], None],
) -> ComparisonPictures | None:
    """The comparison with the reference, if there is one."""
    if options.reference is None:
        return None
    comparison = replace(options.comparison, map_band=options.band, confidence=options.confidence)
    evaluation = evaluate(map_path, options.reference, comparison)
    for remark in evaluation.remarks:
        on_event({"event": "warning", "text": remark})
    files = ComparedFiles(map_path, options.reference, evaluation)
    return ComparisonPictures(files, source)


def _accuracy(compared: ComparisonPictures | None) -> dict[str, Any] | None:
    if compared is None:
        return None
    report = compared.files.evaluation.to_dict()
    return {
        "name": Path(report["reference"]).name,
        "report": report,
        "a": accuracy_values(compared.files, compared.tiles()),
    }
