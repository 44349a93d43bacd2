"""The refined Lee filter, which lowers speckle without blurring edges.

Lee, "Refined filtering of image noise using local statistics", Computer Graphics and Image
Processing 15 (1981); Lee and Pottier, "Polarimetric Radar Imaging" (2009), section 5.4. The means
of nine 3 x 3 parts of the 7 x 7 window around a pixel tell the direction of an edge, and on which
side of it the pixel lies. With mean m and variance v of the 28 pixels on this side, its power z
becomes

    m + b (z - m),   b = (v - m^2 s^2) / (v (1 + s^2)),   s^2 = 1 / looks

which is the mean where the variance is that of speckle, and close to z where it is far higher.
Pixels without data are left out of means and variances. Sums are added in a fixed order, so that a
pixel does not depend on the window in which it is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.core.preprocess import TINY_POWER, Units

HALO = 3
"""Pixels on each side of a pixel that its filtered value depends on: 7 x 7."""

ASSUMED_LOOKS = 4.4
"""Looks of a Sentinel-1 IW GRD at high resolution, by its product specification; used where a scene
has too few homogeneous places to tell its own."""

_SIDE = 2 * HALO + 1

SAMPLE_ROWS = 4 * _SIDE
"""Rows of a sample from which looks are estimated; a file in strips may be read line by line."""

_BLOCK = 64, 1024
"""Rows and columns that are filtered at a time, so few that the arrays stay in the CPU's cache."""

_MOST_POWER = np.float32(1e18)
"""Larger powers are cut: their squares would be infinite. No echo comes near."""

_LEAST_PLACES = 100
"""Windows from which on looks can be estimated; their most frequent value is then exact to 10 %."""

_BIN = 0.02
"""Width of a bin of the logarithm of looks."""

_SMOOTH = 5
"""Standard deviation of the kernel that smooths the histogram of looks, in bins."""

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class RefinedLee:
    """The filter for one scene.

    Attributes:
        units: Units of the scene's values; the filter works on power.
        looks: Equivalent number of looks of the scene.
        estimated: Whether the scene tells its looks; else they are assumed.
    """

    units: Units
    looks: float
    estimated: bool = True

    @property
    def words(self) -> str:
        """The filter in words."""
        how = "estimated from the scene" if self.estimated else "assumed"
        return f"refined Lee, {_SIDE} x {_SIDE} px, {self.looks:.3g} looks ({how})"

    def filtered(
        self, window: Window, scene: Window, read: Callable[[Window], tuple[Plane, Mask]]
    ) -> tuple[Plane, Mask]:
        """Reads a window and filters it.

        Args:
            window: A window inside the scene.
            scene: All pixels of the scene.
            read: Reads values (N, h, w) in ``units``, and where there is data (h, w).

        Returns:
            Values, (N, H, W), unchanged where there is no data; and where there is data, (H, W).
        """
        around = _grown(window, HALO).intersect(scene)
        values, valid = read(around)
        inner = window.within(around).slices
        # Beyond the scene there is no data.
        above, left = HALO - (window.row - around.row), HALO - (window.col - around.col)
        below, right = HALO - (around.bottom - window.bottom), HALO - (around.right - window.right)
        edge = (above, below), (left, right)
        known = np.pad(valid, edge)
        out = values[(slice(None), *inner)].copy()
        for plane, result in zip(values, out, strict=True):
            power = np.pad(_power(plane, valid, self.units), edge)
            for rows, cols in _blocks(window):
                near = (
                    slice(rows.start, rows.stop + 2 * HALO),
                    slice(cols.start, cols.stop + 2 * HALO),
                )
                smooth = _refined_lee(power[near], known[near], 1 / self.looks)
                result[rows, cols] = np.where(
                    valid[inner][rows, cols], _as_units(smooth, self.units), result[rows, cols]
                )
        return out, valid[inner]


