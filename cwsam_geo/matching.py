"""How a scene answers to a model: its bands by name or order, its stretch, its distribution."""

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
_DB_MARGIN = 3.0


@dataclass(frozen=True)
class BandMatch:
    """Which of a scene's selected bands is which of the model's.

    Attributes:
        positions: For each band of the model, a place among the scene's bands (from 0), or None
            where the scene lacks it and the model fills it.
        remarks: What was assumed, in words for the user.
        by_name: True where the scene itself names the polarisations.
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

    Names decide where the scene has them; else, and where the user's choice has other
    polarisations than the model, the order does. A model of one band without polarisation
    (``gray``) takes the first band.

    Args:
        spec: What the model takes.
        names: Polarisation of each selected band of the scene, or None.
        label: What to call the scene in messages.
        chosen: Whether the user chose the bands (``-b``).
        numbers: Their numbers in messages, or None for 1, 2, ...

    Raises:
        SceneError: The scene lacks a band, or which one it is cannot be told.
        UsageError: The user chose more bands than the model takes.
    """
    wanted = [band.upper() for band in spec.bands]
    if len(wanted) == 1 and not _POLARISATION.fullmatch(wanted[0]):
        return _first(names)
    if chosen and len(names) > len(wanted):
        raise UsageError(
            f"{label}: -b names {len(names)} bands, but the model takes {_listed(spec.bands)}"
        )
    known = [n.upper() if n else None for n in names]
    numbers = numbers or range(1, len(known) + 1)
    found = tuple(known.index(w) if w in known else None for w in wanted)
    if any(p is not None for p in found) and not _lacking(spec, found):
        _check_twice(known, wanted, label, numbers)
        return BandMatch(found, _fills(spec, found))
    if chosen or not any(known):
        return _by_order(spec, known, label, numbers if chosen else None)
    has = ", ".join(f"{i} {n or '(no name)'}" for i, n in zip(numbers, known, strict=True))
    missing = _listed([spec.bands[i] for i in _lacking(spec, found)])
    raise SceneError(
        f"{label}: the model needs {missing}, but the scene's bands are {has}; "
        f"give another scene, or say with -b which bands stand for {', '.join(spec.bands)}"
    )


def stretch_for(stats: SceneStats, units: Units) -> tuple[float, float] | None:
    """Amplitudes of the whole scene that become 0 and 255, for models of 8-bit amplitude.

    Zero stays zero, so that ratios are kept and water stays dark; the upper end is the 98 %
    quantile of the brightest band, which no ship or roof can move. Single-look amplitude of an
    even surface (Rayleigh) then has its mean at 0.45, where ImageNet's statistics have theirs.

    Args:
        stats: Statistics of the bands in use.
        units: What the values are.

    Returns:
        Low and high amplitude, or None for an 8-bit picture, which is left as it is.
    """
    if stats.eight_bit and units == "amplitude":
        return None
    if stats.blank:
        return 0.0, 1.0
    highest = max(b.quantile(_STRETCH_PERCENT) for b in stats.bands)
    return 0.0, 10 ** (decibels(highest, units) / 20)


def distribution_warning(spec: PreprocessSpec, scene: SceneBands, stats: SceneStats) -> str | None:
    """A warning where the whole scene's values are far from the model's training data.

    Where the model does not know its training data's quantiles, models of decibels and power
    expect a median that calibrated backscatter can have.

    Args:
        spec: What the model takes.
        scene: How the scene's bands answer to it; positions are those of ``stats.bands``.
        stats: Statistics of the whole scene.

    Returns:
        The warning, or None where there is nothing to warn of.
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
    seen = f"median {median:.3g}{unit} (5 to 95 %: {low:.3g} to {high:.3g})"
    if spec.quantiles is not None:
        known = [_comparable(spec, q) for q in spec.quantiles[band]]
        margin = max(_DB_MARGIN if unit else 0.1, 0.5 * (known[2] - known[0]))
        if known[0] - margin <= median <= known[2] + margin:
            return None
        return f"{seen}, trained on {known[1]:.3g}{unit} ({known[0]:.3g} to {known[2]:.3g})"
    if unit and not PLAUSIBLE_DB[0] <= median <= PLAUSIBLE_DB[1]:
        return f"{seen}, calibrated backscatter has a median of {PLAUSIBLE_DB[0]:g} to " + (
            f"{PLAUSIBLE_DB[1]:g} dB"
        )
    return None


def _scaled(spec: PreprocessSpec, scene: SceneBands, band: BandStats) -> tuple[float, float, float]:
    raw = np.array([band.quantile(p) for p in (5.0, 50.0, 95.0)], np.float32)
    low, median, high = (_comparable(spec, float(v)) for v in spec.scaled(raw, scene))
    return low, median, high


def _comparable(spec: PreprocessSpec, value: float) -> float:
    # Powers are compared as ratios.
    return decibels(value, "power") if spec.scaling == "linear" else value


def _first(names: Names) -> BandMatch:
    if len(names) == 1:
        return BandMatch((0,))
    name = f" ({names[0]})" if names[0] else ""
    remark = f"the model takes one band: the first{name} of {len(names)} is used (see -b)"
    return BandMatch((0,), (remark,))


def _lacking(spec: PreprocessSpec, positions: Sequence[int | None]) -> list[int]:
    return [i for i, p in enumerate(positions) if p is None and spec.fill[i] is None]


def _check_twice(known: Names, wanted: Sequence[str], label: str, numbers: Sequence[int]) -> None:
    for name in wanted:
        places = [str(i) for i, n in zip(numbers, known, strict=True) if n == name]
        if len(places) > 1:
            raise SceneError(
                f"{label}: bands {', '.join(places)} are all {name}; choose one with -b"
            )


def _by_order(
    spec: PreprocessSpec, known: Names, label: str, chosen: Sequence[int] | None
) -> BandMatch:
    positions = tuple(i if i < len(known) else None for i in range(len(spec.bands)))
    if len(known) > len(spec.bands):
        raise SceneError(
            f"{label}: has {len(known)} bands without polarisation names, and the model takes "
            f"{_listed(spec.bands)}; say which they are with -b, in this order"
        )
    missing = [spec.bands[i] for i in _lacking(spec, positions)]
    if missing:
        raise SceneError(
            f"{label}: has {len(known)} band{'s' if len(known) > 1 else ''}, and the model needs "
            f"{_listed(spec.bands)}; give the file with {_listed(missing)} too"
        )
    # A scene may lack the last of the model's bands, where the model can do without.
    taken = ", ".join(
        f"{n or f'band {i}'} as {w}"
        for i, n, w in zip(chosen or range(1, 5), known, spec.bands, strict=False)
    )
    why = "as -b says" if chosen else "the scene does not name its polarisations: see -b"
    return BandMatch(positions, (f"{taken} ({why})", *_fills(spec, positions)), by_name=False)


def _fills(spec: PreprocessSpec, positions: Sequence[int | None]) -> tuple[str, ...]:
    return tuple(
        f"the scene has no {band}: filled with {fill:g}"
        for band, position, fill in zip(spec.bands, positions, spec.fill, strict=True)
        if position is None and fill is not None
    )


def _listed(bands: Sequence[str]) -> str:
    return ", ".join(bands[:-1]) + (" and " if len(bands) > 1 else "") + bands[-1]
