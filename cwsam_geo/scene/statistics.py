"""Statistics of the values of a whole scene, and values that repeat too often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST = 1e-3
"""A value is examined if at least this share of a band's pixels holds it; dead pixels are fewer."""

_STANDS_OUT = 10
"""A value is suspected to be fill if it occurs at least this many times as often as the values next
to it. Integer data repeats values too, but evenly."""

_GAP = 0.02
"""A frequent value at an end of the range is a clipping limit, not fill, if its distance from the
other values is at most this fraction of their range."""

_FAR = 2
"""A value cannot be a measurement, whatever the unit, if its distance from the central 90 % of the
other values is more than this multiple of their range."""

_VALUES = 500_000
"""Largest number of values of a band that are examined; a longer band is thinned evenly."""

PERCENTS = (1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 98.0, 99.0, 99.9)
"""Quantiles that ``BandStats`` holds, in percent."""


@dataclass(frozen=True)
class Repeated:
    """A value that is far more frequent than the values next to it.

    Attributes:
        value: The value, in the unit of the scene's values.
        share: Fraction of the pixels that hold it in at least one band.
        joint: Fraction of the pixels that hold it in every band.
        clipped: True if it looks like a clipping limit: it is the lowest or highest value, and
            close to the others.
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


@dataclass(frozen=True)
class BandStats:
    """Values of one band over the scene.

    Attributes:
        quantiles: One for each of ``PERCENTS``.
        zeros: Fraction of values that are 0.
        negative: Fraction of values below 0.
        at_minimum: Fraction of values that equal the minimum: many where values were clipped.
        at_maximum: The same for the maximum.
    """

    minimum: float
    maximum: float
    quantiles: tuple[float, ...]
    zeros: float
    negative: float
    at_minimum: float
    at_maximum: float

    def quantile(self, percent: float) -> float:
        """The quantile of ``percent``, which is one of ``PERCENTS``."""
        return self.quantiles[PERCENTS.index(percent)]

    @property
    def median(self) -> float:
        """The 50 % quantile."""
        return self.quantile(50.0)

    @classmethod
    def of(cls, values: NDArray[Any]) -> BandStats:
        """Statistics of an array with at least one value and no NaN."""
        quantiles = np.percentile(values, PERCENTS)
        return cls(
            minimum=float(values.min()),
            maximum=float(values.max()),
            quantiles=tuple(float(q) for q in quantiles),
            zeros=float((values == 0).mean()),
            negative=float((values < 0).mean()),
            at_minimum=float((values == values.min()).mean()),
            at_maximum=float((values == values.max()).mean()),
        )


@dataclass(frozen=True)
class SceneStats:
    """Statistics of a whole scene, from all of it or from a sample spread over it.

    Attributes:
        dtype: numpy's name of the stored type.
        pixels: Number of pixels that were read.
        complete: True if every pixel of the scene was read.
        valid: Fraction of the read pixels that have data in every band.
        zeros: Fraction of the valid pixels that are 0 in every band (often an undeclared border).
        whole_numbers: True if all values are whole numbers.
        bands: Statistics of each band over the valid pixels, without -inf and without pixels of
            power 0 in every band; empty if no pixel is left.
        repeated: Values that are suspiciously frequent; shares are fractions of the valid pixels.
        lacking: For each band, fraction of the read pixels in which it has no data although
            another band has; empty if unknown.
        infinite: Fraction of the valid pixels that are -inf in every band: power 0 in dB.
        inner: Fraction of the valid pixels that are 0 or -inf in every band but count as data,
            because they are not connected with the scene's edge.
        border_noise: Fraction of the read pixels that are noise along the border of the swath; they
            are not valid.
    """

    dtype: str
    pixels: int
    complete: bool
    valid: float
    zeros: float
    whole_numbers: bool
    bands: tuple[BandStats, ...]
    repeated: tuple[Repeated, ...] = ()
    lacking: tuple[float, ...] = ()
    infinite: float = 0.0
    inner: float = 0.0
    border_noise: float = 0.0

    @property
    def blank(self) -> bool:
        """True if every pixel is 0 or nodata."""
        return not self.bands

    @property
    def eight_bit(self) -> bool:
        """True for 8-bit pictures."""
        return self.dtype == "uint8" and self.whole_numbers
