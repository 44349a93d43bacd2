"""Describes scenes, maps and models: the functions behind ``cwsam-geo info``."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cwsam_geo.errors import CwsamGeoError, ModelError, SceneError, UsageError
from cwsam_geo.grid import TilePlan
from cwsam_geo.io.bands import Nodata
from cwsam_geo.io.georef import place_of
from cwsam_geo.io.opening import is_remote
from cwsam_geo.io.sample import sample_statistics
from cwsam_geo.io.source import RasterSource, open_source
from cwsam_geo.map_info import describe_map
from cwsam_geo.reading import Reading, calibrated, plan_reading, units_of
from cwsam_geo.units import SceneStats, UnitsOption

if TYPE_CHECKING:
    from cwsam_geo.model.header import BundleHeader

_BUNDLE = ".safetensors"
_CHECKPOINTS = (".pth", ".pt", ".ckpt")
_SHOWN_PERCENTS = (1.0, 50.0, 99.0)
"""Percentiles of each band: the median, and the range without outliers."""


@dataclass(frozen=True)
class InfoOptions:
    """How a scene is read; the same options as for ``predict``.

    Attributes:
        model: Name or path of a model bundle, or None to describe the scene alone.
        overlap: Pixels shared by neighbouring tiles, or None for an eighth of a tile.
        bidx: Bands of the scene to use, from 1, or None for all.
        units: Units of the scene's values; ``auto`` decides from the whole scene.
        nodata: Nodata value that replaces the declared one, ``"none"`` for no nodata value, or
            None for the declared one.
    """

    model: str | os.PathLike[str] | None = None
    overlap: int | None = None
    bidx: Sequence[int] | None = None
    units: UnitsOption = "auto"
    nodata: Nodata = None


def describe(paths: Sequence[str], options: InfoOptions | None = None) -> dict[str, Any]:
    """Describes a scene, a map or a model.

    Args:
        paths: A scene (one raster, or several single-band rasters), one raster written by
            ``predict``, or one model by path or name.
        options: How a scene is read; not allowed for a map or a model.

    Returns:
        Plain values for JSON; ``kind`` is ``scene``, ``map`` or ``model``.

    Raises:
        SceneError: The scene cannot be read.
        LegendError: The map's ``LEGEND`` tag is malformed.
        ModelError: The model cannot be read.
        UsageError: The options or other paths do not fit a map or a model.
    """
    options = options or InfoOptions()
    models = [p for p in paths if _is_model(p)]
    if not models:
        return _described_raster(paths, options)
    if len(paths) > 1 or options != InfoOptions():
        raise UsageError(
            f"{models[0]}: is a model; give it alone, or as -m beside a scene to see what "
            "predict would do"
        )
    return describe_model(models[0])


def _described_raster(paths: Sequence[str], options: InfoOptions) -> dict[str, Any]:
    map_description = describe_map(paths[0]) if len(paths) == 1 else None
    if map_description is None:
        return describe_scene(paths, options)
    if options != InfoOptions():
        raise UsageError(f"{paths[0]}: is a map, not a scene; give it without other options")
    return map_description


def describe_model(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describes a model bundle from its header, without reading its weights.

    Args:
        name_or_path: Path of a bundle, or name of a known model.

    Returns:
        Plain values for JSON.

    Raises:
        ModelError: The model does not exist, or cannot be read.
    """
    path, header = _header(name_or_path)
    architecture = header.architecture
    backbone = architecture.backbone
    return {
        "kind": "model",
        "path": str(path),
        "bytes": path.stat().st_size,
        "bundle": header.kind,
        "base": header.base.name if header.base else None,
        "backbone": backbone.name,
        "blocks": backbone.depth,
        "dim": backbone.dim,
        "patch_size": backbone.patch_size,
        "tile_size": architecture.tile_size,
        "stride": architecture.stride,
        "parameters": _parameters(header, trained=False),
        "trained_parameters": _parameters(header, trained=True),
        "quirks": [
            name
            for name in ("scrambled_prompt", "attend_padding", "classes_fastest")
            if getattr(architecture, name)
        ],
        "classes": header.legend.to_list(),
        "ignore": header.legend.ignore,
        "preprocess": header.preprocess.to_dict(),
        "provenance": dict(header.provenance),
    }


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
    with open_source(list(paths), options.bidx, options.nodata) as whole:
        source, problem = _calibrated(whole, options.units)
        stats = sample_statistics(source)
        description = {
            "kind": "scene",
            "path": source.label,
            **_file(source),
            **place_of(source.grid),
            **_values(source, stats),
            "units": _units(source, stats, options.units, problem),
            "calibration": source.calibration,
        }
        if options.model is not None:
            description["predict"] = _plan(whole, options)
    return description


def _is_model(path: str) -> bool:
    suffix = Path(path).suffix.lower()
    if suffix == _BUNDLE or suffix in _CHECKPOINTS:
        return True
    if is_remote(path) or os.path.exists(path) or suffix or ":" in path:
        return False
    # A bare name that is not a file may be a known model. Look it up last: the store imports torch,
    # which takes seconds.
    from cwsam_geo.model.checkpoints import CHECKPOINTS
    from cwsam_geo.model.store import known_models

    return path in CHECKPOINTS or path in known_models()


def _header(name_or_path: str | os.PathLike[str]) -> tuple[Path, BundleHeader]:
    from cwsam_geo.model.bundle import read_header
    from cwsam_geo.model.store import find_model

    path = find_model(name_or_path)
    if path.suffix.lower() in _CHECKPOINTS:
        raise ModelError(f"{path}: a checkpoint, not a model bundle; run cwsam-geo convert on it")
    return path, read_header(path)


def _parameters(header: BundleHeader, trained: bool) -> int:
    from cwsam_geo.model.tensors import expected_shapes, trainable_names

    names = trainable_names(header.architecture) if trained else header.tensor_names()
    shapes = expected_shapes(header.architecture)
    return sum(math.prod(shapes[name]) for name in names)


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
        "declares_nodata": source.tells_nodata,
        "masked": source.masked,
    }


def _values(source: RasterSource, stats: SceneStats) -> dict[str, Any]:
    return {
        "sampled": stats.pixels,
        "complete": stats.complete,
        "valid": stats.valid,
        "zeros": stats.zeros,
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
    from cwsam_geo.memory import expected_memory

    path, header = _header(options.model or "")
    architecture = header.architecture
    size = architecture.tile_size
    overlap = size // 8 if options.overlap is None else options.overlap
    tiles = TilePlan(source.grid.height, source.grid.width, size, overlap, architecture.stride)
    description: dict[str, Any] = {"model": str(path), "classes": header.legend.names}
    try:
        reading = plan_reading(source, header.preprocess, options.units)
    except CwsamGeoError as error:
        return {**description, "refuses": str(error)}
    return {
        **description,
        "tiles": len(tiles),
        "tile_size": size,
        "overlap": overlap,
        "memory": expected_memory(architecture, tiles, reading.source.grid),
        **_decisions(reading, header),
    }


def _decisions(reading: Reading, header: BundleHeader) -> dict[str, Any]:
    scene = reading.scene_bands
    return {
        "bands": dict(zip(header.preprocess.bands, reading.numbers, strict=True)),
        "units": scene.units,
        "stretch": list(scene.stretch) if scene.stretch else None,
        "zero_is_nodata": reading.zero_is_nodata,
        "decisions": list(reading.remarks),
        "warnings": list(reading.warnings),
    }
