"""Scenes as GeoTIFFs."""

import warnings

import numpy as np
import rasterio
from affine import Affine

UTM = Affine(10, 0, 500000, 0, -10, 5600000)


def write(path, bands, descriptions=(), mask=None, tags=None, **profile):
    """Writes (N, H, W) or (H, W) as a GeoTIFF."""
    bands = np.asarray(bands)
    bands = bands[None] if bands.ndim == 2 else bands
    options = {"driver": "GTiff", "transform": UTM, "crs": "EPSG:32633"} | profile
    scales, offsets = options.pop("scales", None), options.pop("offsets", None)
    interp = options.pop("colorinterp", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(
                path,
                "w",
                width=bands.shape[2],
                height=bands.shape[1],
                count=len(bands),
                dtype=options.pop("dtype", bands.dtype),
                **options,
            ) as out,
        ):
            if interp:
                out.colorinterp = interp
            out.write(bands)
            for i, text in enumerate(descriptions, 1):
                out.set_band_description(i, text)
            if scales:
                out.scales, out.offsets = scales, offsets
            if mask is not None:
                out.write_mask(mask)
            if tags:
                out.update_tags(**tags)
    return path
