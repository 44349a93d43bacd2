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

_NOTABLE_ALONE = 5e-2
"""The same for a scene of one band: small digital numbers come again and again there."""

_STANDS_OUT = 10
"""A value that is so many times as frequent as the values next to it is not measured: of whole
numbers and of pictures many pixels are equal, but their neighbours are as frequent."""

_GAP = 0.02
"""Of the range of the other values: what is nearer to them is where they were clipped."""

_FAR = 2
"""Times their range that a value is away from the middle nine tenths of the others: whatever the
unit of these is, it is not of them."""

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
        apart: True where it is far from almost all other values.
    """

    value: float
    share: float
    joint: float
    clipped: bool = False
    apart: bool = True


def repeated_values(values: NDArray[np.float32]) -> tuple[Repeated, ...]:
    """The values that stand out, but for 0, the most frequent first.

    Args:
        values: Values of N bands, shape (N, M), none of them NaN; M is at least 1.
    """
    values = values[:, :: max(1, values.shape[1] // _VALUES)]
    places: dict[float, list[tuple[bool, bool]]] = {}
    for band in values:
        for value, *place in _outstanding(band):
            places.setdefault(value, []).append((place[0], place[1]))
    found = []
    for value in places.keys() - {0.0}:
        holds = values == np.float32(value)
        share, joint = float(holds.any(axis=0).mean()), float(holds.all(axis=0).mean())
        clipped, apart = zip(*places[value], strict=True)
        found.append(Repeated(value, share, joint, all(clipped), any(apart)))
    return tuple(sorted(found, key=lambda r: -r.share))


def _outstanding(band: NDArray[np.float32]) -> Iterator[tuple[float, bool, bool]]:
    """Values of one band that stand out, whether they end its range, and lie far from the rest."""
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
        if not len(others):
            yield value, False, True
        else:
            yield value, i in (0, last) and _adjoins(value, others), _apart(value, others)


def _adjoins(value: float, others: NDArray[np.float32]) -> bool:
    low, high = others[[others.size // 100, -1 - others.size // 100]]
    return bool(np.abs(others[[0, -1]] - value).min() <= _GAP * (high - low))


def _apart(value: float, others: NDArray[np.float32]) -> bool:
    low, high = others[[others.size // 20, -1 - others.size // 20]]
    return bool(max(low - value, value - high) > _FAR * (high - low))


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
    # Of dB times 100 many are below what dB can be, and some come again and again.
    known = units in ("power", "amplitude")
    return next((r for r in repeated if no_echo(r.value, units) and (known or r.apart)), None)


def likely_fill(repeated: Iterable[Repeated], units: Units, bands: int) -> tuple[Repeated, ...]:
    """Values that an echo may have, or that stand for 0 power, but hardly so often in all bands.

    Args:
        repeated: Values that stand out.
        units: What the values are.
        bands: How many bands the scene has.
    """
    least = _NOTABLE if bands > 1 else _NOTABLE_ALONE
    return tuple(
        r
        for r in repeated
        if r.joint >= (least if r.value else _NOTABLE)
        and not r.clipped
        and not no_echo(r.value, units)
    )
