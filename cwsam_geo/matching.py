"""Fits a scene to a model: bands by name or order, stretch to 8 bits, check of the distribution."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cwsam_geo.errors import SceneError, UsageError
from cwsam_geo.preprocess import PreprocessSpec, SceneBands, Units
from cwsam_geo.units import PLAUSIBLE_DB, BandStats, SceneStats, decibels

Names = Sequence[str | None]

_POLARISATION = re.compile(r"[VH][VH]", re.IGNORECASE)

_STRETCH_PERCENT = 98.0
"""Quantile, in percent, that becomes 255 in 8-bit amplitude: ships and roofs are above it."""

_DB_MARGIN = 3.0
"""Distance of the median from the training data, in dB, that is never worth a warning."""


@dataclass(frozen=True)
class BandMatch:
    """The scene band that serves each band of the model.

    Attributes:
        positions: For each band of the model, the index of its band among the scene's selected
            bands (from 0), or None if the scene lacks it and the model fills it.
        remarks: Assumptions, as text for the user.
        by_name: True if the bands were matched by the polarisations that the scene names.
    """

    positions: tuple[int | None, ...]
    remarks: tuple[str, ...] = ()
    by_name: bool = True


def match_bands(
    spec: PreprocessSpec,
    names: Names,
    label: str,
    chosen: bool,
    numbers: Sequence[int] | None = None,
) -> BandMatch:
    """Finds a model's bands in a scene.

    Bands are matched by the names of their polarisations. They are matched by order if the scene
    names none, or if the bands that the user chose are not the model's polarisations. A model of
    one band that is no polarisation (``gray``) takes the first band.

    Args:
        spec: The model's preprocessing.
        names: Polarisation of each selected band of the scene, or None.
        label: Name of the scene in messages.
        chosen: True if the user chose the bands (``-b``).
        numbers: Numbers of the selected bands in messages, or None for 1, 2, ...

    Raises:
        SceneError: The scene lacks a band, or has several that could be the same one.
        UsageError: The user chose more bands than the model takes.
    """
    model_names = [band.upper() for band in spec.bands]
    if len(model_names) == 1 and not _POLARISATION.fullmatch(model_names[0]):
        return _first(names)
    if chosen and len(names) > len(model_names):
        raise UsageError(
            f"{label}: -b names {len(names)} bands, but the model takes {_listed(spec.bands)}"
        )
    scene_names = [n.upper() if n else None for n in names]
    numbers = numbers or range(1, len(scene_names) + 1)
    positions = tuple(scene_names.index(n) if n in scene_names else None for n in model_names)
    # By name: at least one band must match, and the model must be able to fill the others.
    if any(p is not None for p in positions) and not _lacking(spec, positions):
        _check_twice(scene_names, model_names, label, numbers)
        return BandMatch(positions, _fills(spec, positions))
    # By order: the user has vouched for the bands, or there are no names to go by.
    if chosen or not any(scene_names):
        return _by_order(spec, scene_names, label, numbers if chosen else None)
    has = ", ".join(f"{i} {n or '(no name)'}" for i, n in zip(numbers, scene_names, strict=True))
    missing = _listed([spec.bands[i] for i in _lacking(spec, positions)])
    raise SceneError(
        f"{label}: the model needs {missing}, but the scene's bands are {has}; "
        f"give another scene, or say with -b which bands stand for {', '.join(spec.bands)}"
    )


def stretch_for(stats: SceneStats, units: Units) -> tuple[float, float] | None:
    """Amplitudes that become 0 and 255 all over the scene, for models of 8-bit amplitude.

    Amplitude 0 stays 0, so that ratios are kept and water stays dark. The upper end is the 98 %
    quantile of the brightest band, which ships and roofs cannot move. The single-look amplitude of
    a homogeneous surface (Rayleigh distributed) then has its mean at 0.45, close to ImageNet's.

    Returns:
        Low and high amplitude, or None for an 8-bit picture, which is not stretched.
    """
    if stats.eight_bit and units == "amplitude":
        return None
    if stats.blank:
        return 0.0, 1.0
    highest = max(b.quantile(_STRETCH_PERCENT) for b in stats.bands)
    return 0.0, 10 ** (decibels(highest, units) / 20)


def distribution_warning(spec: PreprocessSpec, scene: SceneBands, stats: SceneStats) -> str | None:
    """A warning if the whole scene's values are far from the model's training data; else None.

    A model without quantiles of its training data is checked against the median of calibrated
    backscatter instead, if it takes decibels or power. The positions in ``scene`` are indices into
    ``stats.bands``.
    """
    far = []
    for i, position in enumerate(scene.positions):
        if position is None or stats.blank:
            continue
        text = _far(spec, i, _scaled(spec, scene, stats.bands[position]))
        if text:
            far.append(f"{spec.bands[i]}: {text}")
    if not far:
        return None
    return "the scene is far from the model's training data: " + "; ".join(far)


def _far(spec: PreprocessSpec, band: int, scaled: tuple[float, float, float]) -> str | None:
    low, median, high = scaled
    unit = "" if spec.scaling == "amplitude8" else " dB"
    scene_range = f"median {median:.3g}{unit} (5 to 95 %: {low:.3g} to {high:.3g})"
    if spec.quantiles is not None:
        # The training data's 5 %, 50 % and 95 % quantiles; the median may leave them by half their
        # range.
        q5, q50, q95 = (_comparable(spec, q) for q in spec.quantiles[band])
        margin = max(_DB_MARGIN if unit else 0.1, 0.5 * (q95 - q5))
        if q5 - margin <= median <= q95 + margin:
            return None
        return f"{scene_range}, trained on {q50:.3g}{unit} ({q5:.3g} to {q95:.3g})"
    if unit and not PLAUSIBLE_DB[0] <= median <= PLAUSIBLE_DB[1]:
        return f"{scene_range}, calibrated backscatter has a median of {PLAUSIBLE_DB[0]:g} to " + (
            f"{PLAUSIBLE_DB[1]:g} dB"
        )
    return None


def _scaled(spec: PreprocessSpec, scene: SceneBands, band: BandStats) -> tuple[float, float, float]:
    raw = np.array([band.quantile(p) for p in (5.0, 50.0, 95.0)], np.float32)
    low, median, high = (_comparable(spec, float(v)) for v in spec.scaled(raw, scene))
    return low, median, high


def _comparable(spec: PreprocessSpec, value: float) -> float:
    # Linear power is compared in dB, so that a margin means the same ratio at every level.
    return decibels(value, "power") if spec.scaling == "linear" else value


def _first(names: Names) -> BandMatch:
    if len(names) == 1:
        return BandMatch((0,))
    name = f" ({names[0]})" if names[0] else ""
    remark = f"the model takes one band: the first{name} of {len(names)} is used (see -b)"
    return BandMatch((0,), (remark,))


def _lacking(spec: PreprocessSpec, positions: Sequence[int | None]) -> list[int]:
    """Indices of the model's bands that the scene lacks and the model cannot fill."""
    return [i for i, p in enumerate(positions) if p is None and spec.fill[i] is None]


