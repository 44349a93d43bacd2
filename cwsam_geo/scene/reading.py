"""Decides how a scene is read for a model, once for the whole scene: bands, units, nodata."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from cwsam_geo.core.preprocess import PreprocessSpec, SceneBands, Units
from cwsam_geo.errors import SceneError
from cwsam_geo.scene.band_match import (
    match_bands,
)
from cwsam_geo.scene.bands import UNDECIDED, ZeroPower
from cwsam_geo.scene.edge import EdgeArea
from cwsam_geo.scene.fill import check_fill, fill_warnings, inner_warnings, partial_warnings
from cwsam_geo.scene.plausibility import scene_warnings
from cwsam_geo.scene.quantity_check import check_names, check_unnamed
from cwsam_geo.scene.sampling import sample_statistics, samples
from cwsam_geo.scene.sentinel1.border import BorderNoise
from cwsam_geo.scene.source import RasterSource
from cwsam_geo.scene.speckle import SAMPLE_ROWS, RefinedLee, estimated_filter
from cwsam_geo.scene.statistics import SceneStats
from cwsam_geo.scene.swath import beyond_swath, noise_rule
from cwsam_geo.scene.units import (
    UNIT_NAMES,
    UnitsDecision,
    UnitsOption,
    check_scale,
    decibels,
    decide_units,
    zeros_are_nodata,
)

BorderNoiseOption = Literal["mask", "keep"]
"""Whether noise along the borders of old Sentinel-1 products is nodata."""

BORDER_NOISE: tuple[BorderNoiseOption, ...] = get_args(BorderNoiseOption)

_STRETCH_PERCENT = 98.0
"""Quantile, in percent, that becomes 255 in 8-bit amplitude: ships and roofs are above it."""


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
        border_noise: ``mask`` or ``keep`` if the scene is a product that may have noise along its
            borders, else None.
    """

    source: RasterSource
    scene_bands: SceneBands
    bands: tuple[int, ...]
    units: UnitsDecision
    stats: SceneStats
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]
    border_noise: BorderNoiseOption | None = None

    @property
    def numbers(self) -> tuple[int | None, ...]:
        """For each band of the model, the scene's band number as ``-b`` counts, or None."""
        positions = self.scene_bands.positions
        return tuple(None if p is None else self.source.numbers[p] for p in positions)

    @property
    def zero_is_nodata(self) -> bool:
        """True if pixels that are 0 in every kept band are nodata."""
        return self.source.zero.zero_is_nodata


def plan_reading(
    source: RasterSource,
    spec: PreprocessSpec,
    units: UnitsOption = "auto",
    noise: BorderNoiseOption = "mask",
    despeckle: bool = False,
) -> Reading:
    """Decides which of a scene's bands a model reads, their units, and what is nodata.

    Args:
        source: The scene, with the bands that the user selected.
        spec: The model's preprocessing.
        units: Value of ``--units``; ``auto`` decides from the scene.
        noise: Value of ``--border-noise``: whether noise along the borders of old Sentinel-1
            products is nodata.
        despeckle: Whether ``source`` of the result filters speckle.

    Raises:
        SceneError: Bands are missing, the units cannot be decided, the scene has undeclared fill,
            or its values are not calibrated although the model needs that (and the user has not
            named their units).
        UsageError: An option does not fit the scene.
    """
    # Bands: keep those that the model takes.
    check_names(source)
    match = match_bands(spec, source.names, source.label, source.chosen, source.numbers)
    bands = tuple(sorted({p for p in match.positions if p is not None}))
    narrow = source.with_bands(bands).with_zero(UNDECIDED)
    # Units. A model of 8-bit amplitude takes digital numbers as they are.
    if spec.scaling != "amplitude8":
        narrow = calibrated(narrow, units)
    stats = sample_statistics(narrow)
    check_unnamed(narrow, stats, match)
    decision = units_of(narrow, stats, units)
    # Nodata.
    border = noise_rule(narrow)
    narrow = _with_zero_rule(narrow, stats, decision.units, border if noise == "mask" else None)
    zeros, at_edge = narrow.zero.zero_is_nodata, isinstance(narrow.zero.nodata, EdgeArea)
    if at_edge or narrow.zero.border is not None or (0 in narrow.nodata and not zeros):
        # The first sample could not tell zeros at the edge from zeros inside, nor know that a 0 in
        # one band alone is nodata.
        stats = sample_statistics(narrow)
    check_fill(narrow, stats, decision.units)
    scene_bands = SceneBands(
        decision.units,
        tuple(None if p is None else bands.index(p) for p in match.positions),
    )
    if spec.scaling == "amplitude8":
        scene_bands = replace(scene_bands, stretch=stretch_for(stats, decision.units))
    warnings = (
        *scene_warnings(narrow, spec, scene_bands, stats, decision, match),
        *fill_warnings(narrow, stats, decision.units, zeros),
        *inner_warnings(narrow, stats),
        *partial_warnings(narrow, stats),
        *_noise_warnings(narrow, border),
    )
    if despeckle:
        narrow = replace(narrow, despeckle=_fitting_filter(narrow, decision.units))
    return Reading(
        source=narrow,
        scene_bands=scene_bands,
        bands=bands,
        units=decision,
        stats=stats,
        remarks=(
            *match.remarks,
            *_replaced(narrow),
            *_remarks(narrow, scene_bands, stats, decision),
            *_noise_remarks(stats, border),
            *([f"speckle: {narrow.despeckle.words}"] if narrow.despeckle else []),
        ),
        warnings=warnings,
        border_noise=noise if border is not None else None,
    )


