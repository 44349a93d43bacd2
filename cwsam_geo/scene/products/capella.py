"""Capella amplitude products (GEO and GEC).

Source: Capella Space, "SAR Products Format Specification": the GeoTIFF holds amplitude, and

    backscatter = (scale factor x DN)^2

where ``collect.image`` of the JSON in the tag ``TIFFTAG_IMAGEDESCRIPTION``, or in the file
``NAME_extended.json`` beside it, has ``scale_factor``, and says in ``radiometry`` which coefficient
it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cwsam_geo.scene.products.places import folder_of, name_of
from cwsam_geo.scene.products.product import BandFacts, Gain, Product
from cwsam_geo.scene.products.values import number

_QUANTITIES = {"sigma_nought": "sigma nought", "gamma_nought": "gamma nought"}
"""Values of ``radiometry`` that models are trained on. Radar brightness (``beta_nought``) is 2 to 7
dB brighter."""

_LARGEST = 4 << 20
"""Bytes up to which a JSON file is read; real ones have up to 1 MB."""


def recognise(dataset: Any, path: str) -> Product | None:
    """Recognises a product by its JSON or its name."""
    name = name_of(path)
    data, file = _metadata(dataset, path)
    if data is None and not name.upper().startswith("CAPELLA_"):
        return None
    if dataset.count != 1 or dataset.dtypes[0] not in ("uint16", "uint8", "int16"):
        return None
    title = "Capella product"
    image = _mapping(_mapping(data, "collect"), "image")
    factor, radiometry = number(image.get("scale_factor")), image.get("radiometry")
    files = (file,) if file else ()
    if data is None or factor is None or not 0 < factor < 1e3:
        return Product(
            title,
            lacks=f"neither its tags nor {name}_extended.json give a scale_factor",
            remedy="put Capella's JSON file beside it",
            files=files,
        )
    quantity = _QUANTITIES.get(str(radiometry))
    if quantity is None or image.get("calibration") == "none":
        lacks = f"its radiometry is {str(radiometry)[:40]!r}, not sigma or gamma nought"
        return Product(title, lacks=lacks, remedy="give the GEO product", files=files)
    gain = Gain(f"{quantity} of a {title}, by its scale_factor", factor**2)
    facts = BandFacts(name=_polarisation(data), calibration=lambda height, width: gain)
    return Product(title, {1: facts}, files=files)


def _metadata(dataset: Any, path: str) -> tuple[Mapping[str, Any] | None, str | None]:
    """Capella's JSON and, if it is in a file beside the raster, the file's path; else None."""
    found = _parsed(dataset.tags().get("TIFFTAG_IMAGEDESCRIPTION") or "")
    folder = folder_of(path)
    if found is not None or folder is None or folder.startswith("/vsi"):
        return found, None
    for stem in (f"{name_of(path)}_extended", name_of(path)):
        file = Path(folder) / f"{stem}.json"
        try:
            with file.open("rb") as opened:
                found = _parsed(opened.read(_LARGEST + 1).decode("utf-8", "replace"))
        except OSError:
            continue
        if found is not None:
            return found, file.as_posix()
    return None, None


def _parsed(text: str) -> Mapping[str, Any] | None:
    if '"collect"' not in text or len(text) > _LARGEST:
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and isinstance(data.get("collect"), dict) else None


def _mapping(data: Mapping[str, Any] | None, key: str) -> Mapping[str, Any]:
    value = (data or {}).get(key)
    return value if isinstance(value, dict) else {}


def _polarisation(data: Mapping[str, Any] | None) -> str | None:
    radar = _mapping(_mapping(data, "collect"), "radar")
    pair = f"{radar.get('transmit_polarization')}{radar.get('receive_polarization')}".upper()
    return pair if pair in ("HH", "HV", "VH", "VV") else None
