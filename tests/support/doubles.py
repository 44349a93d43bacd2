"""A source and a predictor that are simple enough to be right at sight."""

import numpy as np
from affine import Affine
from numpy_ops import NumpyOps
from rasterio.crs import CRS

from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.preprocess import ImageStack, PreprocessSpec, SceneBands
from cwsam_geo.scene.bands import Pixels, ZeroPower

UTM = CRS.from_epsg(32633)


def legend(classes, first=0):
    colors = [
        f"#{(i * 40) % 256:02x}{(i * 90 + 20) % 256:02x}{255 - i:02x}" for i in range(classes)
    ]
    return Legend.from_list(
        [{"code": first + i, "name": f"class {i}", "color": c} for i, c in enumerate(colors)]
    )


def plain_spec(tile_size):
    """One band, taken as it is."""
    return PreprocessSpec(
        bands=("gray",),
        channels=("gray", "gray", "gray"),
        scaling="linear",
        clip=((-1e6, 1e6),),
        mean=(0, 0, 0),
        std=(1, 1, 1),
        tile_size=tile_size,
        fill=(None,),
    )


PLAIN_BANDS = SceneBands(units="power", positions=(0,))


class ArraySource:
    """A scene in memory; counts how often each row is read."""

    label = "array"
    remote = False
    zero = ZeroPower((0.0,))

    def __init__(self, values, valid=None, block_shape=(1, 256), transform=None):
        self.values = np.atleast_3d(np.asarray(values, np.float32).T).T
        self.valid = np.ones(self.values.shape[1:], bool) if valid is None else valid
        count, height, width = self.values.shape
        self.grid = SceneGrid(
            height,
            width,
            transform or Affine(10, 0, 5e5, 0, -10, 6e6),
            UTM,
            count,
            block_shape=block_shape,
        )
        self.rows_read = np.zeros(height, int)

    def read(self, window):
        self.rows_read[window.slices[0]] += 1
        return self.values[(slice(None), *window.slices)], self.valid[window.slices]

    def examine(self, window):
        values, valid = self.read(window)
        data = np.broadcast_to(valid, values.shape)
        return Pixels(values, data, (values == 0).all(axis=0))


class OwnValuePredictor:
    """The class of a pixel is its value in the first channel."""

    ops = NumpyOps()
    stride = 1

    def __init__(self, tile_size, num_classes, largest_batch=10**6):
        self.tile_size, self.num_classes = tile_size, num_classes
        self.largest_batch = largest_batch
        self.batches = []

    stack = staticmethod(ImageStack)

    def finish(self):
        return 0.0

    def __call__(self, batch):
        assert batch.dtype == np.float32
        assert batch.shape[1:] == (3, self.tile_size, self.tile_size)
        assert np.isfinite(batch).all()
        if len(batch) > self.largest_batch:
            raise MemoryError
        self.batches.append(len(batch))
        classes = np.arange(self.num_classes, dtype=np.float32)[:, None, None]
        return -np.abs(batch[:, :1] - classes)


class ContextPredictor(OwnValuePredictor):
    """Answers differently for the same ground in another tile, as a network does.

    The logits of a pixel depend on its place in the tile and on everything else in the tile.
    """

    def __init__(self, tile_size, num_classes, stride=1, seed=0):
        super().__init__(tile_size, num_classes)
        self.stride, n = stride, tile_size // stride
        self.places = np.random.default_rng(seed).normal(size=(num_classes, n, n)).astype("f4")

    def __call__(self, batch):
        self.batches.append(len(batch))
        n, s = self.tile_size // self.stride, self.stride
        cells = batch[:, 0].reshape(len(batch), n, s, n, s).mean((2, 4))
        around = [(tile * self.places[0]).sum() + tile.std() for tile in cells]
        return np.stack(
            [c * self.places + a * self.places[::-1] for c, a in zip(cells, around, strict=True)]
        )


class MaskedPart:
    """A part of a scene in memory: pixels of a window, by a mask of the whole scene."""

    def __init__(self, window, mask):
        self.window, self.mask = window, mask

    def contains(self, window):
        assert window.intersect(self.window) == window
        return self.mask[window.slices]


class ArraySink:
    def __init__(self, height, width, bands=None):
        shape = (height, width) if bands is None else (bands, height, width)
        self.values = np.full(shape, 254, np.uint8)
        self.times = np.zeros((height, width), int)

    def write(self, window, values):
        self.times[window.slices] += 1
        self.values[(..., *window.slices)] = values
