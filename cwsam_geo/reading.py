"""Decides how a scene is read for a model, once for the whole scene: bands, units, nodata."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cwsam_geo.errors import SceneError
from cwsam_geo.io.sample import sample_statistics
from cwsam_geo.io.source import RasterSource
from cwsam_geo.matching import BandMatch, distribution_warning, match_bands, stretch_for
from cwsam_geo.preprocess import PreprocessSpec, SceneBands, Units
from cwsam_geo.undeclared import check_fill, fill_warnings
from cwsam_geo.units import (
    PLAUSIBLE_DB,
    SceneStats,
    UnitsDecision,
    UnitsOption,
    decibels,
    decide_units,
    zeros_are_nodata,
)

_MEASURED = {"uint16", "complex64"}
"""Data types of the scenes that may be Sentinel-1 measurement files: GRD, and SLC as read."""

_CROSS = {"VH", "HV"}
_UNIT_NAMES: dict[Units, str] = {"db": "dB", "power": "power", "amplitude": "amplitude"}


@dataclass(frozen=True)
class Reading:
    """A scene, ready for a model.

    Attributes:
        source: The scene, restricted to the model's bands, with the decision on zeros. It shares
            its open files with the source that was given to ``plan_reading``.
        scene_bands: Units, order and stretch of the bands that ``source`` reads.
        bands: Indices of the kept bands among the scene's selected bands, from 0.
        stats: Statistics of the kept bands.
        remarks: The decisions, as text for the user.
        warnings: Possible problems, as text for the user.
    """

    source: RasterSource
    scene_bands: SceneBands
    bands: tuple[int, ...]
    units: UnitsDecision
    stats: SceneStats
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def numbers(self) -> tuple[int | None, ...]:
        """For each band of the model, the scene's band number as ``-b`` counts, or None."""
        positions = self.scene_bands.positions
        return tuple(None if p is None else self.source.numbers[p] for p in positions)

    @property
    def zero_is_nodata(self) -> bool:
        """True if pixels that are 0 in every kept band are nodata."""
        return self.source.zero_is_nodata


def plan_reading(
    source: RasterSource,
    spec: PreprocessSpec,
    units: UnitsOption = "auto",
) -> Reading:
    """Decides which of a scene's bands a model reads, their units, and what is nodata.

    Args:
        source: The scene, with the bands that the user selected.
        spec: The model's preprocessing.
        units: Value of ``--units``; ``auto`` decides from the scene.

    Raises:
        SceneError: Bands are missing, the units cannot be decided, the scene has undeclared fill,
            or its values are not calibrated although the model needs that (and the user has not
            named their units).
        UsageError: An option does not fit the scene.
    """
    # Bands: keep those that the model takes.
    match = match_bands(spec, source.names, source.label, source.chosen, source.numbers)
    bands = tuple(sorted({p for p in match.positions if p is not None}))
    narrow = source.restricted(bands, zero_is_nodata=False)
    # Units. A model of 8-bit amplitude takes digital numbers as they are.
    if spec.scaling != "amplitude8":
        narrow = calibrated(narrow, units)
    stats = sample_statistics(narrow)
    decision = units_of(narrow, stats, units)
    check_fill(narrow, stats, decision.units)
    scene_bands = SceneBands(
        decision.units,
        tuple(None if p is None else bands.index(p) for p in match.positions),
    )
    if spec.scaling == "amplitude8":
        scene_bands = replace(scene_bands, stretch=stretch_for(stats, decision.units))
    # Nodata.
    has_option = narrow.nodata_option is not None
    zeros = zeros_are_nodata(
        decision.units,
        stats,
        narrow.nodata,
        # The border of a Sentinel-1 product is 0, whatever its files declare.
        told=has_option if narrow.tables else narrow.tells_nodata,
        asked=has_option,
    )
    warnings = (
        *_warnings(narrow, spec, scene_bands, stats, decision, match),
        *fill_warnings(narrow, stats, decision.units, zeros),
    )
    return Reading(
        source=narrow.restricted(range(len(bands)), zero_is_nodata=zeros),
        scene_bands=scene_bands,
        bands=bands,
        units=decision,
        stats=stats,
        remarks=(
            *match.remarks,
            *_replaced(narrow),
            *_remarks(scene_bands, stats, decision, zeros),
        ),
        warnings=warnings,
    )


def calibrated(source: RasterSource, units: UnitsOption) -> RasterSource:
    """The source as sigma nought, if it is a Sentinel-1 product with calibration tables.

    Any other source is returned unchanged.

    Raises:
        SceneError: A calibration table is damaged or does not fit.
    """
    # --units describes the values as they are stored.
    return source.calibrated() if units == "auto" else source


