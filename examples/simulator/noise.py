"""Noise that is a function of the pixel's position: any window can be made alone.

Every random number is a hash of (seed, stream, row, column). Smooth fields are octaves of hashed
lattices, interpolated with cubic B-splines; the interpolation is linear in the lattice, so a
whole stack of octaves is two matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Words = NDArray[np.uint32]
Ints = NDArray[np.int64]

_TABLE_SIZE = 1 << 16
# A B-spline average of independent uniform values in -1..1: the factor that makes its variance 1
# (sum of squared weights, over the cell's mean, is 0.479 an axis).
_UNIT = math.sqrt(3) / 0.479


def mix(x: Words) -> Words:
    """Scrambles 32-bit words in place: xor-shifts and odd multipliers (C. Wellons' lowbias32)."""
    t = np.empty_like(x)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, None)):
        np.right_shift(x, np.uint32(shift), out=t)
        np.bitwise_xor(x, t, out=x)
        if factor is not None:
            np.multiply(x, np.uint32(factor), out=x)
    return x


def salt(seed: int, stream: int) -> np.uint32:
    """A 32-bit word for one stream of one seed."""
    wide = np.uint64((seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) % 2**64)
    wide ^= wide >> np.uint64(29)
    return np.uint32((int(wide) * 0xBF58476D1CE4E5B9 % 2**64) >> 32)


def hashed(word: np.uint32, rows: Ints, cols: Ints) -> Words:
    """Random words for integer positions; ``rows`` and ``cols`` broadcast.

    Args:
        word: The stream, from ``salt``.
        rows: Row numbers, any shape, may be negative.
        cols: Column numbers.

    Returns:
        Words, the broadcast shape, uint32.
    """
    across = mix(cols.astype(np.uint32) ^ word)
    down = mix(rows.astype(np.uint32) * np.uint32(0x9E3779B1) + word)
    return mix(down + across)


def unit(words: Words) -> Floats:
    """Words as numbers in 0..1."""
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


@lru_cache(maxsize=512)
def _spline(cell: int, start: int, length: int) -> Floats:
    """Cubic B-spline weights (length, nodes) of pixels ``start`` on, first node ``start // cell``.

    ``start`` is the first pixel's place in its cell: the weights repeat from cell to cell.
    """
    place = (start + np.arange(length) + 0.5) / cell
    node = np.floor(place).astype(int)
    f = place - node
    weights = np.zeros((length, node[-1] + 4), np.float32)
    terms = (
        (1 - f) ** 3 / 6,
        (3 * f**3 - 6 * f**2 + 4) / 6,
        (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6,
        f**3 / 6,
    )
    for shift, term in enumerate(terms):
        weights[np.arange(length), node + shift] = term
    return weights


class SmoothFields:
    """Several smooth random fields over the plane, each a sum of octaves.

    Args:
        seed: The scene's seed.
        stream: Which fields of that seed.
        cells: Lattice spacings in pixels, one an octave.
        amplitudes: Standard deviation of each octave in each field, (fields, octaves).
    """

    def __init__(
        self, seed: int, stream: int, cells: Sequence[int], amplitudes: Sequence[Sequence[float]]
    ) -> None:
        self._cells = tuple(cells)
        self._amplitudes = np.array(amplitudes, np.float32) * np.float32(_UNIT)
        count = len(self._amplitudes)
        self._words = np.array(
            [
                [salt(seed, (stream * 64 + f) * 64 + o) for o in range(len(cells))]
                for f in range(count)
            ],
            np.uint32,
        )

    def __call__(self, row: int, col: int, height: int, width: int) -> Floats:
        """The fields in a window: (fields, height, width), mean 0."""
        downs, parts = [], []
        for o, cell in enumerate(self._cells):
            down = _spline(cell, row % cell, height)
            across = _spline(cell, col % cell, width)
            rows = np.arange(down.shape[1]) + (row // cell - 1)
            cols = np.arange(across.shape[1]) + (col // cell - 1)
            lattice = self._lattice(o, rows, cols)
            downs.append(down)
            parts.append(lattice @ across.T)
        stacked: Floats = np.concatenate(downs, axis=1) @ np.concatenate(parts, axis=1)
        return stacked

    def _lattice(self, octave: int, rows: Ints, cols: Ints) -> Floats:
        words = self._words[:, octave, None, None]
        across = mix(cols.astype(np.uint32) ^ words)
        down = mix(rows.astype(np.uint32)[:, None] * np.uint32(0x9E3779B1) + words)
        values = unit(mix(down + across)) * np.float32(2) - np.float32(1)
        return values * self._amplitudes[:, octave, None, None]


@lru_cache(maxsize=64)
def gamma_table(shape: float, size: int = _TABLE_SIZE) -> Floats:
    """Quantiles of the gamma distribution of mean 1, at ``size`` equally likely places.

    Args:
        shape: Its shape: the number of looks, or the order of a texture.
        size: Entries.

    Returns:
        Increasing quantiles, scaled so that their mean is exactly 1, (size,), float32.
    """
    probability = (np.arange(size) + 0.5) / size
    return _gamma_quantiles(shape, probability)


@lru_cache(maxsize=64)
def texture_table(order: float, size: int = 1024, reach: float = 4.0) -> Floats:
    """Gamma quantiles for a standard normal variable cut into ``size`` steps of -reach..reach.

    Looking a smooth Gaussian field up in it gives a correlated field whose values are gamma
    distributed: the texture of K-distributed clutter.
    """
    z = np.linspace(-reach, reach, size)
    probability = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z])
    quantiles = _gamma_quantiles(order, probability)
    weight = np.exp(-z * z / 2)
    mean = float((quantiles * weight).sum() / weight.sum())
    return quantiles / np.float32(mean)


def _gamma_quantiles(shape: float, probability: NDArray[np.float64]) -> Floats:
    # The density of t = log(x) is smooth for every shape, and its sum is the distribution.
    top = math.log(shape + 12 * math.sqrt(shape) + 40)
    bottom = math.log(1e-9) / min(shape, 1.0) - 2
    t = np.linspace(bottom, top, 200_000)
    cumulative = np.cumsum(np.exp(shape * t - np.exp(t) - math.lgamma(shape)))
    cumulative /= cumulative[-1]
    quantiles = np.exp(np.interp(probability, cumulative, t)) / shape
    if len(probability) > 4096:
        quantiles /= quantiles.mean()
    return quantiles.astype(np.float32)
