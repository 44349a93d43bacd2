"""Small labelled scenes for the tests of training data."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from cwsam_geo.core.legend import Legend

UTM = "EPSG:32633"
PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)
CLASSES = [
    {"code": 1, "name": "water", "color": "#0000ff"},
    {"code": 2, "name": "trees", "color": "#00ff00"},
    {"code": 4, "name": "built", "color": "#ff0000"},
]
LEGEND = Legend.from_list(CLASSES)


def write_raster(path, array, transform=PLACE, crs=UTM, **more):
    """Writes (h, w) or (N, h, w); without a transform and CRS where they are None."""
    bands = array if array.ndim == 3 else array[np.newaxis]
    georeference = {k: v for k, v in (("transform", transform), ("crs", crs)) if v is not None}
    options = {"driver": "GTiff", **georeference, **more}
    tags = options.pop("descriptions", None)
    with rasterio.open(
        path,
        "w",
        count=len(bands),
        height=bands.shape[1],
        width=bands.shape[2],
        dtype=bands.dtype,
        **options,
    ) as out:
        out.write(bands)
        if tags:
            out.descriptions = tags
    return Path(path)


def blobs(rng, shape, codes=(1, 2, 4), size=16):
    """Squares of codes."""
    coarse = rng.choice(codes, (shape[0] // size + 1, shape[1] // size + 1))
    return np.kron(coarse, np.ones((size, size)))[: shape[0], : shape[1]].astype(np.uint8)


def write_scene(path, rng, labels, **more):
    """VV and VH in dB whose levels follow the labels, with speckle."""
    levels = np.select([labels == 1, labels == 2, labels == 4], [-20.0, -10.0, -3.0], -12.0)
    vv = levels + rng.normal(0, 1, labels.shape)
    return write_raster(
        path,
        np.stack([vv, vv - 7]).astype(np.float32),
        descriptions=("VV", "VH"),
        **more,
    )


def region(scenes, **more):
    """A region's mapping."""
    train = {"tile_size": 64, "overlap": 8, **more.pop("train", {})}
    return {"classes": CLASSES, "scenes": scenes, "init": "tiny", "train": train, **more}