def units_of(source: RasterSource, stats: SceneStats, units: UnitsOption) -> UnitsDecision:
    """Units of a source: power if it is calibrated to sigma nought, else by ``decide_units``.

    Args:
        source: The scene.
        stats: Statistics of the values that ``source`` reads.
        units: Value of ``--units``.

    Raises:
        SceneError: The units cannot be decided, or the scene has undeclared fill.
        UsageError: ``--units`` contradicts the file.
    """
    if source.calibration is not None:
        return UnitsDecision("power", source.calibration)
    # Undeclared fill would mislead the decision on units.
    check_fill(source, stats, None)
    try:
        return decide_units(stats, source.hints, source.label, units)
    except SceneError as error:
        if source.lacking_table is None:
            raise
        raise SceneError(f"{error}; {_lacks(source.lacking_table)}") from None


def _replaced(source: RasterSource) -> list[str]:
    # gdalwarp -srcnodata replaces the declared value too, but many users do not expect it.
    option = source.nodata_option
    text = f"{option:g}" if isinstance(option, float) else str(option)
    return [
        f"--nodata {text} replaces the declared nodata value {value:g}: "
        "pixels that hold it are data"
        for value in source.replaced
    ]


def _remarks(
    scene: SceneBands, stats: SceneStats, decision: UnitsDecision, zeros: bool
) -> list[str]:
    remarks = [f"units: {_UNIT_NAMES[decision.units]}, {decision.reason}"]
    if scene.stretch and not stats.blank:
        remarks.append(f"stretch: amplitude 0 to {scene.stretch[1]:.4g} (98 % quantile) as 8 bits")
    if zeros and stats.zeros:
        remarks.append(
            f"{100 * stats.zeros:.3g} % of the pixels are 0 in every band: nodata "
            "(--nodata none keeps them)"
        )
    return remarks


def _warnings(
    source: RasterSource,
    spec: PreprocessSpec,
    scene: SceneBands,
    stats: SceneStats,
    decision: UnitsDecision,
    match: BandMatch,
) -> tuple[str, ...]:
    if stats.blank:
        content = "nothing but 0" if stats.valid else "no valid pixel"
        return (f"the scene holds {content}: the map will be empty",)
    far = distribution_warning(spec, scene, stats)
    # Uncalibrated values are refused, unless the model takes any, the user vouches for them, or the
    # model was trained on values like these.
    familiar = spec.quantiles is not None and far is None
    if not (spec.scaling == "amplitude8" or decision.given or familiar) and _uncalibrated(
        stats, decision.units
    ):
        raise SceneError(_refusal(source, decision))
    warnings = [far] if far else []
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
    elif any(table.noisy_borders for table in source.tables):
        warnings.append(
            "a product made before March 2018 (IPF 2.9): noise along its borders is not marked as "
            "nodata and may be mapped as water; SNAP's Remove-GRD-Border-Noise removes it"
        )
    # Names of polarisations rule out a swap.
    if not match.by_name:
        warnings += _swapped(spec, scene, stats)
    return tuple(warnings)


def _lacks(table: str) -> str:
    return f"its product lacks annotation/calibration/{Path(table).name}"


def _refusal(source: RasterSource, decision: UnitsDecision) -> str:
    table, lacks, advice = source.lacking_table, "", ""
    if source.grid.dtype in _MEASURED:
        advice = "give the whole .SAFE of a Sentinel-1 product, or "
    if table is not None:
        lacks, advice = f", and {_lacks(table)}", "get the whole product, or "
    return (
        f"{source.label}: holds uncalibrated values ({decision.reason}){lacks}, but the model "
        f"takes calibrated backscatter: {advice}calibrate it first (SNAP, pyroSAR, or an RTC "
        f"product), or pass --units {decision.units} to use the values as they are"
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


def _swapped(spec: PreprocessSpec, scene: SceneBands, stats: SceneStats) -> list[str]:
    # Almost everywhere, cross polarisation is 5 to 10 dB weaker than co-polarisation.
    medians = {
        band.upper(): stats.bands[p].median
        for band, p in zip(spec.bands, scene.positions, strict=True)
        if p is not None
    }
    cross = [v for b, v in medians.items() if b in _CROSS]
    co = [v for b, v in medians.items() if b in {"VV", "HH"}]
    if cross and co and min(cross) > max(co):
        return ["cross polarisation is brighter than co-polarisation: are the bands swapped (-b)?"]
    return []
