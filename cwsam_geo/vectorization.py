"""From a class raster to polygons: the function behind ``cwsam-geo vectorize``."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from cwsam_geo.errors import UsageError
from cwsam_geo.io.atomic import check_output
from cwsam_geo.io.geolocation import Geolocation, name_of
from cwsam_geo.io.vectors.formats import format_of
from cwsam_geo.io.vectors.job import Event, Job, Listener, target_crs
from cwsam_geo.io.vectors.options import (
    ClassTotal,
    PathLike,
    VectorizeOptions,
    VectorizeResult,
)
from cwsam_geo.io.vectors.placement import Placement
from cwsam_geo.io.vectors.source import ClassSource, ConfidenceSource

__all__ = ["ClassTotal", "VectorizeOptions", "VectorizeResult", "vectorize"]


def vectorize(
    raster: PathLike,
    output: PathLike,
    options: VectorizeOptions | None = None,
    *,
    overwrite: bool = False,
    on_event: Listener = lambda event: None,
) -> VectorizeResult:
    """Writes the regions of a class raster as polygons that fit together.

    The polygons are a coverage: neighbours share their vertices, without gaps or overlaps, also
    when simplified or smoothed. The raster is read in strips, and memory does not grow with it.

    Args:
        raster: One band of whole numbers; its nodata value belongs to no polygon. Names and
            colours come from its ``LEGEND`` tag or its palette.
        output: ``*.gpkg`` (with a QGIS style), ``*.fgb``, ``*.parquet`` or ``*.geojson``.
        options: How; see ``VectorizeOptions``.
        overwrite: Replace a file that is there.
        on_event: Called with mappings whose ``event`` is ``warning``, ``start``, ``progress`` or
            ``done``.

    Returns:
        Counts and areas.

    Raises:
        CwsamGeoError: With one line that says what is wrong and what to do.
    """
    begun = time.monotonic()
    options = options or VectorizeOptions()
    kind = format_of(output)
    _check_paths(raster, output, options, overwrite)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(contextlib.closing(ClassSource(raster)))
        job = Job(source, options, kind, Path(output), on_event)
        if options.confidence is not None:
            job.confidence = stack.enter_context(
                contextlib.closing(ConfidenceSource(options.confidence, source))
            )
        job.run(overwrite)
        result = job.result(time.monotonic() - begun)
    on_event(_done_event(result))
    return result


def check_placeable(location: Geolocation, output: PathLike) -> None:
    """Makes sure, before a raster is made, that its polygons can be written to a file.

    Args:
        location: Where the raster will lie.
        output: The file.

    Raises:
        UsageError: Its format is not known, or demands coordinates that there are none of.
    """
    Placement(location, target_crs(location, VectorizeOptions(), format_of(output)))


def _check_paths(
    raster: PathLike, output: PathLike, options: VectorizeOptions, overwrite: bool
) -> None:
    check_output(output, overwrite)
    inputs = [raster] + ([options.confidence] if options.confidence is not None else [])
    if os.path.realpath(output) in {os.path.realpath(p) for p in inputs}:
        raise UsageError(f"{output}: is an input too; choose another output")


def _done_event(result: VectorizeResult) -> Event:
    unit = f"area_{result.area_unit}" if result.area_unit else "area"
    return {
        "event": "done",
        "output": str(result.output),
        "polygons": result.count,
        "crs": name_of(result.crs) if result.crs else None,
        "classes": [
            {"class_id": c.value, "class_name": c.name, "polygons": c.count, unit: c.area}
            for c in result.classes
        ],
        "seconds": round(result.seconds, 3),
    }
