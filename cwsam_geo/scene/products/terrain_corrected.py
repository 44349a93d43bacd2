"""Terrain-corrected Sentinel-1 backscatter whose units its makers document.

Sources: JPL, "OPERA RTC-S1 Product Specification" (gamma nought, linear); Microsoft, "Sentinel-1
Radiometrically Terrain Corrected" (gamma nought, linear; names end with ``.rtc.tiff``). The
names of HyP3's products give the units as a letter, which ``units`` reads as it does other names.
"""

from __future__ import annotations

import re
from typing import Any

from cwsam_geo.scene.products.places import name_of
from cwsam_geo.scene.products.product import Product

_OPERA = re.compile(r"OPERA_L2_RTC-S1_", re.IGNORECASE)

_MICROSOFT = re.compile(r"[is]\w-(?:vv|vh|hh|hv)\.rtc", re.IGNORECASE)
"""``iw-vv.rtc.tiff``, as the Planetary Computer names the rasters of an item."""


def recognise(dataset: Any, path: str) -> Product | None:
    """Recognises a product by its name, if its values are floats."""
    if not all(dtype.startswith("float") for dtype in dataset.dtypes):
        return None
    name = name_of(path)
    if _OPERA.match(name):
        return Product("OPERA RTC-S1", units="power")
    if _MICROSOFT.search(name):
        return Product("Planetary Computer RTC", units="power")
    return None
