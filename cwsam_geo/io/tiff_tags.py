"""Tags of a local TIFF that GDAL does not show, read without GDAL and PROJ."""

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

_LARGEST = 16 << 20
"""Bytes up to which a tag's value is read; SNAP's metadata has a few megabytes at most."""

_SIZES = {1: 1, 2: 1, 3: 2, 7: 1}
"""Bytes of the types that are read: BYTE, ASCII, SHORT, UNDEFINED."""


def tiff_tag(path: str | os.PathLike[str], tag: int) -> bytes | None:
    """The value of a tag of bytes, text or uint16 of a file's first image.

    Returns:
        The value in the machine's byte order; None if the file is no local TIFF or lacks the tag.
    """
    try:
        with open(os.fspath(path).removeprefix("file://"), "rb") as file:
            return _value(file, tag)
    except (OSError, ValueError, struct.error):
        return None


def named_epsg(path: str | os.PathLike[str]) -> int | None:
    """The EPSG code of the CRS that a local GeoTIFF names; None where it names none.

    If PROJ's database lacks a code, GDAL gives a local CRS or none, and rasterio does not show
    which code the file names.
    """
    value = tiff_tag(path, _GEO_KEY_DIRECTORY) or b""
    numbers = struct.unpack(f"={len(value) // 2}H", value[: len(value) // 2 * 2])
    # After a header of four numbers, four for each key: the key, a tag (0 if the value follows),
    # count, value.
    groups = zip(*(numbers[i::4] for i in range(4, 8)), strict=False)
    keys = {key: code for key, elsewhere, _, code in groups if elsewhere == 0}
    # A projected CRS has the key of its base CRS too.
    codes = (keys.get(key, 0) for key in (_PROJECTED, _GEODETIC))
    return next((code for code in codes if code in _CODES), None)


def _value(file: BinaryIO, tag: int) -> bytes | None:
    order = {b"II": "<", b"MM": ">"}.get(file.read(2), "")
    if not order:
        return None

    def read(layout: str) -> tuple[int, ...]:
        return struct.unpack(order + layout, file.read(struct.calcsize(order + layout)))

    (version,) = read("H")
    # A BigTIFF has 64-bit offsets and counts. An entry is tag, type, count, and the offset of the
    # value, or the value itself if it fits there.
    start, count, entry, room = ("4xQ", "Q", "HHQ", 8) if version == 43 else ("I", "H", "HHI", 4)
    file.seek(read(start)[0])
    for _ in range(min(read(count)[0], _MOST_ENTRIES)):
        number, kind, length = read(entry)
        size = length * _SIZES.get(kind, _LARGEST + 1)
        if number != tag:
            file.seek(room, os.SEEK_CUR)
            continue
        if size > _LARGEST:
            return None
        if size > room:
            file.seek(read("Q" if room == 8 else "I")[0])
        value = file.read(size)
        if kind != 3:
            return value
        return struct.pack(f"={length}H", *struct.unpack(f"{order}{length}H", value))
    return None
