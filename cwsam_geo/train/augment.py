"""Variations of a tile that suit radar: flips, quarter turns, speckle, gain, mosaics."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.preprocess import Units
from cwsam_geo.train.config import Augmentation

LOOKS = (4.0, 64.0)
"""Range of the equivalent number of looks of the speckle that is laid over a tile."""

GAIN_DB = 1.5
"""Largest change of a band's level, either way."""

SPECKLED = 0.5
"""Share of the tiles that get speckle."""

MOSAIC_CUTS = 2
"""How often a part of a mosaic is replaced by another tile's."""

Image = NDArray[np.float32]


def vary(
    image: Image,
    others: tuple[NDArray[Any], ...],
    units: Units,
    kinds: Collection[Augmentation],
    rng: np.random.Generator,
) -> tuple[Image, tuple[NDArray[Any], ...]]:
    """A variation of a tile.

    Args:
        image: Raw values, shape (N, T, T), in ``units``.
        others: Arrays (T, T) that turn along, such as labels.
        units: What the values are.
        kinds: Which variations there are.
        rng: Decides.

    Returns:
        The image and the others, of the same shapes.
    """
    # All is drawn, wanted or not, so that one kind more or less does not change the others.
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
        # Power of fully developed speckle: gamma-distributed about 1.
        noise = rng.standard_gamma(looks, turned.shape, np.float32) / np.float32(looks)
        factor = factor * np.maximum(noise, np.float32(1e-6))
    return times_power(turned, factor, units), rest


def replace_part(
    target: Sequence[NDArray[Any]], source: Sequence[NDArray[Any]], rng: np.random.Generator
) -> None:
    """Writes one tile over all that lies on one side of a cut through another.

    The cut runs along a row or a column in the middle half. Repeated, it gives mosaics as in
    CutMix (Yun et al. 2019, arXiv 1905.04899): each pixel keeps its own label, but a tile no longer
    tells by its texture or its low frequencies which scene it is from.

    Args:
        target: Arrays (..., T, T), such as image and labels, which are changed.
        source: Arrays of the same shapes.
        rng: Decides.
    """
    size = target[0].shape[-1]
    cut, down = int(rng.integers(size // 4, 3 * size // 4 + 1)), bool(rng.integers(2))
    part = (..., slice(cut, None), slice(None)) if down else (..., slice(cut, None))
    for to, of in zip(target, source, strict=True):
        to[part] = of[part]


def times_power(values: Image, factor: NDArray[np.float32], units: Units) -> Image:
    """Values whose power is multiplied by a factor above 0."""
    if units == "db":
        return values + np.log10(factor).astype(np.float32) * np.float32(10)
    scale: Image = np.sqrt(factor) if units == "amplitude" else factor
    scaled: Image = np.multiply(values, scale)
    return scaled
