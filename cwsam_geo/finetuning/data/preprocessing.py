"""Derives a model's preprocessing (PreprocessSpec) from the scenes it is trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.core.preprocess import PreprocessSpec, SceneBands
from cwsam_geo.core.windows import row_windows, spread_windows
from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.finetuning.data.scene_files import SceneFile
from cwsam_geo.finetuning.region.config import InputOptions
from cwsam_geo.finetuning.split.roles import TRAIN, SceneRoles
from cwsam_geo.scene.sampling import sample_statistics
from cwsam_geo.scene.source import RasterSource, Source

# Clip of a band until its limits are measured: far outside all scaled values.
_OPEN = (-1e6, 1e6)
# Percentiles at which a band is clipped, and those that the model keeps to recognise odd scenes.
_CLIP_PERCENT = (0.5, 99.5)
_QUANTILES = (5.0, 50.0, 95.0)
# Least width of a clip in scaled values, for bands with a constant value.
_NARROWEST = 1e-6
# Pixels to measure: of all scenes together, about, and of each scene at least.
_VALUES = 2_000_000
_LEAST_VALUES = 2000
# Side in pixels, and greatest number, of the windows that are read of a scene.
_WINDOW = 256
_WINDOWS = 256
# The default channels of scenes with these polarisations among three or more bands.
_QUAD = ("HH", "HV", "VV")

_Raw = tuple[NDArray[np.float32], SceneBands]
"""Raw values of M pixels of a scene, shape (N, M), and what its N bands are."""


@dataclass(frozen=True)
class SpecScene:
    """A scene that contributes to the statistics.

    Attributes:
        file: How to open it.
        regions: Which of its pixels are for training.
    """

    file: SceneFile
    regions: SceneRoles


def empty_spec(options: InputOptions, first: RasterSource, tile_size: int) -> PreprocessSpec:
    """Chooses bands, channels and scaling. The statistics are placeholders.

    Args:
        options: The user's choices.
        first: The first training scene; it decides what the user leaves open.
        tile_size: Side of a tile in pixels.

    Returns:
        A spec for ``fitted_spec``, with unlimited clips, means of 0 and deviations of 1.

    Raises:
        UsageError: The options do not fit the scene, or the scene has more than four bands.
        ModelError: The spec is not valid, for instance if a channel names an unknown band.
    """
    names = options.bands or _names(first)
    if not 1 <= len(names) <= 4:
        raise UsageError(
            f"{first.label}: has {len(names)} bands, and a model takes 1 to 4: choose with `bands:`"
        )
    channels = options.channels or _channels(names)
    scaling = options.scaling or ("amplitude8" if _eight_bit(first) else "db")
    n = len(names)
    for values, what in (
        (options.channels, "channels"),
        (options.mean, "mean"),
        (options.std, "std"),
    ):
        if values is not None and len(values) != 3:
            raise UsageError(f"preprocess: {what}: three are needed, not {len(values)}")
    _check_bands(options, names, first.label)
    return PreprocessSpec(
        bands=tuple(names),
        channels=(channels[0], channels[1], channels[2]),
        scaling=scaling,
        clip=((0.0, 1.0) if scaling == "amplitude8" else _OPEN,) * n,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        tile_size=tile_size,
        # A number marks the band as optional; measured_spec replaces it by the band's mean.
        fill=tuple(0.0 if name in options.optional else None for name in names),
    )


def _check_bands(options: InputOptions, names: Sequence[str], label: str) -> None:
    listed = ", ".join(names)
    clip = options.clip
    if clip is not None and (len(clip) != len(names) or any(len(c) != 2 for c in clip)):
        raise UsageError(
            f"preprocess: clip: give [lowest, highest] for each band ({listed}), such as "
            f"[{', '.join(['[-40, 10]'] * len(names))}]"
        )
    if any(not -math.inf < low < high < math.inf for low, high in clip or ()):
        raise UsageError(f"preprocess: clip: {list(clip or ())}: lowest must be below highest")
    unknown = [name for name in options.optional if name not in names]
    if unknown:
        hint = "" if options.bands else f" of {label}; name all bands of the model with `bands:`"
        raise UsageError(
            f"preprocess: optional: {unknown[0]!r} is none of the bands {listed}{hint}"
        )
    if options.optional and len(names) == 1:
        raise UsageError(f"preprocess: optional: {names[0]} is the model's only band")


def fitted_spec(
    spec: PreprocessSpec, scenes: Sequence[SpecScene], options: InputOptions
) -> PreprocessSpec:
    """Completes a spec with clips, means, deviations and quantiles of the training pixels.

    Bands are clipped at their 0.5 and 99.5 % quantiles, so that ships and roofs do not stretch the
    range (8-bit amplitude is clipped at 0 and 255). An optional band is filled with its mean in
    scenes without the band.

    Args:
        spec: The result of ``empty_spec``, or the preprocessing of a trained model.
        scenes: The training scenes. Each contributes about the same number of pixels.
        options: Clips, means and deviations of the user replace the measured ones.

    Raises:
        SceneError: No training pixel holds data.
        UsageError: An optional band is in none of the training scenes.
    """
    # Raw values of each scene, (N, M).
    quota = max(_LEAST_VALUES, _VALUES // max(len(scenes), 1))
    samples = [(_sample(scene, quota), scene.file.bands) for scene in scenes]
    samples = [(raw, bands) for raw, bands in samples if raw.shape[1]]
    if not samples:
        raise SceneError("no training pixel holds data; check the scenes' nodata and the split")
    # Scaled values of each band, (M,) in dB, power or amplitude; M differs between bands.
    scaled = [_scaled(spec, samples, band, options) for band in range(len(spec.bands))]
    clip = spec.clip
    if options.clip is not None:
        clip = tuple((c[0], c[1]) for c in options.clip)
    elif spec.scaling != "amplitude8":
        ends = [np.percentile(row, _CLIP_PERCENT).tolist() for row in scaled]
        clip = tuple((low, max(high, low + _NARROWEST)) for low, high in ends)
    means = [float(row.clip(*ends).mean()) for row, ends in zip(scaled, clip, strict=True)]
    fill = tuple(
        mean if name in options.optional else old
        for name, mean, old in zip(spec.bands, means, spec.fill, strict=True)
    )
    # Means and deviations are those of the clipped channels, so the clips must be set before.
    filled = replace(spec, clip=clip, fill=fill)
    channels = _channel_values(filled, samples)
    std = channels.std(1)
    old_quantiles = spec.quantiles or (None,) * len(scaled)
    # A single value means that no scene has the band (see _scaled). A trained model then keeps its
    # quantiles of the band.
    quantiles = [
        old if old and len(row) == 1 else np.percentile(row, _QUANTILES).tolist()
        for row, old in zip(scaled, old_quantiles, strict=True)
    ]
    return replace(
        filled,
        mean=_triple(options.mean or channels.mean(1)),
        std=_triple(options.std or np.where(std > 0, std, 1.0)),
        quantiles=tuple((q[0], q[1], q[2]) for q in quantiles),
    )


def _scaled(
    spec: PreprocessSpec, samples: Sequence[_Raw], band: int, options: InputOptions
) -> NDArray[np.float32]:
    """Scaled values of a band of the model, from the scenes that have the band, shape (M,)."""
    rows = [
        spec.scaled(raw[position], bands)
        for raw, bands in samples
        if (position := bands.positions[band]) is not None
    ]
    if rows:
        return np.concatenate(rows)
    if spec.bands[band] in options.optional:
        raise UsageError(f"preprocess: optional: no training scene has {spec.bands[band]}")
    # A trained model has a fill value for the band.
    return np.array([spec.fill[band]], np.float32)


def _channel_values(spec: PreprocessSpec, samples: Sequence[_Raw]) -> NDArray[np.float64]:
    """The model's channels, shape (3, M), from the scenes with all bands if there are any."""
    whole = [sample for sample in samples if None not in sample[1].positions]
    # spec.apply takes images: the M pixels are an image of one row, (N, 1, M) to (3, 1, M).
    parts = [
        spec.apply(raw[:, np.newaxis], np.ones((1, raw.shape[1]), np.bool_), bands)[:, 0]
        for raw, bands in whole or samples
    ]
    return np.concatenate(parts, axis=1, dtype=np.float64)


