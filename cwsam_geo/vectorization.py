"""Turns a class raster into polygons: the function behind ``cwsam-geo vectorize``."""

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

    The polygons form a coverage: neighbours share their vertices, without gaps or overlaps, also
    after simplification or smoothing. The raster is read in strips, so memory does not grow with
    its height.

    Args:
        raster: Raster with one band of integers. Pixels with its nodata value belong to no
            polygon. Names and colours come from its ``LEGEND`` tag or its palette.
        output: ``*.gpkg`` (with a QGIS style), ``*.fgb``, ``*.parquet`` or ``*.geojson``.
        options: Filters, simplification, CRS and columns of the output.
        overwrite: Replace an existing output; without it an existing output is an error.
        on_event: Called with mappings whose ``event`` is ``warning``, ``start``, ``progress`` or
            ``done``.

    Raises:
        CwsamGeoError: A file or an option is wrong. The message is one line that says what to do.
    """
    start = time.monotonic()
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
        result = job.result(time.monotonic() - start)
    on_event(_done_event(result))
    return result


def check_placeable(location: Geolocation, output: PathLike) -> None:
    """Checks, before a raster is made, that its polygons can be written in the output's format.

    Args:
        location: Georeferencing of the raster.
        output: Vector file to write.

    Raises:
        UsageError: The format is unknown, or needs coordinates that the raster does not have
            (GeoJSON needs longitudes and latitudes).
    """
    # The constructor raises where the coordinates cannot be transformed.
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
