"""Decides the units of a scene's values: dB, power or amplitude."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from cwsam_geo.core.preprocess import Units
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.scene.statistics import BandStats, SceneStats

UnitsOption = Literal["auto", "db", "power", "amplitude"]
"""Values of the option ``--units``."""

UNITS_OPTIONS: tuple[UnitsOption, ...] = get_args(UnitsOption)

UNIT_NAMES: Mapping[Units, str] = {"db": "dB", "power": "power", "amplitude": "amplitude"}
"""Units as messages name them."""

PLAUSIBLE_DB = (-45.0, 15.0)
"""Range of the median of calibrated backscatter, in dB: from calm water in cross polarisation to
cities in co-polarisation, with a margin at both ends."""

_WORDS: tuple[tuple[Units, str], ...] = (
    ("db", r"(?<![a-z])(db|decibels?)(?![a-z0-9])"),
    ("amplitude", r"(?<![a-z])(amplitude|amp|digital[ _-]numbers?)(?![a-z])"),
    ("power", r"(?<![a-z])(power|intensity|linear)(?![a-z])"),
)

# A band's unit or description is the file's own statement: values that contradict it are an error.
_STRONG = re.compile(r"band \d+ (unit|description)")

# A file name or a tag may be stale: where the values contradict it, they decide.
_TELLING = re.compile(
    r"file name|product |tag \S*(unit|radiometr|calibrat|backscatter|quantity)", re.IGNORECASE
)

# RTC products of ASF give the units as one letter: RTC30_G_gpuned is gamma nought in power.
_ASF = re.compile(r"_RTC\d\d_[A-Z]_[gs]([pda])[a-z]{4}(?![a-z])", re.IGNORECASE)

_ASF_UNITS: dict[str, Units] = {"p": "power", "d": "db", "a": "amplitude"}

_LINEAR_MEDIAN = 2.0
"""Median of linear values above which they are too large for calibrated power (3 dB)."""

_FEW_CLASSES = 20
"""Range of whole numbers below which they look like codes of a class map."""

_DB_MEDIAN = (-80.0, 40.0)
"""Range of the median of values in dB, calibrated or not: wider than ``PLAUSIBLE_DB``."""


@dataclass(frozen=True)
class UnitsDecision:
    """The units of a scene's values, and the reason for the decision.

    Attributes:
        reason: The reason, as text for the user.
        given: True if the user named the units.
    """

    units: Units
    reason: str
    given: bool = False


def decide_units(
    stats: SceneStats,
    hints: Iterable[str],
    label: str,
    option: UnitsOption = "auto",
) -> UnitsDecision:
    """Decides the units of a scene: by the option, else by the metadata, else by the values.

    Args:
        stats: Statistics of the whole scene.
        hints: Texts of the file (units, descriptions, tags, file name).
        label: Name of the scene in messages.
        option: Value of ``--units``.

    Raises:
        SceneError: The units cannot be decided; the message asks for ``--units``.
        UsageError: The option contradicts the file: complex values are not in dB.
    """
    if stats.dtype.startswith("complex"):
        if option == "db":
            raise UsageError(
                f"{label}: holds complex values, which cannot be dB; leave out --units"
            )
        return _of_complex(option)
    if option != "auto":
        return UnitsDecision(option, "as --units says", given=True)
    if stats.blank:
        units: Units = "amplitude" if stats.whole_numbers else "power"
        return UnitsDecision(units, "no pixel holds data")
    hints = list(hints)
    statement = _named_units([h for h in hints if _STRONG.match(h)])
    if statement and _impossible(statement[0], stats):
        raise SceneError(
            f"{label}: the file says {UNIT_NAMES[statement[0]]} ({statement[1]}), but its values "
            f"do not look like that ({_levels(stats)}); say what they are with --units db, power "
            "or amplitude"
        )
    statement = statement or _named_units([h for h in hints if _TELLING.match(h)])
    if statement is None or _impossible(statement[0], stats):
        return _by_values(stats, label)
    return UnitsDecision(statement[0], f"the scene says so ({statement[1]})")


_FACTORS = (10, 100, 1000)
"""Factors by which dB are multiplied to store them as whole numbers."""

_FILLED = 0.3
"""A value that fills more than this share of the scene distorts the quantiles too far to judge the
rest."""

_SPREAD_DB = (2.5, 60.0)
"""Possible distance from the 5 to the 95 % quantile of values in dB: speckle alone gives about 3,
ships and radar shadow up to 60."""


def check_scale(stats: SceneStats, label: str, option: UnitsOption, rescaled: bool) -> None:
    """Refuses values that look like dB times 10, 100 or 1000, if the file declares no scale.

    Args:
        stats: Statistics of the whole scene.
        label: Name of the scene in messages.
        option: Value of ``--units``; nothing is checked if it is ``power`` or ``amplitude``.
        rescaled: True if the user gave a scale or an offset.

    Raises:
        SceneError: The values are dB times a factor. The message names the option.
    """
    if stats.blank or rescaled or option not in ("auto", "db"):
        return
    # Where one value fills much of the scene, quantiles say nothing about the others.
    filled = any(value.share > _FILLED for value in stats.repeated)
    if filled or all(_like_db(band) for band in stats.bands):
        return
    for factor in _FACTORS:
        if all(_times(band, factor) for band in stats.bands):
            raise SceneError(
                f"{label}: its values look like dB times {factor} ({_levels(stats)}), and the file "
                f"names no scale: pass --scale {1 / factor:g}"
            )


def _times(band: BandStats, factor: int) -> bool:
    low, median, high = (band.quantile(p) / factor for p in (5.0, 50.0, 95.0))
    plausible = PLAUSIBLE_DB[0] <= median <= PLAUSIBLE_DB[1] and band.median < _DB_MEDIAN[0]
    return plausible and _SPREAD_DB[0] <= high - low <= _SPREAD_DB[1]


def _of_complex(option: UnitsOption) -> UnitsDecision:
    # --units amplitude and --units power mean the same here: complex data is read as |z|^2.
    if option == "auto":
        return UnitsDecision("power", "complex values are read as intensity")
    name = "amplitude, squared to power" if option == "amplitude" else option
    return UnitsDecision("power", f"intensity of complex values as --units says: {name}", True)


def zeros_are_nodata(
    units: Units, stats: SceneStats, nodata: Iterable[float | None], declared: bool, by_user: bool
) -> bool:
    """Whether pixels that are 0 in every band may be nodata, at least along the scene's edge.

    No radar echo is exactly 0, but the border of a Sentinel-1 product is, whatever nodata value
    the file declares. Noise removal can set dark water to 0 in one band: a pixel that is 0 in one
    band only is data, even if the file declares 0 as nodata.

    Args:
        nodata: Nodata value of each band, or None.
        declared: True if the file or the user declares what is nodata.
        by_user: True if the user declares it (``--nodata``).
    """
    # In dB and in 8-bit pictures 0 is an ordinary value.
    if units == "db" or stats.eight_bit:
        return False
    digital = np.dtype(stats.dtype).kind in "iu" and stats.whole_numbers
    # Digital numbers may have a border of zeros besides the nodata value that the file declares, so
    # only --nodata can make their zeros data.
    return not declared or (digital and not by_user) or all(value == 0 for value in nodata)


def _named_units(hints: Iterable[str]) -> tuple[Units, str] | None:
    """Units that the hints name, with the first such hint; None if none does or they disagree."""
    hint_by_units: dict[Units, str] = {}
    for hint in hints:
        text = hint.partition(": ")[2]
        asf = _ASF.search(text)
        words = [u for u, pattern in _WORDS if re.search(pattern, text.lower())]
        if asf:
            hint_by_units.setdefault(_ASF_UNITS[asf[1].lower()], hint)
        elif words:
            # _WORDS is in order of precedence: "dB of intensity" is dB.
            hint_by_units.setdefault(words[0], hint)
    return next(iter(hint_by_units.items())) if len(hint_by_units) == 1 else None


def _impossible(units: Units, stats: SceneStats) -> bool:
    if units == "db":
        return not all(_like_db(b) for b in stats.bands)
    return any(b.median < 0 for b in stats.bands)


def _like_db(band: BandStats) -> bool:
    return _DB_MEDIAN[0] <= band.median <= _DB_MEDIAN[1] and band.minimum < 0


def _by_values(stats: SceneStats, label: str) -> UnitsDecision:
    bands = stats.bands
    levels = _levels(stats)
    if stats.whole_numbers and max(b.maximum - b.minimum for b in bands) < _FEW_CLASSES:
        raise _ambiguous(label, f"a few whole numbers ({levels}), like a class map")
    # Noise-subtracted power is slightly negative in places; values in dB are far below 0.
    if any(b.quantile(1.0) < -1 for b in bands):
        if not all(_like_db(b) for b in bands):
            raise _ambiguous(label, f"negative, but not like dB ({levels})")
        return UnitsDecision("db", f"negative values ({levels})")
    if any(b.median < 0 for b in bands):
        raise _ambiguous(label, levels)
    # From here on the values are linear: power or amplitude.
    if stats.eight_bit:
        return UnitsDecision("amplitude", f"an 8-bit picture ({levels})")
    if stats.whole_numbers and max(b.maximum for b in bands) <= 65535:
        return UnitsDecision("amplitude", f"digital numbers ({levels})")
    if max(b.median for b in bands) < _LINEAR_MEDIAN:
        return UnitsDecision(
            "power",
            f"small and not negative ({levels}; if it is amplitude, pass --units amplitude)",
        )
    raise _ambiguous(label, f"too large for calibrated power ({levels})")


def _ambiguous(label: str, what: str) -> SceneError:
    return SceneError(
        f"{label}: cannot tell what its values are: {what}; "
        "say it with --units db, power or amplitude, and with --scale and --offset if the values "
        "are scaled"
    )


def _levels(stats: SceneStats) -> str:
    medians = ", ".join(f"{b.median:.3g}" for b in stats.bands[:4])
    lowest = min(b.minimum for b in stats.bands)
    highest = max(b.maximum for b in stats.bands)
    return f"{stats.dtype}, median {medians}, range {lowest:.3g} to {highest:.3g}"


def decibels(value: float, units: Units) -> float:
    """Converts one value to decibels of power; zero and negative values give -100."""
    if units == "db":
        return value
    factor = 20 if units == "amplitude" else 10
    return max(-100.0, factor * math.log10(value)) if value > 0 else -100.0
