"""Augmentation of SAR tiles: flips, quarter turns, speckle, gain and mosaics."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.preprocess import Units
from cwsam_geo.finetuning.region.config import Augmentation

LOOKS = (4.0, 64.0)
"""Range of the equivalent number of looks of the added speckle, drawn log-uniformly.

The relative standard deviation of the power is 1 / sqrt(looks): 50 % down to 12.5 %.
"""

GAIN_DB = 1.5
"""Largest change of a band's level in decibels, up or down; every band has its own."""

SPECKLED = 0.5
"""Share of the tiles that get added speckle."""

MOSAIC_CUTS = 2
"""Number of cuts through a mosaic; each replaces one side of the cut by another tile."""

Image = NDArray[np.float32]


def vary(
    image: Image,
    others: tuple[NDArray[Any], ...],
    units: Units,
    kinds: Collection[Augmentation],
    rng: np.random.Generator,
) -> tuple[Image, tuple[NDArray[Any], ...]]:
    """Varies a tile at random.

    Args:
        image: Raw values, shape (N, T, T), in ``units``.
        others: Arrays (T, T) that are flipped and rotated with the image, such as labels.
        units: Units of the image's values.
        kinds: The augmentations to apply; ``mosaic`` is ignored here.
        rng: Source of the random draws.

    Returns:
        The varied image and the other arrays, with the same shapes as before.
    """
    # Draw the numbers for every kind, even if it is off: switching one kind on or off must not
    # change the draws of the others.
    flip, turns = bool(rng.integers(2)), int(rng.integers(4))
    gains = rng.uniform(-GAIN_DB, GAIN_DB, len(image))
    speckled = rng.random() < SPECKLED
    looks = math.exp(rng.uniform(*np.log(LOOKS)))

    def turn(plane: NDArray[Any]) -> NDArray[Any]:
        plane = plane[..., ::-1] if "flip" in kinds and flip else plane
        return np.rot90(plane, turns, (-2, -1)) if "rot90" in kinds else plane

    turned, rest = turn(image), tuple(turn(other) for other in others)
    factor = np.ones((len(image), 1, 1), np.float32)
    if "gain" in kinds:
        factor = np.power(10, gains[:, None, None] / 10).astype(np.float32)
    if "speckle" in kinds and speckled:
        # The power of fully developed speckle is gamma-distributed with a mean of 1. It is kept
        # above 0, so that it has a logarithm.
        noise = rng.standard_gamma(looks, turned.shape, np.float32) / np.float32(looks)
        factor = factor * np.maximum(noise, np.float32(1e-6))
    return times_power(turned, factor, units), rest


def replace_part(
    target: Sequence[NDArray[Any]], source: Sequence[NDArray[Any]], rng: np.random.Generator
) -> None:
    """Replaces everything on one side of a cut through a tile by another tile.

    The cut runs along a row or a column in the middle half of the tile. Several cuts make a mosaic
    as in CutMix (Yun et al. 2019, arXiv 1905.04899): each pixel keeps its own label, but the
    texture and the low frequencies of the tile no longer reveal which scene it is from.

    Args:
        target: Arrays (..., T, T), such as image and labels, which are changed in place.
        source: Arrays of the same shapes.
        rng: Source of the random draws.
    """
    size = target[0].shape[-1]
    cut, down = int(rng.integers(size // 4, 3 * size // 4 + 1)), bool(rng.integers(2))
    part = (..., slice(cut, None), slice(None)) if down else (..., slice(cut, None))
    for to_array, from_array in zip(target, source, strict=True):
        to_array[part] = from_array[part]


def times_power(values: Image, factor: NDArray[np.float32], units: Units) -> Image:
    """Multiplies the power of values by a factor above 0; the result has the same units."""
    if units == "db":
        return values + np.log10(factor).astype(np.float32) * np.float32(10)
    scale: Image = np.sqrt(factor) if units == "amplitude" else factor
    scaled: Image = np.multiply(values, scale)
    return scaled
