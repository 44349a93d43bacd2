"""A catalogue on the loopback interface with scenes and a land-cover map of one place."""

import numpy as np
from affine import Affine
from rasterio.warp import Resampling, reproject, transform_bounds
from shapely.geometry import box, mapping
from stac_items import rtc_item, write_cog
from training_scenes import blobs

MUNICH = (11.20, 47.90, 11.25, 47.93)
"""A small part of the area in the README's example, in degrees."""

LEVELS_DB = {10: -8.0, 30: -12.0, 40: -13.0, 50: -3.0, 60: -16.0, 80: -22.0}
"""Level of VV of codes of WorldCover; VH is 7 dB below it."""

_STEP = 1 / 12000
"""Degrees: the pixel of WorldCover."""


def land_cover_item(catalogue, codes, west, north, year=2021, name=None):
    """An item as the Planetary Computer's esa-worldcover has it; codes (h, w) of uint8."""
    name = name or f"ESA_WorldCover_10m_{year}_v200_N48E009"
    transform = Affine(_STEP, 0, west, 0, -_STEP, north)
    write_cog(catalogue.folder / f"{name}.tif", codes, transform, "EPSG:4326", nodata=0)
    height, width = codes.shape
    bounds = west, north - height * _STEP, west + width * _STEP, north
    return catalogue.add(
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": name,
            "collection": "esa-worldcover",
            "bbox": list(bounds),
            "geometry": mapping(box(*bounds)),
            "properties": {
                "datetime": None,
                "start_datetime": f"{year}-01-01T00:00:00Z",
                "end_datetime": f"{year}-12-31T23:59:59Z",
                "esa_worldcover:product_version": "2.0.0",
            },
            "assets": {
                "map": {
                    "href": f"{catalogue.url}/files/{name}.tif",
                    "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                    "roles": ["data"],
                    "raster:bands": [{"nodata": 0, "data_type": "uint8"}],
                },
                "input_quality": {
                    "href": f"{catalogue.url}/files/quality.tif",
                    "type": "image/tiff; application=geotiff",
                    "roles": ["metadata"],
                },
            },
            "links": [],
        }
    )


def labelled_place(catalogue, bounds=MUNICH, days=(4, 16), crs="EPSG:32632", codes=None, seed=0):
    """Adds a land-cover map of a place, and a scene for each day whose levels follow it.

    Returns:
        Codes of the map, (h, w) uint8, with its west and north.
    """
    rng = np.random.default_rng(seed)
    west, south, east, north = bounds
    left, top = west - 40 * _STEP, north + 40 * _STEP
    shape = round((top - south) / _STEP) + 40, round((east - left) / _STEP) + 40
    if codes is None:
        codes = blobs(rng, shape, tuple(LEVELS_DB), size=48)
    land_cover_item(catalogue, codes, left, top, name=f"ESA_WorldCover_10m_2021_v200_{seed}")
    x0, y0, x1, y1 = transform_bounds("EPSG:4326", crs, *bounds)
    x0, y1 = np.floor(x0 / 10) * 10 - 100, np.ceil(y1 / 10) * 10 + 100
    grid = Affine(10, 0, x0, 0, -10, y1)
    size = int((y1 - y0) / 10) + 10, int((x1 - x0) / 10) + 10
    there = np.zeros(size, np.uint8)
    reproject(
        codes, there, src_transform=Affine(_STEP, 0, left, 0, -_STEP, top), src_crs="EPSG:4326",
        dst_transform=grid, dst_crs=crs, resampling=Resampling.nearest,
    )  # fmt: skip
    levels = np.full(256, -40.0)
    levels[list(LEVELS_DB)] = list(LEVELS_DB.values())
    for day in days:
        speckle = rng.gamma(4.4, 1 / 4.4, (2, *size))
        vv = 10 ** (levels[there] / 10) * speckle[0]
        vh = 10 ** (levels[there] / 10 - 0.7) * speckle[1]
        vv[there == 0] = vh[there == 0] = -32768
        name = f"{seed}_202406{day:02}T0526"
        base = f"{catalogue.url}/files"
        start = f"2024-06-{day:02}T05:26:03.000000Z"
        catalogue.add(
            rtc_item(catalogue.folder, base, name, {"VV": vv, "VH": vh}, grid, crs, start=start)
        )
    return codes, left, top
