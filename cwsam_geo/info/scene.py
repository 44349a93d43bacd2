"""Describes a scene, and what ``predict`` would decide of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cwsam_geo.core.tiling import TilePlan, default_overlap
from cwsam_geo.errors import CwsamGeoError, SceneError
from cwsam_geo.info.model import header_of
from cwsam_geo.info.options import InfoOptions
from cwsam_geo.info.raster_facts import place_of
from cwsam_geo.io.map_grid import AUTO
from cwsam_geo.prediction.geocoding import plan_geocoding
from cwsam_geo.scene.bands import UNDECIDED
from cwsam_geo.scene.plausibility import pixel_size_warning
from cwsam_geo.scene.reading import Reading, calibrated, plan_reading, units_of
from cwsam_geo.scene.sampling import sample_statistics
from cwsam_geo.scene.source import RasterSource, open_source
from cwsam_geo.scene.statistics import SceneStats
from cwsam_geo.scene.units import UnitsOption

if TYPE_CHECKING:
    from cwsam_geo.model.bundles.bundle import BundleHeader


_SHOWN_PERCENTS = (1.0, 50.0, 99.0)
"""Percentiles of each band: the median, and the range without outliers."""


def describe_scene(paths: Sequence[str], options: InfoOptions) -> dict[str, Any]:
    """Describes a scene and, if a model is given, what ``predict`` would do with it.

    Args:
        paths: One raster, or several single-band rasters.
        options: How the scene is read, and the model.

    Returns:
        Plain values for JSON.

    Raises:
        SceneError: The scene cannot be read.
        ModelError: The model cannot be read.
    """
    opened = open_source(list(paths), options.bidx, options.nodata, options.scale, options.offset)
    with opened as whole:
        source, problem = _calibrated(whole, options.units)
        stats = sample_statistics(source.with_zero(UNDECIDED))
        description = {
            "kind": "scene",
            "path": source.label,
            **_file(source),
            **place_of(source.grid),
            **_values(source, stats),
            "units": _units(source, stats, options.units, problem),
            "calibration": source.calibration,
            "acquisition": None if whole.acquisition is None else asdict(whole.acquisition),
            "map_grid": _map_grid(source),
        }
        if options.model is not None:
            description["predict"] = _plan(whole, options)
    return description


def _map_grid(source: RasterSource) -> dict[str, Any] | None:
    """The map grid that ``predict --t-srs auto`` would choose.

    None for a scene that has a north-up grid, or no place on a map.
    """
    grid = source.grid
    if not grid.gcps and grid.transform.b == grid.transform.d == 0:
        return None
    try:
        geocoding = plan_geocoding(grid, source.label, grid.window, AUTO)
    except CwsamGeoError:
        return None
    return {
        "width": geocoding.grid.width,
        "height": geocoding.grid.height,
        **geocoding.facts,
        "remarks": list(geocoding.remarks),
        "warnings": list(geocoding.warnings),
    }


def _file(source: RasterSource) -> dict[str, Any]:
    grid, first = source.grid, source.datasets[0]
    return {
        "driver": first.driver,
        "width": grid.width,
        "height": grid.height,
        "count": grid.count,
        "dtype": grid.dtype,
        "bands": list(source.numbers),
        "names": list(source.names),
        "block_shape": list(grid.block_shape),
        "compression": first.compression.value if first.compression else None,
        "nodata": list(source.nodata),
        "declares_nodata": source.declares_nodata,
        "masked": source.masked,
    }


def _values(source: RasterSource, stats: SceneStats) -> dict[str, Any]:
    # Zeros that are declared as nodata are no data at all.
    declared = all(value == 0 for value in source.nodata)
    return {
        "sampled": stats.pixels,
        "complete": stats.complete,
        "valid": stats.valid * (1 - stats.zeros) if declared else stats.valid,
        "zeros": 0.0 if declared else stats.zeros,
        # A scene without valid pixels has no band statistics; zip then yields nothing.
        "statistics": [
            {
                "name": name,
                "minimum": band.minimum,
                "maximum": band.maximum,
                **{f"p{p:g}": band.quantile(p) for p in _SHOWN_PERCENTS},
            }
            for name, band in zip(source.names, stats.bands, strict=False)
        ],
    }


def _calibrated(source: RasterSource, option: UnitsOption) -> tuple[RasterSource, str | None]:
    """The scene in calibrated values, or the scene as it is and why it cannot be calibrated."""
    try:
        return calibrated(source, option), None
    except SceneError as error:
        return source, str(error)


def _units(
    source: RasterSource, stats: SceneStats, option: UnitsOption, problem: str | None
) -> dict[str, Any]:
    if problem is not None:
        return {"units": None, "reason": problem}
    try:
        decision = units_of(source, stats, option)
    except SceneError as error:
        return {"units": None, "reason": str(error)}
    return {"units": decision.units, "reason": decision.reason}


def _plan(source: RasterSource, options: InfoOptions) -> dict[str, Any]:
    """The decisions of ``predict`` on this scene, or the error that it would report."""
    from cwsam_geo.model.store import renamed
    from cwsam_geo.prediction.memory import expected_memory

    path, header = header_of(options.model or "")
    architecture = header.architecture
    size = architecture.tile_size
    overlap = default_overlap(size) if options.overlap is None else options.overlap
    tiles = TilePlan(source.grid.height, source.grid.width, size, overlap, architecture.stride)
    description: dict[str, Any] = {"model": str(path), "classes": header.legend.names}
    try:
        reading = plan_reading(source, header.preprocess, options.units, options.border_noise)
    except CwsamGeoError as error:
        return {**description, "refuses": str(error)}
    return {
        **description,
        "tiles": len(tiles),
        "tile_size": size,
        "overlap": overlap,
        "memory": expected_memory(architecture, tiles, reading.source.grid),
        **_decisions(reading, header, renamed(options.model or "", path)),
    }


def _decisions(reading: Reading, header: BundleHeader, remark: str | None) -> dict[str, Any]:
    scene, source = reading.scene_bands, reading.source
    size = pixel_size_warning(source.grid, source.label, header.pixel_sizes)
    return {
        "bands": dict(zip(header.preprocess.bands, reading.numbers, strict=True)),
        "units": scene.units,
        "stretch": list(scene.stretch) if scene.stretch else None,
        "zero_is_nodata": reading.zero_is_nodata,
        "decisions": [*([remark] if remark else []), *reading.remarks],
        "warnings": [*reading.warnings, *([] if size is None else [size])],
    }
