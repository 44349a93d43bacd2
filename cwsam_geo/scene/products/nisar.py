"""NISAR products in HDF5, and UAVSAR data in the same layout.

Source: JPL, "NASA SDS Product Specification" of RSLC, GSLC and GCOV (JPL D-102268, D-102269,
D-102274): the diagonal of GCOV (``HHHH``) is gamma nought as linear power. The complex products
hold digital numbers, whose calibration is in tables on a grid of their own.
"""

from __future__ import annotations

import re
from typing import Any

from cwsam_geo.scene.products.product import Product

_NUMBERS = re.compile(
    r"/science/[LS]SAR/\w*SLC/(?:swaths|grids)/frequency[AB]/(?:HH|HV|VH|VV)$", re.IGNORECASE
)
"""Images of the complex products (RSLC, GSLC)."""

_COVARIANCE = re.compile(r"/GCOV/grids/frequency[AB]/(?:HHHH|HVHV|VHVH|VVVV)$", re.IGNORECASE)


def recognise(dataset: Any, path: str) -> Product | None:
    """Recognises an image by its path in the container."""
    if _COVARIANCE.search(path):
        return Product("NISAR GCOV", units="power")
    if not _NUMBERS.search(path):
        return None
    return Product(
        "NISAR SLC",
        lacks="NISAR's products of single looks (SLC) hold digital numbers",
        remedy="give the GCOV product",
    )
