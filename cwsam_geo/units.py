"""What a scene's values are: statistics of the whole scene, and the decision on its units."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.fill import Repeated
from cwsam_geo.preprocess import Units

UnitsOption = Literal["auto", "db", "power", "amplitude"]
"""What ``--units`` takes."""

UNITS_OPTIONS: tuple[UnitsOption, ...] = get_args(UnitsOption)

PERCENTS = (1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 98.0, 99.0, 99.9)
"""Which quantiles ``BandStats`` holds, in percent."""

PLAUSIBLE_DB = (-45.0, 15.0)
"""Where the median of calibrated backscatter lies, in dB: from calm water in cross polarisation to
cities in co-polarisation, with room on both sides."""

_WORDS: tuple[tuple[Units, str], ...] = (
    ("db", r"(?<![a-z])(db|decibels?)(?![a-z0-9])"),
    ("amplitude", r"(?<![a-z])(amplitude|amp|digital[ _-]numbers?)(?![a-z])"),
    ("power", r"(?<![a-z])(power|intensity|linear)(?![a-z])"),
)
_STRONG = re.compile(r"band \d+ (unit|description)")
_TELLING = re.compile(
    r"file name|tag \S*(unit|radiometr|calibrat|backscatter|quantity)", re.IGNORECASE
)
# Gamma RTC products of ASF say it in one letter: RTC30_G_gpuned is gamma0, power.
_ASF = re.compile(r"_RTC\d\d_[A-Z]_[gs]([pda])[a-z]{4}(?![a-z])", re.IGNORECASE)
_ASF_UNITS: dict[str, Units] = {"p": "power", "d": "db", "a": "amplitude"}

_LINEAR_MEDIAN = 2.0
_FEW_CLASSES = 20
_DB_MEDIAN = (-80.0, 40.0)


@dataclass(frozen=True)
class BandStats:
    """Values of one band over the scene.

    Attributes:
        minimum: Lowest value.
        maximum: Highest value.
        quantiles: One for each of ``PERCENTS``.
        zeros: Fraction of values that are 0.
        negative: Fraction of values below 0.
    """

    minimum: float
    maximum: float
    quantiles: tuple[float, ...]
    zeros: float
    negative: float

    def quantile(self, percent: float) -> float:
        """The quantile of one of ``PERCENTS``."""
        return self.quantiles[PERCENTS.index(percent)]

    @property
    def median(self) -> float:
        """The 50 % quantile."""
        return self.quantile(50.0)

    @classmethod
    def of(cls, values: NDArray[Any]) -> BandStats:
        """Statistics of an array of values, at least one, none of them NaN."""
        quantiles = np.percentile(values, PERCENTS)
        return cls(
            minimum=float(values.min()),
            maximum=float(values.max()),
            quantiles=tuple(float(q) for q in quantiles),
            zeros=float((values == 0).mean()),
            negative=float((values < 0).mean()),
        )


@dataclass(frozen=True)
class SceneStats:
    """Statistics of a whole scene, from all of it or from a sample spread over it.

    Attributes:
        dtype: numpy's name of the stored type.
        pixels: How many pixels were looked at.
        complete: True where that is every pixel.
        valid: Fraction of these with data in every band.
        zeros: Fraction of the valid ones that are 0 in every band (often an undeclared border).
        whole_numbers: True where no value has a fraction.
        bands: Statistics of each band over the valid pixels that are not 0 in every band; empty
            where there is no such pixel.
        repeated: Values that stand out by their number, shares of the valid pixels.
    """

    dtype: str
    pixels: int
    complete: bool
    valid: float
    zeros: float
    whole_numbers: bool
    bands: tuple[BandStats, ...]
    repeated: tuple[Repeated, ...] = ()

    @property
    def blank(self) -> bool:
        """True where no pixel holds anything but 0 or nodata."""
        return not self.bands

    @property
    def eight_bit(self) -> bool:
        """True for 8-bit pictures."""
        return self.dtype == "uint8" and self.whole_numbers


@dataclass(frozen=True)
class UnitsDecision:
    """What a scene's values are, and why.

    Attributes:
        units: The units.
        reason: Why, in words for the user.
        given: True where the user said so.
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
    """Decides what a scene's values are: the user, then metadata, then the values say it.

    Args:
        stats: Statistics of the whole scene.
        hints: Texts of the file (units, descriptions, tags, file name).
        label: What to call the scene in messages.
        option: What the user says.

    Raises:
        SceneError: It cannot be told; the message asks for ``--units``.
        UsageError: The option cannot be true of this scene.
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
    told = _told([h for h in hints if _STRONG.match(h)])
    if told and _impossible(told[0], stats):
        raise SceneError(
            f"{label}: it says {_NAMES[told[0]]} ({told[1]}), but its values do not look it "
            f"({_levels(stats)}); say what they are with --units db, power or amplitude"
        )
    told = told or _told([h for h in hints if _TELLING.match(h)])
    if told is None or _impossible(told[0], stats):
        return _by_values(stats, label)
    return UnitsDecision(told[0], f"the scene says so ({told[1]})")


def _of_complex(option: UnitsOption) -> UnitsDecision:
    # They are amplitudes with a phase, and their squares power: who says either says the same.
    if option == "auto":
        return UnitsDecision("power", "complex values are read as intensity")
    meant = "amplitude, squared to power" if option == "amplitude" else option
    return UnitsDecision("power", f"intensity of complex values as --units says: {meant}", True)


def zeros_are_nodata(
    units: Units, stats: SceneStats, nodata: Iterable[float | None], told: bool, asked: bool
) -> bool:
    """Whether pixels that are 0 in every band are nodata (and a 0 in one band alone is data).

    No radar echo is exactly 0, but the border of a Sentinel-1 product is, whatever nodata value
    it declares. After the removal of thermal noise dark water can be 0 in one band: that is data,
    also where the file declares 0 as nodata. In decibels and in 8-bit pictures 0 is a value as
    any other.

    Args:
        units: What the values are.
        stats: Statistics of the scene.
        nodata: Nodata value of each band, or None.
        told: Whether the file or the user says what is nodata.
        asked: Whether the user does.
    """
    if units == "db" or stats.eight_bit:
        return False
    digital = np.dtype(stats.dtype).kind in "iu" and stats.whole_numbers
    return not told or (digital and not asked) or all(value == 0 for value in nodata)


_NAMES: dict[Units, str] = {"db": "dB", "power": "power", "amplitude": "amplitude"}


def _told(hints: Iterable[str]) -> tuple[Units, str] | None:
    """What the hints say, with the first that says it; None where they are silent or disagree."""
    found: dict[Units, str] = {}
    for hint in hints:
        text = hint.partition(": ")[2]
        asf = _ASF.search(text)
        words = [u for u, pattern in _WORDS if re.search(pattern, text.lower())]
        if asf:
            found.setdefault(_ASF_UNITS[asf[1].lower()], hint)
        elif words:
            found.setdefault(words[0], hint)
    return next(iter(found.items())) if len(found) == 1 else None


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
    # Noise-subtracted power is a little negative here and there; decibels are by far.
    if any(b.quantile(1.0) < -1 for b in bands):
        if not all(_like_db(b) for b in bands):
            raise _ambiguous(label, f"negative, but not like dB ({levels})")
        return UnitsDecision("db", f"negative values ({levels})")
    if any(b.median < 0 for b in bands):
        raise _ambiguous(label, levels)
    if stats.eight_bit:
        return UnitsDecision("amplitude", f"an 8-bit picture ({levels})")
    if stats.whole_numbers and max(b.maximum for b in bands) <= 65535:
        return UnitsDecision("amplitude", f"digital numbers ({levels})")
    if max(b.median for b in bands) < _LINEAR_MEDIAN:
        return UnitsDecision(
            "power", f"small and not negative ({levels}; else pass --units amplitude)"
        )
    raise _ambiguous(label, f"too large for calibrated power ({levels})")


def _ambiguous(label: str, what: str) -> SceneError:
    return SceneError(
        f"{label}: cannot tell what its values are: {what}; "
        "say it with --units db, power or amplitude"
    )


def _levels(stats: SceneStats) -> str:
    medians = ", ".join(f"{b.median:.3g}" for b in stats.bands[:4])
    lowest = min(b.minimum for b in stats.bands)
    highest = max(b.maximum for b in stats.bands)
    return f"{stats.dtype}, median {medians}, range {lowest:.3g} to {highest:.3g}"


def decibels(value: float, units: Units) -> float:
    """Decibels of power of one value; -100 for zero and less."""
    if units == "db":
        return value
    factor = 20 if units == "amplitude" else 10
    return max(-100.0, factor * math.log10(value)) if value > 0 else -100.0