def _with_zero_rule(
    source: RasterSource, stats: SceneStats, units: Units, noise: BorderNoise | None
) -> RasterSource:
    """The source with the rule that says which of its pixels without echo are nodata.

    By default, pixels of power 0 are nodata if they are connected with the scene's edge, and data
    inside, because noise removal leaves no power on calm water. If the file declares 0 as nodata,
    or the user passes ``--nodata``, either all of them are nodata or none.

    Args:
        noise: Finds noise along the borders that is to be nodata, too; None if there is none.
    """
    option = source.nodata_option
    if units == "db":
        values: tuple[float, ...] = (-math.inf,)
        share, everywhere, nowhere = stats.infinite, option == -math.inf, option == "none"
        if stats.zeros and option is None and _zero_is_fill(source):
            values, share = (0.0, -math.inf), stats.zeros + stats.infinite
    else:
        values = (0.0,)
        share, everywhere = stats.zeros, option == 0 or _declares_zero(source)
        nowhere = not zeros_are_nodata(
            units,
            stats,
            source.nodata,
            # The border of a calibrated product is 0, whatever its files declare.
            declared=option is not None if source.tables else source.declares_nodata,
            by_user=option is not None,
        )
        if nowhere:
            # A declared nodata value of 0 then applies to each band on its own.
            values = ()
    simple = nowhere or everywhere or stats.blank or (stats.complete and not share)
    if simple and (noise is None or stats.blank):
        return source.with_zero(ZeroPower(values, nodata=not nowhere))
    area = beyond_swath(source, values, noise)
    return source.with_zero(
        ZeroPower(values, not nowhere if simple else area, None if noise is None else area)
    )


def _zero_is_fill(source: RasterSource) -> bool:
    """Whether 0 dB in every band may be fill, as Google Earth Engine and warping leave it.

    Measured floats are practically never exactly 0 in every band. In whole numbers, and where
    values have an offset, 0 is an ordinary value.
    """
    floats = source.grid.dtype.startswith("float")
    return floats and 0 not in source.nodata and not any(b.offset for b in source.bands)


def _declares_zero(source: RasterSource) -> bool:
    """True if the file declares 0 as nodata and the user gives no other nodata value.

    False for most calibrated products: their border is 0, whatever their files declare.
    """
    declared = not source.tables or source.zero_is_specified
    return source.nodata_option is None and declared and set(source.nodata) == {0}


def calibrated(source: RasterSource, units: UnitsOption) -> RasterSource:
    """The source as backscatter, if it is of a product with a calibration.

    Any other source is returned unchanged.

    Raises:
        SceneError: A calibration table is damaged or does not fit.
    """
    # --units, --scale and --offset describe the values as they are stored.
    return source if units != "auto" or source.rescaled else source.calibrated()


