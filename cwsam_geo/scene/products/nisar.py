"""NISAR products in HDF5, and UAVSAR data in the same layout.

Source: JPL, "NASA SDS Product Specification" of RSLC, GSLC and GCOV (JPL D-102268, D-102269,
D-102274): the diagonal of GCOV (``HHHH``) is gamma nought as linear power. The complex products
hold digital numbers, whose calibration is in tables on a grid of their own.
"""

from __future__ import annotations

import re
from typing import Any

from cwsam_geo.scene.products.product import Product

_NUMBERS = re.compile(r"science_[LS]SAR_\w*SLC_\w+_(?:HH|HV|VH|VV)_units", re.IGNORECASE)
"""Tags that GDAL makes of the attribute ``units`` of an image in a complex product."""

_COVARIANCE = re.compile(r"/GCOV/grids/frequency[AB]/(HHHH|HVHV|VHVH|VVVV)$", re.IGNORECASE)


def recognise(dataset: Any, path: str) -> Product | None:
    """Recognises an image of a container by its path in it, or by the tags of the container."""
    if _COVARIANCE.search(path):
        return Product("NISAR GCOV", units="power")
    if dataset.driver not in ("HDF5", "HDF5Image", "netCDF"):
        return None
    units = {v.strip().upper() for k, v in dataset.tags().items() if _NUMBERS.fullmatch(k)}
    if units & {"DN", "1"}:
        lacks = "a NISAR product of single looks (SLC) holds digital numbers"
        return Product("NISAR SLC", lacks=lacks, remedy="give the GCOV product")
    return None
