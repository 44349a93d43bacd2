"""Gaofen-3 Level-1 products: a GeoTIFF for each polarisation, and a ``.meta.xml``.

Source: the formula of CRESDA's user manual, as SNAP's reader applies it:

    sigma nought = (DN x QualifyValue / 32767)^2 / 10^(CalibrationConst / 10)

with 65535 instead of 32767 for detected products (L1B, L2). A complex product (L1A) has the real
and the imaginary part as two bands.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from cwsam_geo.errors import SceneError
from cwsam_geo.scene.products.places import beside, name_of
from cwsam_geo.scene.products.product import BandFacts, Calibration, Gain, Product
from cwsam_geo.scene.products.values import number
from cwsam_geo.scene.sentinel1.xml import read_xml

_NAME = re.compile(r"(GF3[A-Z]?_\w*_L(?:1A|1B|2)_)(HH|HV|VH|VV)(_\w+)", re.IGNORECASE)
"""Names of rasters: ``GF3_MYN_QPSI_011111_E99.2_N26.6_20180926_L1A_HH_L20003483180.tiff``."""

_METADATA = re.compile(r"(.+)\.meta\.xml", re.IGNORECASE)

_COMPLEX, _DETECTED = 32767.0, 65535.0
"""Digital numbers at which the amplitude is QualifyValue."""


def recognise(dataset: Any, path: str) -> Product | None:
    """Recognises a raster by its name, and its metadata by the name beside it."""
    match = _NAME.fullmatch(name_of(path).replace(".", "_"))
    if match is None:
        return None
    quadrature = 2 if dataset.count == 2 and set(dataset.dtypes) == {"int16"} else None
    if not (quadrature or (dataset.count == 1 and dataset.dtypes[0] in ("uint16", "int16"))):
        return None
    title, name = "Gaofen-3 product", match[2].upper()
    facts = partial(BandFacts, name=name, quadrature=quadrature)
    # The metadata of all polarisations have one name: with AHV, DH or the like in their place.
    first, last = match[1].lower(), match[3].lower()
    files = [f for f in beside(path, ".meta.xml") if _belongs(f, first, last)]
    if len(files) != 1:
        return Product(
            title,
            {1: facts()},
            lacks="its .meta.xml is not beside it",
            remedy="put the product's .meta.xml beside its rasters",
        )
    full = _COMPLEX if quadrature else _DETECTED
    calibration = partial(_calibration, files[0], name, full, title)
    return Product(title, {1: facts(calibration=calibration)}, files=(files[0],))


def _belongs(file: str, first: str, last: str) -> bool:
    match = _METADATA.fullmatch(file.rpartition("/")[2])
    stem = match[1].replace(".", "_").lower() if match else ""
    return stem.startswith(first) and stem.endswith(last)


def _calibration(
    file: str, name: str, full: float, title: str, height: int, width: int
) -> Calibration:
    root = read_xml(file)
    quality = number(root.findtext(f"imageinfo/QualifyValue/{name}"))
    constant = number(root.findtext(f"processinfo/CalibrationConst/{name}"))
    if quality is None or quality <= 0 or constant is None or abs(constant) > 200:
        raise SceneError(
            f"{file}: gives no QualifyValue and CalibrationConst of {name}; get the product again, "
            "or pass --units amplitude to read its digital numbers as they are"
        )
    factor = (quality / full) ** 2 / 10 ** (constant / 10)
    return Gain(f"sigma nought of a {title}, by the QualifyValue and CalibrationConst of its "
                ".meta.xml", factor)  # fmt: skip
