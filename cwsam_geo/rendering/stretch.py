"""Stretches backscatter to 8 bits: grey for one band, false colour for two polarisations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.rendering.scene_view import PAIRS, SceneView
from cwsam_geo.scene.bands import NO_POWER_DB

_PERCENT = (1.0, 50.0, 99.0)
"""Quantiles that become black, the median, and white: ships and roofs lie outside."""

_LEAST_RATIO = 12.0
"""Narrowest range of a ratio of polarisations in dB: speckle alone gives a ratio no colours."""

_TAIL = 15.0
"""Most dB between the median and an end of a range: what is left of noise after its removal
reaches 20 dB further down in cross-polarisation, and would take the contrast from the land."""

_LEAST_RANGE = 1e-6
"""Narrowest range of a channel, so that a constant scene can be stretched."""

_NO_POWER = np.float32(NO_POWER_DB)

_COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class Channel:
    """A channel of a picture: a band, or the difference of two, and the range that is shown.

    Attributes:
        name: What the channel shows, for captions.
        band: Index of the band.
        minus: Index of the band to subtract, or None.
        low: Value that becomes 0.
        high: Value that becomes 255.
    """

    name: str
    band: int
    minus: int | None
    low: float
    high: float

    def take(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The channel's values, shape (h, w), of bands (N, h, w)."""
        band: NDArray[np.float32] = values[self.band]
        return band if self.minus is None else band - values[self.minus]


@dataclass(frozen=True)
class Stretch:
    """How the bands of a scene become a picture: the same for every part of the scene.

    Attributes:
        channels: One channel for grey, three for red, green and blue.
        unit: Unit of the channels, for captions; empty if unknown.
    """

    channels: tuple[Channel, ...]
    unit: str

    def apply(self, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The picture of some pixels.

        Args:
            values: Bands as in ``SceneView.values``, shape (N, h, w).
            valid: Where there is data, shape (h, w).

        Returns:
            Red, green and blue, shape (h, w, 3), uint8; 0 where not valid.
        """
        out = np.zeros((*valid.shape, 3), np.uint8)
        for i, channel in enumerate(self.channels):
            share = (channel.take(values) - np.float32(channel.low)) / np.float32(
                channel.high - channel.low
            )
            level = np.rint(255 * np.clip(np.nan_to_num(share), 0, 1)).astype(np.uint8)
            out[..., slice(i, i + 1) if len(self.channels) == 3 else slice(None)] = np.where(
                valid, level, 0
            )[..., np.newaxis]
        return out

    def describe(self) -> list[str]:
        """A phrase for each channel, such as ``red: VV, -18 to -4 dB``."""
        phrases = []
        for i, c in enumerate(self.channels):
            colour = f"{_COLOURS[i]}: " if len(self.channels) == 3 else ""
            phrases.append(f"{colour}{c.name}, {c.low:.3g} to {c.high:.3g} {self.unit}".rstrip())
        return phrases


def fit_stretch(view: SceneView, color: bool | None = None) -> Stretch:
    """Finds the range of each channel from the values of a view.

    Co- and cross-polarisation become false colour: red and green are the two, blue is their ratio,
    so that water is dark blue, vegetation green and buildings are yellow or white.

    Args:
        view: The scene.
        color: False for grey; True or None for false colour if there are two polarisations, and
            for red, green and blue if there are three bands.
    """
    names = [name or f"band {i}" for i, name in enumerate(view.names, start=1)]
    count = len(names)
    if color is not False and count == 3:
        terms: list[tuple[str, int, int | None]] = [(n, i, None) for i, n in enumerate(names)]
    elif color is not False and count == 2 and (tuple(view.names) in PAIRS or _flipped(view.names)):
        co, cross = (0, 1) if tuple(view.names) in PAIRS else (1, 0)
        ratio = f"{names[co]}/{names[cross]}" if view.units else f"{names[co]} - {names[cross]}"
        terms = [(names[co], co, None), (names[cross], cross, None), (ratio, co, cross)]
    else:
        terms = [(names[0], 0, None)]
    channels = []
    for name, band, minus in terms:
        channel = Channel(name, band, minus, 0.0, 1.0)
        low, high = _range(channel.take(view.values)[view.valid], view.units is not None)
        if minus is not None and view.units and high - low < _LEAST_RATIO:
            low, high = ((low + high + sign * _LEAST_RATIO) / 2 for sign in (-1, 1))
        channels.append(Channel(name, band, minus, low, high))
    return Stretch(tuple(channels), "dB" if view.units else "")


def _flipped(names: Sequence[str | None]) -> bool:
    return tuple(reversed(names)) in PAIRS


def _range(values: NDArray[np.float32], decibels: bool) -> tuple[float, float]:
    # Pixels without power, -100 dB, are black whatever the range is.
    values = values[np.isfinite(values) & (values != _NO_POWER)]
    if not values.size:
        return 0.0, 1.0
    low, middle, high = (float(q) for q in np.percentile(values, _PERCENT))
    if decibels:
        low, high = max(low, middle - _TAIL), min(high, middle + _TAIL)
    return (low, high) if high - low > _LEAST_RANGE * max(1.0, abs(low)) else (low - 1, low + 1)
