"""Global mosaics of ALOS PALSAR and ALOS-2 PALSAR-2 (JAXA): tiles of 1 degree.

Source: JAXA EORC, "Global 25 m Resolution PALSAR-2/PALSAR Mosaic, Dataset Description":

    gamma nought in dB = 10 log10(DN^2) - 83.0

DN is a uint16, and 0 means no data.
"""

from __future__ import annotations

import re
from typing import Any

from cwsam_geo.scene.products.places import name_of
from cwsam_geo.scene.products.product import BandFacts, Gain, Product

_TILE = re.compile(
    r"[NS]\d{2}[EW]\d{3}_\d{2}(?:_MOS)?(?:_sl)?_(HH|HV|VV|VH|mask|date|linci)(?:_F\w+)?",
    re.IGNORECASE,
)
"""Names of tiles: ``N07E116_15_sl_HH_F02DAR``, ``N07E116_15_mask_F02DAR``."""

_DECIBELS = -83.0


def recognise(dataset: Any, path: str) -> Product | None:
    """Recognises a tile by its name; ``mask``, ``date`` and ``linci`` are no backscatter."""
    match = _TILE.fullmatch(name_of(path))
    if match is None or dataset.count != 1:
        return None
    title, kind = "PALSAR mosaic (JAXA)", match[1]
    if len(kind) > 2:
        return Product(title, {1: BandFacts(other=kind)})
    if dataset.dtypes[0] not in ("uint16", "int16"):
        return None
    gain = Gain(f"gamma nought of a {title}: DN^2 x 10^(-8.3)", 10 ** (_DECIBELS / 10))
    facts = BandFacts(name=kind.upper(), calibration=lambda height, width: gain)
    return Product(title, {1: facts}, nodata=0.0)
