"""The function behind ``cwsam-geo evaluate``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from cwsam_geo.atomic import check_apart, check_output
from cwsam_geo.errors import UsageError
from cwsam_geo.evaluation.compared_pixels import ComparedFiles
from cwsam_geo.evaluation.options import EvaluateOptions, EvaluateOutputs
from cwsam_geo.evaluation.overlay import Overlay
from cwsam_geo.evaluation.pixels import evaluate_pixels
from cwsam_geo.evaluation.points import evaluate_points
from cwsam_geo.evaluation.report_files import write_reports
from cwsam_geo.evaluation.result import Evaluation
from cwsam_geo.io.figures import new_figure
from cwsam_geo.io.vector_file import Features

Event = Mapping[str, Any]


def evaluate(
    map_path: str | os.PathLike[str],
    reference_path: str | os.PathLike[str],
    options: EvaluateOptions | None = None,
    outputs: EvaluateOutputs | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Evaluation:
    """Compares a class raster with a reference, and writes reports.

    The comparison runs on the map's grid, window by window. A reference raster on another grid or
    in another CRS is resampled by nearest neighbour; polygons are rasterised, and where they
    overlap, the later one counts. A pixel counts where both the map and the reference have a class.
    Points are treated as a stratified sample: the map's classes are the strata, unless the options
    name others, and accuracy and areas are estimated after Olofsson et al. (2014,
    doi:10.1016/j.rse.2014.02.015).

    Args:
        map_path: Class raster with codes 0 to 254; 255 and the declared nodata value are nodata.
            The classes come from its ``LEGEND`` tag, from GDAL's or ESRI's attribute table, from
            GDAL's category names, or from its palette.
        reference_path: Class raster, RGB picture in the classes' colours, or vector file of
            polygons or points, also zipped; points may be a CSV table.
        options: Matching of classes, bands, columns, area of interest and legend.
        outputs: Reports to write; None for none.
        on_event: Called with mappings whose ``event`` is ``progress``, ``warning`` or ``report``,
            the last with the whole report.

    Raises:
        UsageError: The two files cannot be aligned, or do not overlap; the path of a report cannot
            be written, or is that of an input.
        LegendError: A code has no class. The message lists such codes with their counts.
        SceneError: A file cannot be read.
        OutputError: A report cannot be written.
    """
    options, outputs = options or EvaluateOptions(), outputs or EvaluateOutputs()
    _check_outputs(outputs, [map_path, reference_path, *_inputs(options, outputs)])

    def progress(done: int, total: int) -> None:
        on_event({"event": "progress", "pixels": done, "total": total})

    with contextlib.closing(Overlay(map_path, reference_path, options, progress)) as overlay:
        if isinstance(overlay.reference, Features):
            result = evaluate_points(overlay, overlay.reference)
        else:
            assert overlay.reference is not None
            if options.layer.stratum is not None:
                label = overlay.reference.label
                raise UsageError(f"{label}: holds no points; --stratum is for samples of points")
            result = evaluate_pixels(overlay, overlay.reference)
    write_reports(ComparedFiles(map_path, reference_path, result), outputs)
    on_event({"event": "report", **result.to_dict()})
    for remark in result.remarks:
        on_event({"event": "warning", "text": remark})
    return result


def _inputs(options: EvaluateOptions, outputs: EvaluateOutputs) -> list[str | os.PathLike[str]]:
    others = [path for path in (options.aoi, options.confidence) if path is not None]
    return [*others, *outputs.scene]


def _check_outputs(outputs: EvaluateOutputs, inputs: list[str | os.PathLike[str]]) -> None:
    """Fails before the comparison, which may take minutes, if a report cannot be written."""
    for path in outputs.paths:
        check_output(path, outputs.overwrite)
    check_apart(outputs.paths, dict.fromkeys(inputs, "an input"))
    if outputs.png is not None:
        new_figure(1, 1)  # raises if matplotlib is not installed
