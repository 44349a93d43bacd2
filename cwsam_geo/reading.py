"""What predict does with a scene, decided once for the whole of it: bands, units, nodata."""

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
"""Types of Sentinel-1's measurement files."""

_CROSS = {"VH", "HV"}
_UNIT_NAMES: dict[Units, str] = {"db": "dB", "power": "power", "amplitude": "amplitude"}


@dataclass(frozen=True)
class Reading:
    """A scene, ready for a model.

    Attributes:
        source: The scene with the model's bands only, and its policy on zeros; it shares its
            files with the source it was made of.
        scene_bands: How its array answers to the model's bands.
        bands: Which of the selected bands of the scene were kept, from 0.
        units: The decision on units.
        stats: Statistics of the kept bands.
        remarks: What was decided, in words for the user.
        warnings: What may be wrong.
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
        """For each band of the model, its number in the scene as ``-b`` counts, or None."""
        places = self.scene_bands.positions
        return tuple(None if p is None else self.source.numbers[p] for p in places)

    @property
    def zero_is_nodata(self) -> bool:
        """Whether pixels that are 0 in every kept band are nodata."""
        return self.source.zero_is_nodata


def plan_reading(
    source: RasterSource,
    spec: PreprocessSpec,
    units: UnitsOption = "auto",
) -> Reading:
    """Decides what the scene's bands and values are to a model.

    Args:
        source: The scene, as opened.
        spec: What the model takes.
        units: What the user says of the units.

    Raises:
        SceneError: Bands are missing, the units cannot be told, or uncalibrated values meet a
            model of calibrated ones (and the user has not said what the values are).
        UsageError: An option does not fit the scene.
    """
    match = match_bands(spec, source.names, source.label, source.chosen, source.numbers)
    kept = tuple(sorted({p for p in match.positions if p is not None}))
    narrow = source.restricted(kept, zero_is_nodata=False)
    if spec.scaling != "amplitude8":
        narrow = calibrated(narrow, units)
    stats = sample_statistics(narrow)
    decision = units_of(narrow, stats, units)
    check_fill(narrow, stats, decision.units)
    scene_bands = SceneBands(
        decision.units,
        tuple(None if p is None else kept.index(p) for p in match.positions),
    )
    if spec.scaling == "amplitude8":
        scene_bands = replace(scene_bands, stretch=stretch_for(stats, decision.units))
    asked = narrow.nodata_option is not None
    zeros = zeros_are_nodata(
        decision.units,
        stats,
        narrow.nodata,
        # The border of a product is 0, whatever its files declare.
        told=asked if narrow.tables else narrow.tells_nodata,
        asked=asked,
    )
    warnings = (
        *_warnings(narrow, spec, scene_bands, stats, decision, match),
        *fill_warnings(narrow, stats, decision.units, zeros),
    )
    return Reading(
        source=narrow.restricted(range(len(kept)), zero_is_nodata=zeros),
        scene_bands=scene_bands,
        bands=kept,
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
    """The source as sigma nought where it is a product with its tables, else as it is.

    Who says what the units are means the values as they are stored.

    Raises:
        SceneError: A table is damaged.
    """
    return source.calibrated() if units == "auto" else source


def units_of(source: RasterSource, stats: SceneStats, units: UnitsOption) -> UnitsDecision:
    """What the values of a source are: sigma nought where it is calibrated, else ``decide_units``.

    Args:
        source: The scene.
        stats: Statistics of what it reads.
        units: What the user says.

    Raises:
        SceneError: See ``decide_units``; or much of the scene is fill that it does not declare,
            which would mislead the decision.
        UsageError: See ``decide_units``.
    """
    if source.calibration is not None:
        return UnitsDecision("power", source.calibration)
    check_fill(source, stats, None)
    try:
        return decide_units(stats, source.hints, source.label, units)
    except SceneError as error:
        if source.lacking_table is None:
            raise
        raise SceneError(f"{error}; {_lacks(source.lacking_table)}") from None


def _replaced(source: RasterSource) -> list[str]:
    # As GDAL's tools have it (-srcnodata), but there too it takes many by surprise.
    option = source.nodata_option
    given = f"{option:g}" if isinstance(option, float) else str(option)
    return [
        f"--nodata {given} replaces the declared nodata value {value:g}: "
        "pixels that hold it are data"
        for value in source.replaced
    ]


def _remarks(
    scene: SceneBands, stats: SceneStats, decision: UnitsDecision, zeros: bool
) -> list[str]:
    found = [f"units: {_UNIT_NAMES[decision.units]}, {decision.reason}"]
    if scene.stretch and not stats.blank:
        found.append(f"stretch: amplitude 0 to {scene.stretch[1]:.4g} (98 % quantile) as 8 bits")
    if zeros and stats.zeros:
        found.append(
            f"{100 * stats.zeros:.3g} % of the pixels are 0 in every band: nodata "
            "(--nodata none keeps them)"
        )
    return found


def _warnings(
    source: RasterSource,
    spec: PreprocessSpec,
    scene: SceneBands,
    stats: SceneStats,
    decision: UnitsDecision,
    match: BandMatch,
) -> tuple[str, ...]:
    if stats.blank:
        what = "nothing but 0" if stats.valid else "no valid pixel"
        return (f"the scene holds {what}: the map will be empty",)
    far = distribution_warning(spec, scene, stats)
    familiar = spec.quantiles is not None and far is None
    if not (spec.scaling == "amplitude8" or decision.given or familiar) and _uncalibrated(
        stats, decision.units
    ):
        raise SceneError(_refusal(source, decision))
    found = [far] if far else []
    if far and source.tables and _knows_digital_numbers(spec):
        found[0] += "; --units amplitude reads the product's digital numbers, which it knows"
    if source.tables and source.complex:
        found.append(
            "single-look complex (SLC), read as sigma nought: most models know scenes of even "
            "pixels and less speckle (GRD)"
        )
    elif any(table.noisy_borders for table in source.tables):
        found.append(
            "a product of before March 2018 (IPF 2.9): noise along its borders is no nodata there, "
            "and may be mapped as water; SNAP's Remove-GRD-Border-Noise takes it away"
        )
    if not match.by_name:
        found += _swapped(spec, scene, stats)
    return tuple(found)


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
        f"product), or pass --units {decision.units} to go on as it is"
    )


def _uncalibrated(stats: SceneStats, units: Units) -> bool:
    # Digital numbers of Sentinel-1 are some 50 to 56 dB above sigma nought.
    digital = stats.whole_numbers and units != "db"
    return digital or any(decibels(b.median, units) > PLAUSIBLE_DB[1] for b in stats.bands)


def _knows_digital_numbers(spec: PreprocessSpec) -> bool:
    units: Units = "power" if spec.scaling == "linear" else "db"
    medians = [decibels(q[1], units) for q in spec.quantiles or ()]
    return any(median > PLAUSIBLE_DB[1] for median in medians)


def _swapped(spec: PreprocessSpec, scene: SceneBands, stats: SceneStats) -> list[str]:
    # Cross polarisation is 5 to 10 dB weaker than co-polarisation almost everywhere.
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
