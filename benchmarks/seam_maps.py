"""Whole scenes mapped with any tiles and blend, in memory; for seams.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import rasterio
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scenes import write_scene
from simulator.landscape import LEGEND
from simulator.scene import SceneSpec

from cwsam_geo.core.grid import Window
from cwsam_geo.core.legend import NODATA, Legend
from cwsam_geo.core.preprocess import PreprocessSpec, SceneBands
from cwsam_geo.core.tiling import TilePlan
from cwsam_geo.model.runtime.predictor import load_model
from cwsam_geo.prediction.blend import BlendName, profile, shares
from cwsam_geo.prediction.stream import RowBand
from cwsam_geo.scene.reading import plan_reading
from cwsam_geo.scene.source import open_source

Logits = NDArray[np.float32]

BATCH = 16
"""Tiles at once."""


@dataclass(frozen=True)
class Scene:
    """A scene in memory.

    Attributes:
        label: What to call it.
        band: All its pixels.
        bands: How they answer to the model's bands.
        truth: Channel of every pixel, or None where it is not known.
    """

    label: str
    band: RowBand
    bands: SceneBands
    truth: NDArray[np.uint8] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.band.window.height, self.band.window.width

    def cut(self, row: int, col: int) -> Scene:
        """Without the first rows and columns."""
        here = slice(row, None), slice(col, None)
        valid = self.band.valid[here]
        window = Window(0, 0, *valid.shape)
        band = RowBand(window, self.band.values[(slice(None), *here)], valid)
        truth = None if self.truth is None else self.truth[here]
        return replace(self, band=band, truth=truth)


def read_scene(path: Path, spec: PreprocessSpec, truth: NDArray[np.uint8] | None = None) -> Scene:
    """A scene as predict reads it, but all at once."""
    with open_source([path]) as source:
        reading = plan_reading(source, spec)
        window = source.grid.window
        return Scene(
            path.name, RowBand(window, *reading.source.read(window)), reading.scene_bands, truth
        )


def simulated_scene(
    folder: Path, side: int, seed: int, spec: PreprocessSpec, legend: Legend
) -> Scene:
    """A square scene without edge; its truth too, where the model knows all its classes."""
    path, cover = folder / f"seed {seed}.tif", folder / f"seed {seed} truth.tif"
    write_scene(path, cover, SceneSpec(side, side, seed, tilt=0.0))
    truth = None
    if set(LEGEND.names) <= set(legend.names):
        channels = np.full(256, NODATA, np.uint8)
        for code, name in zip(LEGEND.codes, LEGEND.names, strict=True):
            channels[code] = legend.names.index(name)
        with rasterio.open(cover) as file:
            truth = channels[file.read(1)]
    return read_scene(path, spec, truth)


@dataclass(frozen=True)
class Tiling:
    """Where tiles begin, in logits.

    Attributes:
        rows: Along the columns, ascending.
        cols: Along the rows, ascending.
        size: Logits along a tile's side.
        overlap: Logits shared by neighbours.
        stride: Pixels per logit.
    """

    rows: tuple[int, ...]
    cols: tuple[int, ...]
    size: int
    overlap: int
    stride: int

    @classmethod
    def of(cls, plan: TilePlan) -> Tiling:
        """The tiles of a plan as predict has it."""
        stride = plan.stride
        rows = tuple(o // stride for o in plan.row_offsets)
        cols = tuple(o // stride for o in plan.col_offsets)
        return cls(rows, cols, plan.tile_size // stride, plan.overlap // stride, stride)

    def denser(self, step: int) -> Tiling:
        """As many tiles as begin every ``step`` logits."""
        rows, cols = ((*range(0, o[-1], step), o[-1]) for o in (self.rows, self.cols))
        return Tiling(rows, cols, self.size, self.size - step, self.stride)

    def edges(self, axis: int) -> NDArray[np.int64]:
        """First logits behind the edges of tiles inside the scene, along one axis."""
        offsets = np.array((self.rows, self.cols)[axis])
        lines = np.union1d(offsets, offsets + self.size)
        return lines[(lines > 0) & (lines < offsets[-1] + self.size)]

    def overlaps(self, axis: int) -> list[int]:
        """First logit of each overlap of the planned width, along one axis."""
        offsets = (self.rows, self.cols)[axis]
        step = self.size - self.overlap
        return [b for a, b in pairwise(offsets) if b - a == step]


class Mapper:
    """A model, and what it says of the tiles of a scene.

    Args:
        model: Name or path of a bundle.
        precision: Number format of its arithmetic.
    """

    def __init__(self, model: str, precision: str) -> None:
        self._model = load_model(model, "cpu", precision, "fast")
        self.tile_size = self._model.architecture.tile_size
        self.stride = self._model.architecture.stride
        self.spec: PreprocessSpec = self._model.preprocess
        self.legend: Legend = self._model.legend

    def plan(self, shape: tuple[int, int], overlap: Fraction) -> TilePlan:
        """The tiles of a scene as predict has them."""
        return TilePlan(*shape, self.tile_size, int(overlap * self.tile_size), self.stride)

    def tiles(self, scene: Scene, tiling: Tiling) -> Iterator[tuple[int, int, Logits]]:
        """Row and column of each tile that holds data, with its logits."""
        waiting: list[tuple[int, int, NDArray[np.float32]]] = []
        size, stride = self.tile_size, tiling.stride
        for i, top in enumerate(tiling.rows):
            for j, left in enumerate(tiling.cols):
                values, valid = scene.band.cut(Window(top * stride, left * stride, size, size))
                if valid.any():
                    waiting.append((i, j, self.spec.apply(values, valid, scene.bands)))
                if len(waiting) == BATCH:
                    yield from self._logits(waiting)
                    waiting = []
        yield from self._logits(waiting)

    def _logits(
        self, waiting: Sequence[tuple[int, int, NDArray[np.float32]]]
    ) -> Iterator[tuple[int, int, Logits]]:
        if not waiting:
            return
        images = torch.from_numpy(np.stack([image for _, _, image in waiting]))
        with torch.inference_mode():
            logits = self._model(images).numpy()
        for (i, j, _), one in zip(waiting, logits, strict=True):
            yield i, j, one

    def blended(
        self, scene: Scene, tiling: Tiling, blends: Sequence[BlendName]
    ) -> dict[BlendName, Logits]:
        """Logits of a whole scene, (K, h, w), under each blend."""
        n = tiling.size
        shape = (len(self.legend), tiling.rows[-1] + n, tiling.cols[-1] + n)
        weights = {b: profile(b, n, tiling.overlap) for b in blends}
        down = {b: shares(tiling.rows, w) for b, w in weights.items()}
        along = {b: shares(tiling.cols, w) for b, w in weights.items()}
        sums = {b: np.zeros(shape, np.float32) for b in blends}
        for i, j, logits in self.tiles(scene, tiling):
            rows, cols = (slice(o, o + n) for o in (tiling.rows[i], tiling.cols[j]))
            for blend, total in sums.items():
                part = np.outer(down[blend][i], along[blend][j]).astype(np.float32)
                total[:, rows, cols] += logits * part
        return sums

    def classes(self, logits: Logits, scene: Scene) -> NDArray[np.uint8]:
        """Channel of every pixel of a scene."""
        fine = F.interpolate(
            torch.from_numpy(logits)[None],
            scale_factor=self.stride,
            mode="bilinear",
            align_corners=False,
        )
        height, width = scene.shape
        channels: NDArray[np.uint8] = fine[0, :, :height, :width].max(0)[1].numpy().astype(np.uint8)
        return channels
