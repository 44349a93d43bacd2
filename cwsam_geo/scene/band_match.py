"""Finds the bands of a model in a scene, by name or by order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cwsam_geo.core.preprocess import PreprocessSpec
from cwsam_geo.errors import SceneError, UsageError

Names = Sequence[str | None]

_POLARISATION = re.compile(r"[VH][VH]", re.IGNORECASE)


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
    lacking = [spec.bands[i] for i in _lacking(spec, positions)]
    missing = _listed(lacking) if lacking else _listed(spec.bands, "or")
    raise SceneError(
        f"{label}: the model needs {missing}, but the scene's bands are {has}; "
        f"give another scene, or say with -b which bands stand for {', '.join(spec.bands)}"
    )


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


def _listed(bands: Sequence[str], last: str = "and") -> str:
    return ", ".join(bands[:-1]) + (f" {last} " if len(bands) > 1 else "") + bands[-1]
