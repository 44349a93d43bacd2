"""Fill that a scene does not declare as nodata: one value, again and again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.preprocess import Units

_LEAST = 1e-3
"""Share of the pixels from which on a value is looked at; dead pixels are fewer."""

_NOTABLE = 1e-2
"""Share from which on a value that could be measured is called fill."""

_STANDS_OUT = 10
"""A value that is so many times as frequent as the values next to it is not measured: of whole
numbers and of pictures many pixels are equal, but their neighbours are as frequent."""

_GAP = 0.02
"""Of the range of the other values: what is nearer to them is where they were clipped."""

_VALUES = 500_000

_NO_LOGARITHM = -320.0
"""Decibels of the numbers that commonly stand for 0 power (1e-30) end above; -9999, -32768 and the
lowest int16 with a scale of 0.01 lie below, and no power or amplitude is so far below 0."""

_HIGHEST_DB = 60.0


@dataclass(frozen=True)
class Repeated:
    """A value that far more pixels hold than hold its neighbours.

    Attributes:
        value: The value.
        share: Fraction of the pixels that hold it in a band at least.
        joint: Fraction of the pixels that hold it in every band.
        clipped: True where the other values end right beside it: it stands for all beyond.
    """

    value: float
    share: float
    joint: float
    clipped: bool = False


def repeated_values(values: NDArray[np.float32]) -> tuple[Repeated, ...]:
    """The values that stand out, but for 0, the most frequent first.

    Args:
        values: Values of N bands, shape (N, M), none of them NaN; M is at least 1.
    """
    values = values[:, :: max(1, values.shape[1] // _VALUES)]
    clipped: dict[float, bool] = {}
    for band in values:
        for value, ends in _outstanding(band):
            clipped[value] = clipped.get(value, True) and ends
    found = []
    for value in clipped.keys() - {0.0}:
        holds = values == np.float32(value)
        share, joint = float(holds.any(axis=0).mean()), float(holds.all(axis=0).mean())
        found.append(Repeated(value, share, joint, clipped[value]))
    return tuple(sorted(found, key=lambda r: -r.share))


def _outstanding(band: NDArray[np.float32]) -> Iterator[tuple[float, bool]]:
    """Values of one band that stand out, and whether they end its range without a gap."""
    ordered = np.sort(band)
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, ordered.size])
    last = len(counts) - 1
    for i in np.flatnonzero(counts >= _LEAST * ordered.size).tolist():
        first = max(0, min(i - 2, last - 4))
        near = np.delete(counts[first : first + 5], i - first)
        if counts[i] < _STANDS_OUT * (np.median(near) if len(near) else 0):
            continue
        value, start = float(ordered[starts[i]]), int(starts[i])
        others = np.delete(ordered, slice(start, start + int(counts[i])))
        yield value, i in (0, last) and len(others) > 0 and _adjoins(value, others)


def _adjoins(value: float, others: NDArray[np.float32]) -> bool:
    low, high = others[[others.size // 100, -1 - others.size // 100]]
    return bool(np.abs(others[[0, -1]] - value).min() <= _GAP * (high - low))


def no_echo(value: float, units: Units | None) -> bool:
    """True for a value that no echo has, whatever the sensor.

    Args:
        value: The value; one of power must have come more than once.
        units: What it is, or None where that is not decided.
    """
    if value < _NO_LOGARITHM:
        return True
    if units == "db":
        return value > _HIGHEST_DB
    # Noise-subtracted power is a little negative here and there, but never twice the same.
    return units is not None and value <= -1


def certain_fill(repeated: Iterable[Repeated], units: Units | None) -> Repeated | None:
    """The first value that no echo has; None where there is none.

    Args:
        repeated: Values that stand out.
        units: What the values are, or None where that is not decided.
    """
    return next((r for r in repeated if no_echo(r.value, units)), None)


def likely_fill(repeated: Iterable[Repeated], units: Units) -> tuple[Repeated, ...]:
    """Values that an echo may have, or that stand for 0 power, but hardly so often in all bands.

    Args:
        repeated: Values that stand out.
        units: What the values are.
    """
    return tuple(
        r for r in repeated if r.joint >= _NOTABLE and not r.clipped and not no_echo(r.value, units)
    )
