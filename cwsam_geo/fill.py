"""Finds fill that a scene does not declare as nodata: single values that are far too frequent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.preprocess import Units

_LEAST = 1e-3
"""Share of a band's pixels from which on a value is examined; dead pixels are fewer."""

_NOTABLE = 1e-2
"""Share of pixels that hold a value in every band from which on it is likely fill, even if an echo
could have that value."""

_NOTABLE_ALONE = 5e-2
"""The same for a scene of one band, where small digital numbers repeat often."""

_STANDS_OUT = 10
"""A value is suspected to be fill if it occurs at least this many times as often as the values next
to it. Integer data repeats values too, but evenly."""

_GAP = 0.02
"""Fraction of the range of the other values. A frequent value that ends the range and is closer to
them than this is a clipping limit, not fill."""

_FAR = 2
"""Distance from the central 90 % of the other values, as a multiple of their range. A value further
away cannot be a measurement, whatever the unit."""

_VALUES = 500_000
"""Values of a band that are examined, at most; the others are skipped evenly."""

_NO_LOGARITHM = -320.0
"""Lowest value that can be an echo in any unit. The numbers that commonly stand for 0 power give
higher decibels (1e-30: -300 dB). Common fill is lower: -9999, -32768, and the lowest int16 with a
scale of 0.01 (-327.68)."""

_HIGHEST_DB = 60.0
"""Highest value in dB that can be an echo, calibrated or not."""


@dataclass(frozen=True)
class Repeated:
    """A value that is far more frequent than the values next to it.

    Attributes:
        value: The value, in the unit of the scene's values.
        share: Fraction of the pixels that hold it in at least one band.
        joint: Fraction of the pixels that hold it in every band.
        clipped: True if it looks like a clipping limit: it ends the range of the values, right
            beside the others.
        apart: True if it is far from almost all other values.
    """

    value: float
    share: float
    joint: float
    clipped: bool = False
    apart: bool = True


def repeated_values(values: NDArray[np.float32]) -> tuple[Repeated, ...]:
    """The values that are suspiciously frequent, except 0; the most frequent first.

    Args:
        values: Values of N bands, shape (N, M) with M >= 1, without NaN.
    """
    values = values[:, :: max(1, values.shape[1] // _VALUES)]
    # For each value, (clipped, apart) in each band where it is too frequent.
    flags_by_value: dict[float, list[tuple[bool, bool]]] = {}
    for band in values:
        for value, clipped, apart in _outstanding(band):
            flags_by_value.setdefault(value, []).append((clipped, apart))
    repeated = []
    for value in flags_by_value.keys() - {0.0}:
        holds = values == np.float32(value)  # (N, M)
        share, joint = float(holds.any(axis=0).mean()), float(holds.all(axis=0).mean())
        clipped_flags, apart_flags = zip(*flags_by_value[value], strict=True)
        repeated.append(Repeated(value, share, joint, all(clipped_flags), any(apart_flags)))
    return tuple(sorted(repeated, key=lambda r: -r.share))


def _outstanding(band: NDArray[np.float32]) -> Iterator[tuple[float, bool, bool]]:
    """The frequent values of one band, each with its flags ``clipped`` and ``apart``."""
    # Runs of equal values in the sorted band: where they start, and how long they are.
    ordered = np.sort(band)
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, ordered.size])
    last = len(counts) - 1
    for i in np.flatnonzero(counts >= _LEAST * ordered.size).tolist():
        # Compare with the four distinct values next to it, fewer if there are not so many.
        first = max(0, min(i - 2, last - 4))
        neighbour_counts = np.delete(counts[first : first + 5], i - first)
        typical = np.median(neighbour_counts) if len(neighbour_counts) else 0
        if counts[i] < _STANDS_OUT * typical:
            continue
        value, start = float(ordered[starts[i]]), int(starts[i])
        others = np.delete(ordered, slice(start, start + int(counts[i])))
        if not len(others):
            yield value, False, True
        else:
            yield value, i in (0, last) and _adjoins(value, others), _apart(value, others)


def _adjoins(value: float, others: NDArray[np.float32]) -> bool:
    """True if the value is close to the lowest or highest of the sorted ``others``."""
    low, high = others[[others.size // 100, -1 - others.size // 100]]
    return bool(np.abs(others[[0, -1]] - value).min() <= _GAP * (high - low))


def _apart(value: float, others: NDArray[np.float32]) -> bool:
    """True if the value is far from the central 90 % of the sorted ``others``."""
    low, high = others[[others.size // 20, -1 - others.size // 20]]
    return bool(max(low - value, value - high) > _FAR * (high - low))


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
    # Data in dB times 100 has many values below any echo's dB, and repeats some of them. Unless the
    # scale is linear, a value must therefore also be far from the others.
    linear = units in ("power", "amplitude")
    return next((r for r in repeated if no_echo(r.value, units) and (linear or r.apart)), None)


def likely_fill(repeated: Iterable[Repeated], units: Units, bands: int) -> tuple[Repeated, ...]:
    """Values that are possible, but hardly in so many pixels of every band at once.

    An echo can have such a value, or the value stands for 0 power.

    Args:
        repeated: Values that are suspiciously frequent; 0 may be among them.
        units: Units of the values.
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
