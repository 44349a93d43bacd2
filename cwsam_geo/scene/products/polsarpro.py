"""Matrices of PolSARpro: C2, C3, C4, T3 and S2, as ENVI files or as bands of one file.

Source: PolSARpro's tutorial. The elements on the diagonal of C and T are intensities. C3 is the
covariance of (HH, sqrt(2) HV, VV) and T3 that of (HH + VV, HH - VV, 2 HV) / sqrt(2), so C22 of C3
and T33 are twice the intensity of HV. In C2 and C4 each is the intensity of one polarisation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from cwsam_geo.scene.products.places import files_in, folder_of, text_of
from cwsam_geo.scene.products.product import BandFacts, Product

Element = tuple[str, int, int]
"""Matrix (``C``, ``T`` or ``S``), row and column."""

_ELEMENT = re.compile(r"([CTS])([1-4])([1-4])(?:[ _.]?(?:real|imag|bin|img|tiff?))*", re.IGNORECASE)

_SCATTERING = {(1, 1): "HH", (1, 2): "HV", (2, 1): "VH", (2, 2): "VV"}
_DIAGONALS = {3: ("HH", "HV", "VV"), 4: ("HH", "HV", "VH", "VV")}
"""Polarisations on the diagonal of the covariance matrices C3 and C4."""

_DUAL_TYPES = {"pp1": ("HH", "HV"), "pp2": ("VV", "VH"), "pp3": ("HH", "VV")}
"""Polarisations on the diagonal of C2 by ``PolarType`` of PolSARpro's ``config.txt``."""

_PAIR = re.compile(r"(?<![A-Za-z])(VV|VH|HH|HV)[_+-]?(VV|VH|HH|HV)(?![A-Za-z])", re.IGNORECASE)
"""Polarisations in the name of a folder: ``C2_VVVH``."""


def recognise(dataset: Any, path: str) -> Product | None:
    """Recognises elements by the names of bands, or of a file with one band (``C11.bin``)."""
    elements = {i: element_of(dataset.descriptions[i - 1] or "") for i in dataset.indexes}
    if dataset.count == 1:
        elements[1] = elements[1] or element_of(path)
    own = {i: element for i, element in elements.items() if element}
    if not own:
        return None
    folder = folder_of(path)
    beside = [element_of(file) for file in (files_in(folder) if folder else [])]
    size = max(max(e[1:]) for e in (*own.values(), *beside) if e)
    facts = {i: _facts(element, size, path) for i, element in own.items()}
    scattering = any(element[0] == "S" for element in own.values())
    return Product("PolSARpro matrix", facts, units=None if scattering else "power")


def element_of(path: str) -> Element | None:
    """The element that a file or band is named after; None for all others."""
    name = PurePosixPath(path.replace("\\", "/")).name
    match = _ELEMENT.fullmatch(name)
    return (match[1].upper(), int(match[2]), int(match[3])) if match else None


def diagonal(files: Sequence[str]) -> list[str]:
    """The files that hold the diagonal of a C or T, in order; empty if there is none or several."""
    on: dict[str, list[tuple[int, str]]] = {}
    for file in files:
        element = element_of(file)
        if element is not None and element[0] != "S" and element[1] == element[2]:
            on.setdefault(element[0], []).append((element[1], file))
    if len(on) != 1:
        return []
    ordered = sorted(next(iter(on.values())))
    whole = [row for row, _ in ordered] == list(range(1, len(ordered) + 1))
    return [file for _, file in ordered] if whole and len(ordered) > 1 else []


def _facts(element: Element, size: int, path: str) -> BandFacts:
    """What an element is in a matrix of ``size`` rows."""
    kind, row, column = element
    if kind == "S":
        return BandFacts(_SCATTERING.get((row, column)))
    if row != column:
        return BandFacts(other=f"{kind}{row}{column}, which is not on the diagonal")
    if kind == "T":
        return BandFacts("HV", factor=0.5) if (row, size) == (3, 3) else BandFacts()
    names = _DIAGONALS.get(size) or _dual(path)
    name = names[row - 1] if row <= len(names) else None
    return BandFacts(name, factor=0.5 if (row, size) == (2, 3) else 1.0)


def _dual(path: str) -> tuple[str, ...]:
    """The polarisations of C2, by its config.txt or by the name of its file or folder."""
    folder = folder_of(path)
    config = text_of(f"{folder}/config.txt") if folder else ""
    match = re.search(r"PolarType\s+(\w+)", config)
    if match and match[1].lower() in _DUAL_TYPES:
        return _DUAL_TYPES[match[1].lower()]
    parts = PurePosixPath(path.replace("\\", "/")).parts[-2:]
    pairs = (_PAIR.search(part) for part in reversed(parts))
    return next(((p[1].upper(), p[2].upper()) for p in pairs if p), ())