def estimated_filter(units: Units, samples: Iterable[tuple[Plane, Mask]]) -> RefinedLee:
    """The filter with the number of looks that samples of a scene tell.

    The ratio of squared mean and variance is taken in many windows of the filter's size. Its most
    frequent value is that of places without texture (Foucher, Boucher and Benie 2000), of which
    every scene has some.

    Args:
        samples: Values (N, h, w) of windows of the scene, and where there is an echo (h, w).
    """
    found: list[NDArray[np.float64]] = []
    for values, echo in samples:
        rows, cols = (n // _SIDE for n in echo.shape)
        shape = rows, _SIDE, cols, _SIDE
        cut = slice(rows * _SIDE), slice(cols * _SIDE)
        whole = echo[cut].reshape(shape).all(axis=(1, 3))
        for plane in values:
            power = _power(plane, echo, units)[cut].reshape(shape).astype(np.float64)
            mean, variance = power.mean(axis=(1, 3)), power.var(axis=(1, 3), ddof=1)
            good = whole & (variance > 0)
            found.append(np.square(mean[good]) / variance[good])
    looks = np.concatenate(found) if found else np.zeros(0)
    if len(looks) < _LEAST_PLACES:
        return RefinedLee(units, ASSUMED_LOOKS, estimated=False)
    return RefinedLee(units, round(max(1.0, _most_frequent(looks)), 2))


def _most_frequent(looks: NDArray[np.float64]) -> float:
    """The most frequent of positive numbers, on a logarithmic scale."""
    logs = np.log(looks)
    first = np.floor(logs.min() / _BIN)
    counts = np.bincount((logs / _BIN - first).astype(np.intp)).astype(np.float64)
    reach = np.arange(-4 * _SMOOTH, 4 * _SMOOTH + 1)
    kernel = np.exp(-0.5 * np.square(reach / _SMOOTH))
    smooth = np.convolve(counts, kernel, mode="full")[4 * _SMOOTH : -4 * _SMOOTH]
    return float(np.exp((first + smooth.argmax() + 0.5) * _BIN))


def _power(values: Plane, valid: Mask, units: Units) -> Plane:
    """Values as power; 0 where there is no data. A new array."""
    power = np.where(valid, values, np.float32(0))
    if units == "db":
        power *= np.float32(np.log(10) / 10)
        np.exp(power, out=power)
        power *= valid
    elif units == "amplitude":
        np.square(power, out=power)
    return np.minimum(power, _MOST_POWER, out=power)


def _as_units(power: Plane, units: Units) -> Plane:
    if units == "db":
        return np.float32(10) * np.log10(np.maximum(power, np.float32(TINY_POWER)))
    return np.sqrt(power) if units == "amplitude" else power


def _refined_lee(power: Plane, valid: Mask, variation: float) -> Plane:
    """Filters power, (h + 6, w + 6), to (h, w).

    Args:
        power: 0 where there is no data.
        variation: Variance of speckle of mean 1.
    """
    complete = bool(valid.all())
    count = None if complete else valid.astype(np.float32)
    which = _direction(power, count)
    number = np.float32(_SIDE * (HALO + 1)) if count is None else _chosen(count, which)
    mean, square = _chosen(power, which), _chosen(np.square(power), which)
    if count is not None:
        number = np.maximum(number, np.float32(1))
    mean /= number
    square /= number
    centre = power[HALO:-HALO, HALO:-HALO]
    squared_mean = np.square(mean)
    variance = np.maximum(square - squared_mean, np.float32(0))
    speckle = squared_mean * np.float32(variation)
    scene = np.maximum(variance - speckle, np.float32(0))
    scene /= np.float32(1 + variation)
    # Without variance all pixels equal the mean.
    weight = np.divide(scene, variance, out=np.zeros_like(scene), where=variance > 0)
    filtered: Plane = mean + weight * (centre - mean)
    return filtered


_WEST, _EAST, _NORTH, _SOUTH, _NORTH_WEST, _SOUTH_EAST, _NORTH_EAST, _SOUTH_WEST = range(8)


def _direction(power: Plane, count: Plane | None) -> NDArray[np.uint8]:
    """The side of the strongest edge on which each pixel lies, (h, w): one of ``_WEST`` ..."""
    parts = _part_means(power, count)
    (nw, n, ne), (w, centre, e), (sw, s, se) = parts
    pairs = (
        (w, e, (nw + w + sw) - (ne + e + se), _WEST),
        (n, s, (nw + n + ne) - (sw + s + se), _NORTH),
        (nw, se, (nw + n + w) - (se + s + e), _NORTH_WEST),
        (ne, sw, (ne + n + e) - (sw + s + w), _NORTH_EAST),
    )
    strongest = np.full(centre.shape, -1, np.float32)
    which = np.zeros(centre.shape, np.uint8)
    for first, second, gradient, name in pairs:
        np.abs(gradient, out=gradient)
        nearer = np.abs(second - centre) < np.abs(first - centre)
        stronger = gradient > strongest
        np.copyto(which, nearer.astype(np.uint8) + np.uint8(name), where=stronger)
        np.copyto(strongest, gradient, where=stronger)
    return which


def _part_means(power: Plane, count: Plane | None) -> list[list[Plane]]:
    """Means of the nine 3 x 3 parts of each window, three rows of three arrays (h, w)."""
    total = _three_by_three(power)
    height, width = power.shape[0] - 2 * HALO, power.shape[1] - 2 * HALO

    def part(sums: Plane, row: int, col: int) -> Plane:
        return sums[row : row + height, col : col + width]

    if count is None:
        total /= np.float32(9)
        return [[part(total, row, col) for col in (0, 2, 4)] for row in (0, 2, 4)]
    number = _three_by_three(count)
    means = np.divide(total, number, out=np.zeros_like(total), where=number > 0)
    centre = part(means, 2, 2)
    # A part without data has the mean of the centre: it shows no edge.
    return [
        [np.where(part(number, row, col) > 0, part(means, row, col), centre) for col in (0, 2, 4)]
        for row in (0, 2, 4)
    ]


def _three_by_three(values: Plane) -> Plane:
    """Sums of 3 x 3 pixels, (h - 2, w - 2)."""
    rows = values[:-2] + values[1:-1] + values[2:]
    sums: Plane = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return sums


def _chosen(values: Plane, which: NDArray[np.uint8]) -> Plane:
    """Sum over the 28 pixels of the half window that ``which`` names, (h, w)."""
    height, width = which.shape
    # Sums of 1 to 7 pixels of a row, from the left and from the right end of the window.
    shifted = [values[:, i : i + width] for i in range(_SIDE)]
    left = list(itertools.accumulate(shifted))
    right = list(itertools.accumulate(shifted[::-1]))
    # For each half, its first row in the window, and the sum of each of its rows from there on.
    halves = {
        _WEST: (0, [left[HALO]] * _SIDE),
        _EAST: (0, [right[HALO]] * _SIDE),
        _NORTH: (0, [left[-1]] * (HALO + 1)),
        _SOUTH: (HALO, [left[-1]] * (HALO + 1)),
        _NORTH_WEST: (0, left[::-1]),
        _SOUTH_EAST: (0, right),
        _NORTH_EAST: (0, right[::-1]),
        _SOUTH_WEST: (0, left),
    }
    chosen = np.empty((height, width), np.float32)
    total = np.empty_like(chosen)
    for name, (first, rows) in halves.items():
        here = which == name
        if not here.any():
            continue
        total[:] = 0
        for row, run in enumerate(rows, first):
            total += run[row : row + height]
        np.copyto(chosen, total, where=here)
    return chosen


def _grown(window: Window, pixels: int) -> Window:
    return Window(
        window.row - pixels,
        window.col - pixels,
        window.height + 2 * pixels,
        window.width + 2 * pixels,
    )


def _with_halo(part: slice) -> slice:
    """The part of a padded array that a part of the result depends on."""
    return slice(part.start, part.stop + 2 * HALO)


def _blocks(window: Window) -> list[tuple[slice, slice]]:
    """Rows and columns of the blocks of a window, counted from its corner."""
    height, width = _BLOCK
    return [
        (slice(row, min(row + height, window.height)), slice(col, min(col + width, window.width)))
        for row in range(0, window.height, height)
        for col in range(0, window.width, width)
    ]
