"""Warns of scenes that look wrong for a model, or refuses them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.core.pixel_size import PixelSizes
from cwsam_geo.core.preprocess import PreprocessSpec, SceneBands, Units
from cwsam_geo.errors import SceneError
from cwsam_geo.io.geolocation import locate
from cwsam_geo.io.pixel_size import pixel_size_of
from cwsam_geo.scene.band_match import (
    BandMatch,
)
from cwsam_geo.scene.distribution import distribution_warning, likeness_warning
from cwsam_geo.scene.source import RasterSource
from cwsam_geo.scene.statistics import SceneStats
from cwsam_geo.scene.units import (
    PLAUSIBLE_DB,
    UnitsDecision,
    decibels,
)

_MEASURED = {"uint16", "complex64"}
"""Data types of the scenes that may be Sentinel-1 measurement files: GRD, and SLC as read."""

_SWAP_MARGIN = 1.0
"""Bands count as swapped if cross polarisation is brighter at all quantiles by more than this (dB).

In scenes that hold only noise, both are equally bright.
"""

_CROSS = {"VH", "HV"}

_OTHER_SIZE = 1.5
"""Pixels that are larger or smaller than those of the training by more than this factor look
different to a model: speckle is averaged otherwise, and fields and rivers are as wide as other
things were. Degrees of longitude at 45 degrees are 1.4 times shorter than at the equator."""


def scene_warnings(
    source: RasterSource,
    spec: PreprocessSpec,
    scene: SceneBands,
    stats: SceneStats,
    decision: UnitsDecision,
    match: BandMatch,
) -> tuple[str, ...]:
    """Warnings about a scene that may not suit a model.

    Raises:
        SceneError: The values are not calibrated, but the model takes calibrated backscatter, and
            the user has not named the units; or bands without names look swapped.
    """
    if stats.blank:
        content = "nothing but 0" if stats.valid else "no valid pixel"
        return (f"the scene holds {content}: the map will be empty",)
    far = distribution_warning(spec, scene, stats)
    # Uncalibrated values are refused, unless the model takes 8-bit amplitude, the user has named
    # the units, or the model was trained on values like these.
    familiar = spec.quantiles is not None and far is None
    doubtful = _uncalibrated(stats, decision.units) or (source.uncalibrated and not source.tables)
    if doubtful and not (spec.scaling == "amplitude8" or decision.given or familiar):
        raise SceneError(_refusal(source, decision))
    warnings = [far] if far else []
    # Values calibrated with the tables of a product are known to be sigma nought.
    if not source.tables and (likeness := likeness_warning(spec, scene, stats)):
        warnings.append(likeness)
    if far and source.tables and _knows_digital_numbers(spec):
        warnings[0] += (
            "; the model was trained on digital numbers: --units amplitude reads those of the "
            "product"
        )
    if source.tables and source.complex:
        warnings.append(
            "single-look complex (SLC), read as sigma nought: most models were trained on scenes "
            "with square pixels and less speckle (GRD)"
        )
    warnings += _swapped(source, spec, scene, stats, match)
    return tuple(warnings)


def place_warning(grid: SceneGrid) -> str | None:
    """A warning if nothing says where the scene lies, or in which coordinates; else None."""
    if grid.rpcs is not None or (grid.gcps and grid.gcp_crs):
        return None
    if not grid.georeferenced:
        return (
            "the scene has no georeferencing (no geotransform, control points or RPCs): the map "
            "will have none either; give the georeferenced original, or assign bounds and CRS to "
            "the map (gdal_edit.py -a_ullr ... -a_srs ...)"
        )
    if not grid.crs and not grid.gcp_crs:
        return (
            "the scene names no coordinate reference system: the map will name none either; if you "
            "know it, assign it to the map (gdal_edit.py -a_srs EPSG:...)"
        )
    return None


def pixel_size_warning(grid: SceneGrid, label: str, trained: PixelSizes | None) -> str | None:
    """A warning if the scene's pixels are much larger or smaller than those of the training.

    Args:
        label: The scene's name in messages.
        trained: Pixel sizes of the training scenes; None if they are not known.

    Returns:
        The warning with advice; None if the sizes agree or one of them is not known.
    """
    if trained is None or grid.transform.is_degenerate:
        return None
    size = pixel_size_of(locate(grid, label))
    if size is None:
        return None
    nearest = trained.nearest(size)
    ratios = [own / known for own, known in zip(size, nearest, strict=True)]
    if all(1 / _OTHER_SIZE <= ratio <= _OTHER_SIZE for ratio in ratios):
        return None
    advice = _resampling(grid, ratios)
    return (
        f"the scene's pixels are {size[0]:.3g} x {size[1]:.3g} m on the ground, those of the "
        f"model's training {trained}: it may find other classes than there are; {advice}, or "
        "fine-tune a model for such pixels (cwsam-geo finetune)"
    )


def _resampling(grid: SceneGrid, ratios: Sequence[float]) -> str:
    """How to give the scene pixels of another size, which are ``ratios`` times smaller."""
    method = "average" if min(ratios) < 1 else "bilinear"
    finer = "" if min(ratios) < 1 else ", which adds no detail"
    t = grid.transform
    if grid.gcps and t.is_identity:
        return f"resample it (gdalwarp -tps -r {method} -tr X Y -t_srs EPSG:...){finer}"
    # In units of the CRS, which may be degrees
    sides = (math.hypot(t.a, t.d) / ratios[0], math.hypot(t.b, t.e) / ratios[1])
    target = " ".join(f"{side:.3g}" for side in sides)
    return f"resample it in power or amplitude (gdalwarp -tr {target} -r {method}){finer}"


def _refusal(source: RasterSource, decision: UnitsDecision) -> str:
    problem, lacks, advice = source.uncalibrated, "", ""
    if problem is not None:
        lacks, advice = f", and {problem[0]}", f"{problem[1]}, or " if problem[1] else ""
    elif source.grid.dtype in _MEASURED:
        advice = "give the whole .SAFE of a Sentinel-1 product, or "
    return (
        f"{source.label}: holds uncalibrated values ({decision.reason}){lacks}, but the model "
        f"takes calibrated backscatter: {advice}calibrate it first (SNAP, pyroSAR, or an RTC "
        f"product), pass --scale and --offset if the values are dB or power that was scaled to "
        f"whole numbers, or pass --units {decision.units} to use the values as they are"
    )


def _uncalibrated(stats: SceneStats, units: Units) -> bool:
    # Sentinel-1's digital numbers are about 50 to 56 dB above sigma nought.
    digital = stats.whole_numbers and units != "db"
    return digital or any(decibels(b.median, units) > PLAUSIBLE_DB[1] for b in stats.bands)


def _knows_digital_numbers(spec: PreprocessSpec) -> bool:
    """True if the model's training data was too bright to be calibrated."""
    units: Units = "power" if spec.scaling == "linear" else "db"
    medians = [decibels(q[1], units) for q in spec.quantiles or ()]
    return any(median > PLAUSIBLE_DB[1] for median in medians)


