"""ICEYE amplitude products (GRD).

Source: ICEYE, "Product documentation", Radiometric calibration (github.com/iceye-ltd):

    sigma nought = calibration factor x DN^2

The factor is 0 where the satellite is not calibrated yet, and scan modes are not calibrated. The
complex products (SLC) hold radar brightness.
"""

from __future__ import annotations

from typing import Any

from cwsam_geo.scene.products.places import name_of
from cwsam_geo.scene.products.product import BandFacts, Gain, Product
from cwsam_geo.scene.products.values import number

_FACTOR = "CALIBRATION_FACTOR"


def recognise(dataset: Any, path: str) -> Product | None:
    """Recognises a product by its tags, or by its name if another program has removed them."""
    tags = dataset.tags()
    made = "ICEYE" in f"{tags.get('SATELLITE_NAME')} {tags.get('PRODUCT_NAME')}".upper()
    if not made and not name_of(path).upper().startswith("ICEYE_"):
        return None
    if dataset.count != 1 or dataset.dtypes[0] not in ("uint16", "int16", "uint8"):
        return None
    title = "ICEYE GRD"
    factor = number(tags.get(_FACTOR))
    if factor is None:
        lacks = f"the file has no tag {_FACTOR}"
        return Product(title, lacks=lacks, remedy="give the GeoTIFF that ICEYE delivered")
    if not 0 < factor < 1 or "scan" in str(tags.get("ACQUISITION_MODE")).lower():
        return Product(title, lacks="ICEYE has not calibrated it")
    gain = Gain(f"sigma nought of an {title}, by its tag {_FACTOR}", factor)
    return Product(title, {1: BandFacts(calibration=lambda height, width: gain)})