def _check_twice(
    scene_names: Names, model_names: Sequence[str], label: str, numbers: Sequence[int]
) -> None:
    for name in model_names:
        same = [str(i) for i, n in zip(numbers, scene_names, strict=True) if n == name]
        if len(same) > 1:
            raise SceneError(f"{label}: bands {', '.join(same)} are all {name}; choose one with -b")


def _by_order(
    spec: PreprocessSpec, scene_names: Names, label: str, chosen: Sequence[int] | None
) -> BandMatch:
    count = len(scene_names)
    positions = tuple(i if i < count else None for i in range(len(spec.bands)))
    if count > len(spec.bands):
        raise SceneError(
            f"{label}: has {count} bands without polarisation names, and the model takes "
            f"{_listed(spec.bands)}; say which they are with -b, in this order"
        )
    missing = [spec.bands[i] for i in _lacking(spec, positions)]
    if missing:
        raise SceneError(
            f"{label}: has {count} band{'s' if count > 1 else ''}, and the model needs "
            f"{_listed(spec.bands)}; give the file with {_listed(missing)} too"
        )
    # Not strict: the scene may lack the model's last bands if the model can fill them. A model has
    # four bands at most.
    pairs = ", ".join(
        f"{scene_name or f'band {i}'} as {band}"
        for i, scene_name, band in zip(chosen or range(1, 5), scene_names, spec.bands, strict=False)
    )
    why = "as -b says" if chosen else "the scene does not name its polarisations: see -b"
    return BandMatch(positions, (f"{pairs} ({why})", *_fills(spec, positions)), by_name=False)


def _fills(spec: PreprocessSpec, positions: Sequence[int | None]) -> tuple[str, ...]:
    """Remarks on the bands that the model fills."""
    return tuple(
        f"the scene has no {band}: filled with {fill:g}"
        for band, position, fill in zip(spec.bands, positions, spec.fill, strict=True)
        if position is None and fill is not None
    )


def _listed(bands: Sequence[str]) -> str:
    return ", ".join(bands[:-1]) + (" and " if len(bands) > 1 else "") + bands[-1]
