"""Finds fill that a scene does not declare as nodata: single values that are far too frequent."""

from __future__ import annotations

from collections.abc import Iterable

from cwsam_geo.core.preprocess import Units
from cwsam_geo.errors import SceneError
from cwsam_geo.scene.edge import EdgeArea
from cwsam_geo.scene.source import RasterSource
from cwsam_geo.scene.statistics import (
    Repeated,
    SceneStats,
)

_NOTABLE = 1e-2
"""A value is likely fill if at least this share of the pixels holds it in every band, even if an
echo can have that value."""

_NOTABLE_ALONE = 5e-2
"""The same for a scene of one band, where small digital numbers repeat often."""

_NO_LOGARITHM = -320.0
"""Lowest value that can be an echo in any unit. The numbers that commonly stand for 0 power give
higher decibels (1e-30: -300 dB). Common fill is lower: -9999, -32768, and the lowest int16 with a
scale of 0.01 (-327.68)."""

_HIGHEST_DB = 60.0
"""Highest value in dB that can be an echo, calibrated or not."""


def no_echo(value: float, units: Units | None) -> bool:
    """True for a value that no echo of any sensor can have.

    Args:
        value: A value that occurs more than once: noise-subtracted power can be below 0.
        units: Units of the value, or None if they are not decided yet.
    """
    if value < _NO_LOGARITHM:
        return True
    if units == "db":
        return value > _HIGHEST_DB
    # Noise-subtracted power is slightly negative in places, but never twice the same value.
    return units is not None and value <= -1


def certain_fill(repeated: Iterable[Repeated], units: Units | None) -> Repeated | None:
    """The first frequent value that no echo can have, or None.

    Args:
        repeated: Values that are suspiciously frequent.
        units: Units of the values, or None if they are not decided yet.
    """
    # dB times 100 are lower than any echo in dB, and whole numbers repeat. Unless the units are
    # linear, a value must therefore also be far from the others to be fill.
    linear = units in ("power", "amplitude")
    return next((r for r in repeated if no_echo(r.value, units) and (linear or r.apart)), None)


def likely_fill(repeated: Iterable[Repeated], units: Units, bands: int) -> tuple[Repeated, ...]:
    """Values that an echo can have, but that too many pixels hold in every band at once.

    Args:
        repeated: Values that are suspiciously frequent; 0 may be among them.
        bands: Number of bands of the scene.
    """
    least = _NOTABLE if bands > 1 else _NOTABLE_ALONE
    return tuple(
        r
        for r in repeated
        if r.joint >= (least if r.value else _NOTABLE)
        and not r.clipped
        and not no_echo(r.value, units)
    )


def check_fill(source: RasterSource, stats: SceneStats, units: Units | None) -> None:
    """Refuses a scene with values that are certainly fill, unless ``--nodata`` is given.

    Args:
        stats: Statistics of the values that ``source`` reads.
        units: Units of the values, or None if they are not decided yet.

    Raises:
        SceneError: The scene has undeclared fill. The message names the option that declares it.
    """
    fill = certain_fill(_repeated(source, stats), units)
    if fill is not None and source.nodata_option is None:
        option = _nodata_option(source, fill)
        raise SceneError(
            f"{source.label}: {_holds(source, fill, fill.share)}, which no echo has: fill that the "
            f"file does not declare as nodata; pass {option}, or --nodata none to map it as it is"
        )


