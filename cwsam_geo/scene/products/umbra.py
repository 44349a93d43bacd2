"""Umbra's geocoded pictures (GEC): 8-bit amplitude without a calibration factor."""

from __future__ import annotations

import re
from typing import Any

from cwsam_geo.scene.products.places import name_of
from cwsam_geo.scene.products.product import Product

_NAME = re.compile(r"umbra", re.IGNORECASE)


def recognise(dataset: Any, path: str) -> Product | None:
    """Recognises a GEC by its name and type: ``2023-01-01-00-00-00_UMBRA-05_GEC.tif``."""
    if not _NAME.search(name_of(path)) or set(dataset.dtypes) != {"uint8"}:
        return None
    return Product(
        "Umbra GEC",
        lacks="Umbra gives no calibration factor for its 8-bit pictures",
        remedy="if you know a factor of the amplitude, pass it as --scale with --units amplitude",
    )
