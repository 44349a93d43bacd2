"""STAC items and rasters in the shape that the named catalogues serve."""

import numpy as np
import rasterio
from affine import Affine
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping


def write_cog(path, array, transform, crs, nodata=-32768.0, **more):
    """A tiled float32 raster of one band with 64 px blocks, (h, w)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {
        "driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64,
        "compress": "DEFLATE", "nodata": nodata, "transform": transform, "crs": crs,
    } | more  # fmt: skip
    with rasterio.open(
        path, "w", height=array.shape[0], width=array.shape[1], count=1, dtype=array.dtype,
        **{k: v for k, v in options.items() if v is not None},
    ) as out:  # fmt: skip
        out.write(array, 1)
    return path


def rtc_item(folder, base, name, arrays, transform, crs="EPSG:32633", **more):
    """An item as the Planetary Computer's sentinel-1-rtc has it, with its rasters in a folder.

    Args:
        base: Address of the folder.
        name: The part of the id between the mode and ``_rtc``; names the folder of the rasters.
        arrays: Values by polarisation, (h, w) each, with -32768 for nodata.
        more: ``start``, ``orbit``, ``relative_orbit``, ``absolute_orbit``, ``platform``.
    """
    arrays = {k.lower(): np.asarray(v, np.float32) for k, v in arrays.items()}
    height, width = next(iter(arrays.values())).shape
    place = f"GRD/2024/{name}/measurement"
    for key, array in arrays.items():
        write_cog(folder / place / f"iw-{key}.rtc.tiff", array, transform, crs)
    left, top = transform * (0, 0)
    right, bottom = transform * (width, height)
    bounds = transform_bounds(crs, "EPSG:4326", left, bottom, right, top, densify_pts=21)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"S1A_IW_GRDH_1SDV_{name}_rtc",
        "collection": "sentinel-1-rtc",
        "bbox": list(bounds),
        "geometry": mapping(box(*bounds)),
        "properties": {
            "datetime": more.get("start", "2024-06-04T05:26:03.123456Z"),
            "platform": more.get("platform", "SENTINEL-1A"),
            "constellation": "Sentinel-1",
            "sar:polarizations": [key.upper() for key in arrays],
            "sar:product_type": "GRD",
            "sar:looks_equivalent_number": 4.4,
            "sat:orbit_state": more.get("orbit", "descending"),
            "sat:relative_orbit": more.get("relative_orbit", 168),
            "sat:absolute_orbit": more.get("absolute_orbit", 54172),
            "proj:epsg": int(crs.split(":")[1]),
            "proj:shape": [height, width],
            "proj:transform": list(transform)[:6],
        },
        "assets": {
            **{
                key: {
                    "href": f"{base}/{place}/iw-{key}.rtc.tiff",
                    "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                    "roles": ["data"],
                    "title": f"{key.upper()}: terrain corrected",
                    "raster:bands": [{"nodata": -32768, "data_type": "float32"}],
                }
                for key in arrays
            },
            "rendered_preview": {
                "href": f"{base}/preview.png?assets=vv&assets=vh",
                "type": "image/png",
                "roles": ["overview"],
            },
            "tilejson": {"href": f"{base}/tilejson.json", "type": "application/json"},
        },
        "links": [],
    }


def power(rng, shape, level_db=-11.0):
    """Gamma-distributed power of 4.4 looks, (h, w) float32."""
    return (10 ** (level_db / 10) * rng.gamma(4.4, 1 / 4.4, shape)).astype(np.float32)


UTM33 = Affine(10, 0, 500_000, 0, -10, 5_600_000)
