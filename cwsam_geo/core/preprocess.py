"""Preprocessing: turns a scene's raw bands into a model's three channels (``PreprocessSpec``)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.errors import ModelError

Units = Literal["db", "power", "amplitude"]
"""Units of a scene's values: decibels of power, power (intensity), or amplitude."""

Scaling = Literal["db", "linear", "amplitude8"]
"""Values that a model takes: decibels, linear power, or 8-bit amplitude divided by 255."""

UNITS: tuple[Units, ...] = get_args(Units)

SCALINGS: tuple[Scaling, ...] = get_args(Scaling)

# Of RGB in 0 to 1, as the pretrained networks of torchvision and Segment Anything use them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)

IMAGENET_STD = (0.229, 0.224, 0.225)

TINY_POWER = 1e-10
"""Power that replaces zero and negative power before the logarithm: -100 dB."""

_CHANNEL = re.compile(r"(\w+)(?:-(\w+))?")


@dataclass(frozen=True)
class SceneBands:
    """Units, order and stretch of a scene's bands, as a model needs them.

    Attributes:
        positions: For each band of the model, its index in the scene's array, or None if the
            scene lacks it.
        stretch: Amplitudes that become 0 and 255, for models of 8-bit amplitude; None if the scene
            is 8-bit itself.
    """

    units: Units
    positions: tuple[int | None, ...]
    stretch: tuple[float, float] | None = None