def _sample(scene: SpecScene, quota: int) -> NDArray[np.float32]:
    """Raw values of training pixels all over the scene, shape (N, M), M about ``quota``."""
    grid = scene.file.grid
    unit = min(_WINDOW, grid.height), min(_WINDOW, grid.width)
    spread = spread_windows(grid, unit, max(1, min(_WINDOWS, 8 * quota // (unit[0] * unit[1]))))
    with scene.file.open() as source:
        values = _values(source, scene.regions, spread)
        # Where training pixels are rare the spread windows may miss them: read the whole scene.
        if values.shape[1] < min(quota, _LEAST_VALUES):
            values = _values(source, scene.regions, row_windows(grid, 1 << 20))
    return values[:, :: max(1, values.shape[1] // quota)]


def _values(source: Source, regions: SceneRoles, windows: Iterable[Window]) -> NDArray[np.float32]:
    """Raw values of the training pixels of some windows, shape (N, M), thinned evenly."""
    parts, size, step = [], 0, 1
    for window in windows:
        used = regions.of(window) == TRAIN
        if not used.any():
            continue
        values, valid = source.read(window)
        parts.append(values[:, valid & used][:, ::step])
        size += parts[-1].shape[1]
        # Bound the memory: drop every second value, and from here on read only every step-th.
        while size > 2 * _VALUES:
            step *= 2
            parts = [p[:, ::2] for p in parts]
            size = sum(p.shape[1] for p in parts)
    return np.concatenate(parts or [np.zeros((source.grid.count, 0), np.float32)], axis=1)


def _names(source: RasterSource) -> tuple[str, ...]:
    """The file's band names; made up where the file does not name every band differently."""
    names = [n for n in source.names if n]
    if len(names) == len(source.names) and len(set(names)) == len(names):
        return tuple(names)
    if len(source.names) == 1:
        return ("gray",)
    return tuple(f"B{i}" for i in range(1, len(source.names) + 1))


def _channels(names: Sequence[str]) -> tuple[str, ...]:
    """The default channels: three bands, or bands and their difference (a ratio in dB)."""
    if len(names) == 1:
        return (names[0],) * 3
    if len(names) == 2:
        return names[0], names[1], f"{names[0]}-{names[1]}"
    if set(_QUAD) <= set(names):
        return _QUAD
    return tuple(names[:3])


def _eight_bit(source: RasterSource) -> bool:
    return source.grid.dtype == "uint8" and sample_statistics(source).eight_bit


def _triple(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float, float]:
    first, second, third = (float(v) for v in values)
    return first, second, third