def fill_warnings(source: RasterSource, stats: SceneStats, units: Units, zeros: bool) -> list[str]:
    """Warnings of values that may be fill, but are mapped as data.

    Args:
        stats: Statistics of the values that ``source`` reads.
        zeros: True if pixels that are 0 in every band are nodata.
    """
    if source.nodata_option == "none" or stats.eight_bit or stats.blank:
        return []
    repeated = _repeated(source, stats)
    mapped = "and are mapped as data: if that is fill, pass"
    warnings = []
    # Certain fill gets here only if --nodata names another value: check_fill refuses it otherwise.
    if fill := certain_fill(repeated, units):
        option = _nodata_option(source, fill)
        warnings.append(f"{_holds(source, fill, fill.share)} {mapped} {option}")
    zero = () if zeros else (Repeated(0.0, stats.zeros, stats.zeros),)
    for fill in likely_fill((*zero, *repeated), units, len(stats.bands)):
        share = f"{_holds(source, fill, fill.joint)} in every band"
        warnings.append(f"{share} {mapped} {_nodata_option(source, fill)}")
    # Fill may also be spread over many impossible values, by resampling for instance.
    ends = [(b.quantile(1.0), b.quantile(99.0)) for b in stats.bands]
    if not warnings and units == "db" and any(no_echo(v, units) for end in ends for v in end):
        warnings.append(
            "more than 1 % of the pixels hold dB that no echo has, and are mapped as data: if that "
            "is fill, make it one value and pass that value with --nodata"
        )
    return warnings


_INNER = 1e-3
"""``predict`` warns if at least this share of the pixels has power 0 inside the scene; dead pixels
are fewer."""


def inner_warnings(source: RasterSource, stats: SceneStats) -> list[str]:
    """Warns of pixels of power 0 that are mapped as data because they lie inside the scene."""
    values = source.zero.values
    if not isinstance(source.zero.nodata, EdgeArea):
        return []
    if len(values) > 1:  # dB with exact zeros
        if stats.inner < _NOTABLE:
            return []
        return [
            f"{100 * stats.inner:.3g} % of the pixels are 0 or -inf dB in every band inside the "
            "scene and are mapped as data: if 0 is fill, pass --nodata 0"
        ]
    if stats.inner < _INNER:
        return []
    value = values[0]
    return [
        f"{100 * stats.inner:.3g} % of the pixels are {value:g} in every band inside the scene and "
        f"are mapped as data (calm water after noise removal): if they are masked "
        f"(shadow, land), pass --nodata {value:g}"
    ]


_PARTIAL = 1e-3
"""``predict`` warns if at least this share of the pixels lacks data in one band but not in another;
the edge of a swath has fewer."""


def partial_warnings(source: RasterSource, stats: SceneStats) -> list[str]:
    """Warns of pixels that become nodata because one band has no data.

    Args:
        stats: Statistics of the values that ``source`` reads.
    """
    # Each band's share, with the name of the band.
    shares = [
        (share, name or f"band {number}")
        for share, name, number in zip(stats.lacking, source.names, source.numbers, strict=False)
        if share >= _PARTIAL
    ]
    if not shares:
        return []
    listed = ", ".join(f"{100 * share:.3g} % lack {name}" for share, name in shares)
    return [
        f"pixels become nodata because one of their bands has no data ({listed}): if they are dark "
        "water, where the logarithm of zero or negative power was taken, set them to a low value "
        "first (such as -50 dB)"
    ]


def _repeated(source: RasterSource, stats: SceneStats) -> tuple[Repeated, ...]:
    # Frequent values are normal in saturated 8-bit pictures and at the floor of calibrated values.
    # Intensities of complex data are not stored values, so --nodata cannot name them.
    exempt = stats.eight_bit or source.tables or source.complex or source.nodata_option == "none"
    return () if exempt else stats.repeated


def _holds(source: RasterSource, fill: Repeated, share: float) -> str:
    return f"{100 * share:.3g} % of the pixels hold exactly {source.as_stored(fill.value):.10g}"


def _nodata_option(source: RasterSource, fill: Repeated) -> str:
    """The option that makes the fill nodata, with a note if it replaces another nodata value."""
    option = f"--nodata {source.as_stored(fill.value):.10g}"
    others = [value for value in source.nodata if value is not None]
    if not others:
        return option
    return f"{option} (instead of {others[0]:g}: if both are fill, make them one value first)"
