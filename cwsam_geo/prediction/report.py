"""The report that ``predict`` writes on its map."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from cwsam_geo.prediction.preparation import Event, MapRequest


@contextlib.contextmanager
def with_confidence(request: MapRequest) -> Iterator[MapRequest]:
    """The request with a raster of confidence, if it asks for a report.

    If the user wants no such raster, it lies in a hidden folder beside the map until the block
    ends.
    """
    outputs = request.outputs
    if outputs.report is None or outputs.confidence is not None:
        yield request
        return
    folder = request.output.parent
    with tempfile.TemporaryDirectory(prefix=f".{request.output.stem}.", dir=folder) as temporary:
        confidence = Path(temporary) / f"{request.output.stem}_confidence.tif"
        yield replace(request, outputs=replace(outputs, confidence=confidence))


def report_on_map(
    request: MapRequest, model: Path | None, on_event: Callable[[Event], None]
) -> None:
    """Writes the report of a request whose map exists.

    Args:
        request: The request, from ``with_confidence``.
        model: The model's bundle, if it is a file.
        on_event: Called with the events of ``report_map``, which have ``stage: report``.
    """
    # Imported only when needed.
    from cwsam_geo.map_report.options import ReportOptions, ReportScene
    from cwsam_geo.map_report.report_map import report_map

    options, outputs = request.options, request.outputs
    assert outputs.report is not None
    shown = ReportOptions(
        scene=ReportScene(
            request.scenes, options.bidx, options.nodata, options.scale, options.offset
        ),
        confidence=outputs.confidence,
        vectors=outputs.vectors,
        model=model,
        names=request.uploads.names,
        overwrite=outputs.overwrite,
    )
    report_map(request.output, outputs.report, shown, lambda e: on_event({"stage": "report", **e}))