def units_of(source: RasterSource, stats: SceneStats, units: UnitsOption) -> UnitsDecision:
    """Units of a source: power if it is calibrated, else by ``decide_units``.

    Args:
        stats: Statistics of the values that ``source`` reads.

    Raises:
        SceneError: The units cannot be decided, or the scene has undeclared fill.
        UsageError: ``--units`` contradicts the file.
    """
    if source.calibration is not None:
        return UnitsDecision("power", source.calibration)
    # Undeclared fill would mislead the decision on units.
    check_fill(source, stats, None)
    try:
        check_scale(stats, source.label, units, source.rescaled)
        return decide_units(stats, source.hints, source.label, units)
    except SceneError as error:
        if source.uncalibrated is None:
            raise
        raise SceneError(f"{error}; {source.uncalibrated[0]}") from None


def _replaced(source: RasterSource) -> list[str]:
    # gdalwarp -srcnodata replaces the declared value too, but many users do not expect it.
    option = source.nodata_option
    text = f"{option:g}" if isinstance(option, float) else str(option)
    return [
        f"--nodata {text} replaces the declared nodata value {value:g}: "
        f"pixels that are {value:g} are data"
        for value in source.replaced
    ]


def _remarks(
    source: RasterSource, scene: SceneBands, stats: SceneStats, decision: UnitsDecision
) -> list[str]:
    remarks = [f"units: {UNIT_NAMES[decision.units]}, {decision.reason}"]
    if scene.stretch and not stats.blank:
        remarks.append(f"stretch: amplitude 0 to {scene.stretch[1]:.4g} (98 % quantile) as 8 bits")
    # No remark where the user declares 0 as nodata (``--nodata 0``).
    if _declares_zero(source) and source.zero.nodata is True and stats.zeros > 0:
        remarks.append(
            f"{100 * stats.zeros:.3g} % of the pixels are 0 in every band: nodata, as the file "
            "declares (if zeros inside the scene are calm water, remove the declaration with "
            "gdal_edit.py -unsetnodata: then only zeros along the edge are nodata)"
        )
    elif source.zero.nodata is not False and not all(v == 0 for v in source.nodata):
        share = _no_power(source, stats) - stats.inner
        where = " along the scene's edge" if isinstance(source.zero.nodata, EdgeArea) else ""
        if share > 0:
            values = " or ".join(f"{value:g}" for value in source.zero.values)
            remarks.append(
                f"{100 * share:.3g} % of the pixels are {values} in every band{where}: nodata "
                "(--nodata none keeps them)"
            )
    return remarks


def _fitting_filter(source: RasterSource, units: Units) -> RefinedLee:
    """The speckle filter for the number of looks that windows all over a scene tell.

    Raises:
        SceneError: The scene cannot be read.
    """
    return estimated_filter(units, samples(source, SAMPLE_ROWS))


def _noise_remarks(stats: SceneStats, border: BorderNoise | None) -> list[str]:
    if border is None or stats.border_noise == 0:
        return []
    return [
        f"{100 * stats.border_noise:.3g} % of the pixels are noise along the borders of the swath "
        f"({border.reason}): nodata (--border-noise keep keeps them)"
    ]


def _noise_warnings(source: RasterSource, border: BorderNoise | None) -> list[str]:
    if border is None or source.zero.border is not None:
        return []
    return [
        f"noise along the borders of the product ({border.reason}) is kept, and may be mapped as "
        "water"
    ]


def _no_power(source: RasterSource, stats: SceneStats) -> float:
    """Share of the pixels that hold a value of power 0, or of fill, in every band."""
    zeros = stats.zeros if 0.0 in source.zero.values else 0.0
    return zeros + (stats.infinite if -math.inf in source.zero.values else 0.0)


def stretch_for(stats: SceneStats, units: Units) -> tuple[float, float] | None:
    """The amplitudes that become 0 and 255 in the whole scene, for models of 8-bit amplitude.

    Amplitude 0 stays 0, so that ratios are kept and water stays dark. The upper end is the 98 %
    quantile of the brightest band, which ships and roofs cannot move. The single-look amplitude of
    a homogeneous surface (Rayleigh distributed) then has its mean at 0.45, close to ImageNet's.

    Returns:
        Low and high amplitude, or None for an 8-bit picture, which is not stretched.
    """
    if stats.eight_bit and units == "amplitude":
        return None
    if stats.blank:
        return 0.0, 1.0
    highest = max(b.quantile(_STRETCH_PERCENT) for b in stats.bands)
    return 0.0, 10 ** (decibels(highest, units) / 20)
