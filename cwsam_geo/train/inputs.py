"""What a model shall take, from the scenes it is trained on: PreprocessSpec."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.grid import Window
from cwsam_geo.io.sample import row_windows, sample_statistics, spread_windows
from cwsam_geo.io.source import RasterSource, Source
from cwsam_geo.preprocess import PreprocessSpec, SceneBands
from cwsam_geo.train.config import InputOptions
from cwsam_geo.train.regions import TRAIN, SceneRegions
from cwsam_geo.train.scene_files import SceneFile

_OPEN = (-1e6, 1e6)
_CLIP_PERCENT = (0.5, 99.5)
_QUANTILES = (5.0, 50.0, 95.0)
_NARROWEST = 1e-6
_VALUES = 2_000_000
_LEAST_VALUES = 2000
_WINDOW = 256
_WINDOWS = 256
_QUAD = ("HH", "HV", "VV")

_Raw = tuple[NDArray[np.float32], SceneBands]
"""Raw values of some pixels of a scene, shape (N, M), and what its bands are."""


@dataclass(frozen=True)
class SpecScene:
    """A scene to take statistics of.

    Attributes:
        file: How to open it.
        regions: Which of its pixels are for training.
    """

    file: SceneFile
    regions: SceneRegions


def open_spec(options: InputOptions, first: RasterSource, tile_size: int) -> PreprocessSpec:
    """Bands, channels and scaling; statistics are still open.

    Args:
        options: What the user says.
        first: The first training scene, which decides the rest.
        tile_size: Side of a tile in pixels.

    Raises:
        UsageError: What the user says does not fit the scene, or it has more than four bands.
        ModelError: The parts do not fit together.
    """
    names = options.bands or _names(first)
    if not 1 <= len(names) <= 4:
        raise UsageError(
            f"{first.label}: has {len(names)} bands, and a model takes 1 to 4: choose with `bands:`"
        )
    channels = options.channels or _channels(names)
    scaling = options.scaling or ("amplitude8" if _eight_bit(first) else "db")
    n = len(names)
    for given, what in (
        (options.channels, "channels"),
        (options.mean, "mean"),
        (options.std, "std"),
    ):
        if given is not None and len(given) != 3:
            raise UsageError(f"preprocess: {what}: three are needed, not {len(given)}")
    _check_bands(options, names, first.label)
    return PreprocessSpec(
        bands=tuple(names),
        channels=(channels[0], channels[1], channels[2]),
        scaling=scaling,
        clip=((0.0, 1.0) if scaling == "amplitude8" else _OPEN,) * n,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        tile_size=tile_size,
        # What stands for a band that a scene lacks is measured later.
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
        hint = "" if options.bands else f" of {label}; name all that the model takes with `bands:`"
        raise UsageError(
            f"preprocess: optional: {unknown[0]!r} is none of the bands {listed}{hint}"
        )
    if set(options.optional) >= set(names):
        raise UsageError("preprocess: optional: one band must remain that every scene has")


def measured_spec(
    spec: PreprocessSpec, scenes: Sequence[SpecScene], options: InputOptions
) -> PreprocessSpec:
    """The spec with clips, means, deviations and quantiles of the training pixels.

    Bands are clipped at their 0.5 and 99.5 % quantile (8-bit amplitude at 0 and 255), so that
    ships and roofs do not stretch the range. The mean of an optional band stands for it where a
    scene lacks it.

    Args:
        spec: As ``open_spec`` gave it, or what a model takes already.
        scenes: The training scenes; each has the same say.
        options: Clips, means and deviations that the user gives win.

    Raises:
        SceneError: No training pixel holds data.
    """
    quota = max(_LEAST_VALUES, _VALUES // max(len(scenes), 1))
    samples = [(_sample(scene, quota), scene.file.bands) for scene in scenes]
    samples = [(raw, bands) for raw, bands in samples if raw.shape[1]]
    if not samples:
        raise SceneError("no training pixel holds data; check the scenes' nodata and the split")
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
    filled = replace(spec, clip=clip, fill=fill)
    channels = _channel_values(filled, samples)
    std = channels.std(1)
    known = spec.quantiles or (None,) * len(scaled)
    # Of a band that no scene has, what a model knows already stays.
    quantiles = [
        old if old and len(row) == 1 else np.percentile(row, _QUANTILES).tolist()
        for row, old in zip(scaled, known, strict=True)
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
    """Scaled values of one of the model's bands, from the scenes that have it, shape (M,)."""
    rows = [
        spec.scaled(raw[position], bands)
        for raw, bands in samples
        if (position := bands.positions[band]) is not None
    ]
    if rows:
        return np.concatenate(rows)
    if spec.bands[band] in options.optional:
        raise UsageError(f"preprocess: optional: no training scene has {spec.bands[band]}")
    # A model that goes on knows what fills it.
    return np.array([spec.fill[band]], np.float32)


def _channel_values(spec: PreprocessSpec, samples: Sequence[_Raw]) -> NDArray[np.float64]:
    """The model's channels, from the scenes with all bands if there are any, shape (3, M)."""
    whole = [sample for sample in samples if None not in sample[1].positions]
    parts = [
        spec.apply(raw[:, np.newaxis], np.ones((1, raw.shape[1]), np.bool_), bands)[:, 0]
        for raw, bands in whole or samples
    ]
    return np.concatenate(parts, axis=1, dtype=np.float64)


def _sample(scene: SpecScene, quota: int) -> NDArray[np.float32]:
    """Raw values of training pixels spread over the scene, shape (N, M), M up to the quota."""
    grid = scene.file.grid
    unit = min(_WINDOW, grid.height), min(_WINDOW, grid.width)
    spread = spread_windows(grid, unit, max(1, min(_WINDOWS, 8 * quota // (unit[0] * unit[1]))))
    with scene.file.open() as source:
        values = _values(source, scene.regions, spread)
        if values.shape[1] < min(quota, _LEAST_VALUES):
            values = _values(source, scene.regions, row_windows(grid, 1 << 20))
    return values[:, :: max(1, values.shape[1] // quota)]


def _values(
    source: Source, regions: SceneRegions, windows: Iterable[Window]
) -> NDArray[np.float32]:
    parts, size, step = [], 0, 1
    for window in windows:
        used = regions.of(window) == TRAIN
        if not used.any():
            continue
        values, valid = source.read(window)
        parts.append(values[:, valid & used][:, ::step])
        size += parts[-1].shape[1]
        while size > 2 * _VALUES:
            step *= 2
            parts = [p[:, ::2] for p in parts]
            size = sum(p.shape[1] for p in parts)
    return np.concatenate(parts or [np.zeros((source.grid.count, 0), np.float32)], axis=1)


def _names(source: RasterSource) -> tuple[str, ...]:
    known = [n for n in source.names if n]
    if len(known) == len(source.names) and len(set(known)) == len(known):
        return tuple(known)
    if len(source.names) == 1:
        return ("gray",)
    return tuple(f"B{i}" for i in range(1, len(source.names) + 1))


def _channels(names: Sequence[str]) -> tuple[str, ...]:
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
