"""The names of bands in SNAP's metadata (BEAM-DIMAP), of a ``.dim`` file or inside a GeoTIFF."""

from __future__ import annotations

import html
import re

SNAP_TAG = 65000
"""TIFF tag in which SNAP writes a product's metadata; GDAL does not read it."""

_BAND = re.compile(rb"<Spectral_Band_Info>(.*?)</Spectral_Band_Info>", re.DOTALL)
_FIELD = re.compile(rb"<(BAND_INDEX|BAND_NAME)>([^<]*)</")


def snap_band_names(metadata: bytes) -> list[str]:
    """Names of a product's bands, in the order of the bands; empty if the metadata is not SNAP's.

    The metadata is not parsed as XML, because a Sentinel-1 product has megabytes of it.
    """
    bands: list[tuple[int, str]] = []
    for block in _BAND.findall(metadata):
        fields = {k: v.decode("utf-8", "replace").strip() for k, v in _FIELD.findall(block)}
        index = fields.get(b"BAND_INDEX", "")
        bands.append((int(index) if index.isdigit() else len(bands), fields.get(b"BAND_NAME", "")))
    return [html.unescape(name) for _, name in sorted(bands)]