def _swapped(
    source: RasterSource,
    spec: PreprocessSpec,
    scene: SceneBands,
    stats: SceneStats,
    match: BandMatch,
) -> list[str]:
    """A warning if cross polarisation is brighter than co-polarisation.

    Almost everywhere, cross polarisation is 5 to 10 dB weaker.

    Raises:
        SceneError: It is brighter all over the scene, and neither the file nor the user says which
            band is which.
    """
    positions = {
        band.upper(): p
        for band, p in zip(spec.bands, scene.positions, strict=True)
        if p is not None
    }
    cross = [p for band, p in positions.items() if band in _CROSS]
    co = [p for band, p in positions.items() if band in {"VV", "HH"}]
    if not (cross and co):
        return []

    def level(position: int, percent: float) -> float:
        return decibels(stats.bands[position].quantile(percent), scene.units)

    excess = {
        q: min(level(p, q) for p in cross) - max(level(p, q) for p in co) for q in (5.0, 50.0, 95.0)
    }
    if excess[50.0] <= 0:
        return []
    if match.by_name or source.chosen or not all(e > _SWAP_MARGIN for e in excess.values()):
        return ["cross polarisation is brighter than co-polarisation: are the bands swapped (-b)?"]
    taken = [str(source.numbers[p]) for p in positions.values()]
    first, second = co[0], cross[0]
    numbers = {first: source.numbers[second], second: source.numbers[first]}
    other = [str(numbers.get(p, source.numbers[p])) for p in positions.values()]
    raise SceneError(
        f"{source.label}: its bands have no names, and band {source.numbers[second]}, which would "
        f"be taken as cross polarisation, is {excess[50.0]:.2g} dB brighter than band "
        f"{source.numbers[first]}: they are probably swapped; say which bands are "
        f"{', '.join(positions)}: -b {','.join(other)}, or -b {','.join(taken)} if that is right"
    )
