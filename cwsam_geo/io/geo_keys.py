"""The EPSG code that a GeoTIFF names, read from its keys without GDAL and PROJ.

If PROJ's database lacks a code, GDAL gives a local CRS or none, and rasterio does not show which
code the file names.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

_GEO_KEY_DIRECTORY = 34735
"""TIFF tag whose value is a list of GeoTIFF keys, four uint16 each (OGC 19-008r4, 7.1.2)."""

_PROJECTED, _GEODETIC = 3072, 2048
"""GeoTIFF keys with the EPSG code of a projected CRS, and of a geodetic one."""

_CODES = range(1024, 32767)
"""Values of these keys that are EPSG codes; 32767 means user-defined (OGC 19-008r4, 7.4)."""

_MOST_ENTRIES = 4096
"""Entries of a TIFF directory up to which it is read; GeoTIFFs have about 20."""


def named_epsg(path: str | os.PathLike[str]) -> int | None:
    """The EPSG code of the CRS that a local GeoTIFF names; None where it names none."""
    try:
        with open(path, "rb") as file:
            keys = _geo_keys(file)
    except (OSError, ValueError, struct.error):
        return None
    # A projected CRS has the key of its base CRS too.
    codes = (keys.get(key, 0) for key in (_PROJECTED, _GEODETIC))
    return next((code for code in codes if code in _CODES), None)


def _geo_keys(file: BinaryIO) -> dict[int, int]:
    """The GeoTIFF keys of the first image that hold a single number."""
    order = {b"II": "<", b"MM": ">"}.get(file.read(2), "")
    if not order:
        return {}
    (version,) = struct.unpack(f"{order}H", file.read(2))
    if version == 43:  # BigTIFF: 64-bit offsets and counts
        start, count, entry = "4xQ", "Q", "HHQQ"
    else:
        start, count, entry = "I", "H", "HHII"

    def read(layout: str) -> tuple[int, ...]:
        size = struct.calcsize(order + layout)
        return struct.unpack(order + layout, file.read(size))

    file.seek(read(start)[0])
    for _ in range(min(read(count)[0], _MOST_ENTRIES)):
        tag, _type, length, where = read(entry)
        if tag == _GEO_KEY_DIRECTORY and 4 < length < _MOST_ENTRIES:
            file.seek(where)
            numbers = read(f"{length}H")
            # After a header of four numbers, four for each key: the key, a tag (0 if the value
            # follows), count, value.
            keys = zip(*(numbers[i::4] for i in range(4, 8)), strict=False)
            return {key: value for key, tag, _, value in keys if tag == 0}
    return {}
