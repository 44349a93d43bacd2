"""Class rasters for the tests of vectorize."""

import json

import numpy as np
import rasterio
from affine import Affine
from hypothesis import settings
from hypothesis import strategies as st

unhurried = settings(deadline=None)
"""For properties: how long an example takes on a busy machine is no finding."""

UTM = "EPSG:32633"
NORTH_UP = Affine(10, 0, 400_000, 0, -10, 5_500_000)


class ArrayStrips:
    """An array of codes in strips of so many rows."""

    def __init__(self, codes, rows):
        self.codes, self.rows = np.asarray(codes), rows
        (self.height, self.width), self.dtype = self.codes.shape, self.codes.dtype

    def strips(self):
        for top in range(0, self.height, self.rows):
            yield top, self.codes[top : top + self.rows]


@st.composite
def codes(draw, largest=16, classes=4):
    """Arrays of codes, 0 for nodata: noise, blocks or blobs."""
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    least = draw(st.integers(0, 1))
    kinds = draw(st.integers(least, classes))
    scale = draw(st.integers(1, 3))
    array = rng.integers(least, kinds + 1, (-(-height // scale), -(-width // scale)), np.uint8)
    array = array.repeat(scale, 0).repeat(scale, 1)[:height, :width]
    if draw(st.booleans()):
        # Blobs with ragged edges.
        array = np.where(rng.random(array.shape) < 0.15, np.roll(array, 1, 0), array)
    return array


strip_rows = st.integers(1, 20)


def write_classes(path, array, legend=None, **profile):
    """Writes an array as a GeoTIFF; ``legend`` maps codes to names and colours."""
    array = np.asarray(array)
    bands = array[None] if array.ndim == 2 else array
    settings = {
        "driver": "GTiff",
        "height": bands.shape[1],
        "width": bands.shape[2],
        "count": len(bands),
        "dtype": array.dtype,
        "crs": UTM,
        "transform": NORTH_UP,
        **profile,
    }
    with rasterio.open(path, "w", **{k: v for k, v in settings.items() if v is not None}) as sink:
        sink.write(bands)
        if legend is not None:
            listed = [{"code": c, "name": n, "color": rgb} for c, (n, rgb) in legend.items()]
            sink.update_tags(LEGEND=json.dumps(listed))
    return path