@dataclass(frozen=True)
class PreprocessSpec:
    """Input of a model: bands, scaling, statistics and tile size.

    Attributes:
        bands: Names of the bands, 1 to 4 of them, such as ``("VV", "VH")``.
        channels: Three channels, each a band or the difference of two: ``("VV", "VH", "VV-VH")``.
        scaling: ``db``, ``linear`` (power) or ``amplitude8`` (8-bit amplitude / 255).
        clip: Lowest and highest scaled value of each band.
        mean: Mean of each channel, in scaled values.
        std: Standard deviation of each channel, in scaled values.
        tile_size: Side of a tile in pixels.
        fill: Scaled value that replaces each band if the scene lacks it; None for a band that the
            scene must have. A scene must have at least one of the bands in any case.
        quantiles: 5, 50 and 95 % quantile of each band's scaled values in the training data, or
            None if they are unknown. A scene far from them gets a warning.

    Raises:
        ModelError: A value is not possible, or the attributes do not fit together.
    """

    bands: tuple[str, ...]
    channels: tuple[str, str, str]
    scaling: Scaling
    clip: tuple[tuple[float, float], ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tile_size: int
    fill: tuple[float | None, ...]
    quantiles: tuple[tuple[float, float, float], ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.bands)
        pairs, triples = self.clip, (self.mean, self.std, *(self.quantiles or ()))
        # First that all are finite numbers: the comparisons below rely on it.
        values = [v for group in (*pairs, *triples) for v in group]
        values += [f for f in self.fill if f is not None]
        if not all(isinstance(v, Real) and math.isfinite(v) for v in values):
            raise ModelError("preprocessing: clip, mean, std, fill, quantiles: finite numbers only")
        problems = [
            (not 1 <= n <= 4 or len(set(self.bands)) != n, f"1 to 4 different bands: {self.bands}"),
            (self.scaling not in SCALINGS, f"scaling {self.scaling!r} is none of {SCALINGS}"),
            (len(self.clip) != n or len(self.fill) != n, "one clip and one fill per band"),
            (any(not lo < hi for lo, hi in self.clip), f"clip {self.clip}: low must be below high"),
            (len(self.channels) != 3, f"three channels: {self.channels}"),
            (len(self.mean) != 3 or len(self.std) != 3, "three means and deviations"),
            (any(not s > 0 for s in self.std), f"deviations must be positive: {self.std}"),
            (self.tile_size < 1, f"tile size {self.tile_size}"),
            (
                self.quantiles is not None and [len(q) for q in self.quantiles] != n * [3],
                "quantiles: one triple per band",
            ),
        ]
        for wrong, message in problems:
            if wrong:
                raise ModelError(f"preprocessing: {message}")
        # Computed now, so that a malformed channel is refused here.
        _ = self.terms

    @cached_property
    def terms(self) -> tuple[tuple[int, int | None], ...]:
        """For each channel, the index of its band in ``bands``, and of the band to subtract.

        Raises:
            ModelError: A channel is neither a band nor a difference of two.
        """
        terms = []
        for channel in self.channels:
            match = _CHANNEL.fullmatch(channel)
            names = [g for g in match.groups() if g] if match else []
            if not names or any(name not in self.bands for name in names):
                raise ModelError(
                    f"preprocessing: channel {channel!r} is not made of bands {self.bands}"
                )
            second = self.bands.index(names[1]) if len(names) == 2 else None
            terms.append((self.bands.index(names[0]), second))
        return tuple(terms)

    @property
    def optional_bands(self) -> tuple[str, ...]:
        """Names of the bands that a scene may lack."""
        pairs = zip(self.bands, self.fill, strict=True)
        return tuple(name for name, fill in pairs if fill is not None)

    def bands_of(self, scene: SceneBands) -> tuple[str, ...]:
        """Names of the model's bands that a scene has."""
        pairs = zip(self.bands, scene.positions, strict=True)
        return tuple(name for name, position in pairs if position is not None)

    def scaled(self, values: NDArray[np.float32], scene: SceneBands) -> NDArray[np.float32]:
        """Converts raw values to the model's scaling, without clipping.

        Args:
            values: Raw values, any shape, float32; NaN stays NaN.
            scene: Units and stretch of the values.

        Returns:
            The scaled values, same shape, float32.
        """
        if self.scaling == "amplitude8":
            amplitude = to_amplitude(values, scene.units)
            low, high = scene.stretch or (0.0, 255.0)
            return (amplitude - np.float32(low)) / np.float32(high - low)
        return to_db(values, scene.units) if self.scaling == "db" else to_power(values, scene.units)

    def apply(
        self,
        values: NDArray[np.float32],
        valid: NDArray[np.bool_],
        scene: SceneBands,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Computes the model's input: scales, clips, combines and normalises the bands.

        Args:
            values: The scene's bands, shape (N, H, W), float32; any values where not valid.
            valid: True where there is data, shape (H, W).
            scene: Units, order and stretch of the N bands.
            out: Array for the result, shape (3, H, W), or None for a new one.

        Returns:
            Normalised channels, shape (3, H, W), float32; 0 (the mean) where not valid.
        """
        complete = bool(valid.all())
        if not complete:
            # 1 can be converted to any units without a warning; invalid pixels become 0 at the end.
            values = np.where(valid, values, np.float32(1))
        bands: list[NDArray[np.float32] | np.float32] = []
        for position, (low, high), fill in zip(scene.positions, self.clip, self.fill, strict=True):
            if position is None:
                # A scene without a required band does not get here. NaN would show it.
                bands.append(np.float32(math.nan if fill is None else fill))
            else:
                bands.append(self.scaled(values[position], scene).clip(low, high))
        out = np.empty((3, *valid.shape), np.float32) if out is None else out
        for i, (first, second) in enumerate(self.terms):
            channel = bands[first] if second is None else bands[first] - bands[second]
            np.subtract(channel, np.float32(self.mean[i]), out=out[i])
            out[i] /= np.float32(self.std[i])
        if not complete:
            out[:, ~valid] = 0
        return out

    def to_dict(self) -> dict[str, Any]:
        """The attributes as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PreprocessSpec:
        """Reads the result of ``to_dict``.

        Raises:
            ModelError: A field is missing, unknown or malformed.
        """
        expected = {f.name for f in fields(cls)}
        if not isinstance(data, Mapping) or set(data) != expected:
            names = set(data) if isinstance(data, Mapping) else set()
            raise ModelError(
                f"preprocessing: unexpected or missing fields {sorted(names ^ expected)}"
            )
        try:
            return cls(**{k: _tuples(v) for k, v in data.items()})
        except (TypeError, ValueError) as error:
            raise ModelError(f"preprocessing: {error}") from None


class ImageStack:
    """A ``TileStack`` that preprocesses at most ``size`` tiles with numpy as they are added."""

    def __init__(self, spec: PreprocessSpec, scene: SceneBands, size: int) -> None:
        self._spec, self._scene = spec, scene
        self._images = np.empty((size, 3, spec.tile_size, spec.tile_size), np.float32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Preprocesses a tile: raw values, shape (N, T, T), and valid, shape (T, T)."""
        self._spec.apply(values, valid, self._scene, self._images[self._count])
        self._count += 1

    def part(self, start: int, count: int) -> NDArray[np.float32]:
        """Preprocessed images, shape (n, 3, T, T), as a view."""
        return self._images[start : min(start + count, self._count)]


def amplitude8_spec(tile_size: int) -> PreprocessSpec:
    """The preprocessing of CWSAM's authors (arXiv 2401.02326), for tiles of ``tile_size`` pixels.

    All three channels are one band of 8-bit amplitude, normalised with ImageNet's statistics.
    """
    return PreprocessSpec(
        bands=("gray",),
        channels=("gray", "gray", "gray"),
        scaling="amplitude8",
        clip=((0.0, 1.0),),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        tile_size=tile_size,
        fill=(None,),
    )


def to_power(values: NDArray[np.float32], units: Units) -> NDArray[np.float32]:
    """Converts values to power (intensity)."""
    if units == "db":
        power: NDArray[np.float32] = np.power(np.float32(10), values / np.float32(10))
        return power
    return np.square(values) if units == "amplitude" else values


def to_amplitude(values: NDArray[np.float32], units: Units) -> NDArray[np.float32]:
    """Converts values to amplitude; negative power counts as 0."""
    if units == "amplitude":
        return values
    return np.sqrt(np.maximum(to_power(values, units), np.float32(0)))


def to_db(values: NDArray[np.float32], units: Units) -> NDArray[np.float32]:
    """Converts values to decibels of power; zero and negative power become -100 dB."""
    if units == "db":
        return values
    # Amplitude need not be squared: 20 log10(amplitude) equals 10 log10(power).
    factor = np.float32(20 if units == "amplitude" else 10)
    least = np.float32(math.sqrt(TINY_POWER) if units == "amplitude" else TINY_POWER)
    decibels: NDArray[np.float32] = factor * np.log10(np.maximum(values, least))
    return decibels


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value
