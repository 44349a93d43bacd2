"""Labelled tiles of big scenes: drawn anew for training, fixed for validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.grid import TilePlan, Window
from cwsam_geo.preprocess import PreprocessSpec, SceneBands
from cwsam_geo.train.augment import MOSAIC_CUTS, replace_part, vary
from cwsam_geo.train.class_sets import CELL, CellCounts
from cwsam_geo.train.config import TileOptions
from cwsam_geo.train.regions import TRAIN
from cwsam_geo.train.scene_files import SceneReader

Sample = tuple[NDArray[np.float32], NDArray[np.uint16]]
"""A preprocessed image (3, T, T), and for each pixel (T, T) a row of the table of class sets."""

LEAST_SAMPLES = 32
"""Tiles of an epoch at least, so that small scenes are not validated more than trained on."""

LACKING = 0.25
"""Share of the training tiles that lack the bands which a scene may lack."""

_CANDIDATES = 4


@dataclass(frozen=True)
class TrainingLabels:
    """Where the labels to train on are.

    Attributes:
        cells: Of each scene, its labels of training pixels.
        sets: Which classes each label row allows, shape (S, K), bool.
        usable: Of each scene and cell, the share of its pixels that are for training.
    """

    cells: tuple[CellCounts, ...]
    sets: NDArray[np.bool_]
    usable: tuple[NDArray[np.float32], ...]

    @property
    def per_set(self) -> NDArray[np.int64]:
        """Training pixels of each label row, shape (S,)."""
        total = np.zeros(len(self.sets), np.int64)
        for cells in self.cells:
            total += cells.per_set(len(self.sets))
        return total

    @property
    def per_class(self) -> NDArray[np.int64]:
        """Training pixels whose label is one class, by class, shape (K,).

        Partial labels are counted with none: which class they are is what nobody knows.
        """
        single = self.sets.sum(1) == 1
        return np.asarray(self.per_set[single] @ self.sets[single], np.int64)


class TrainingTiles:
    """Tiles for training: sample ``index`` of epoch ``epoch`` is always the same.

    A part of the samples is drawn class by class, the rest from all labels alike. A tile may
    reach over pixels that are not for training: these are nodata in its image, and have no label.

    Args:
        reader: The scenes.
        labels: Where the labels are.
        spec: What the model takes.
        options: How tiles are cut and varied.
        seed: Decides the draws.
    """

    def __init__(
        self,
        reader: SceneReader,
        labels: TrainingLabels,
        spec: PreprocessSpec,
        options: TileOptions,
        seed: int,
    ) -> None:
        self._reader, self._spec, self._options, self._seed = reader, spec, options, seed
        self._draw = _Draw(labels, options)
        self._corners = [_summed(usable) for usable in labels.usable]
        cover = round(int(labels.per_set.sum()) / options.tile_size**2)
        self._length = options.samples or max(LEAST_SAMPLES, cover)

    def __len__(self) -> int:
        """Samples of an epoch: as many as cover the labels once, and 32, unless told otherwise."""
        return self._length

    def sample(self, epoch: int, index: int) -> Sample:
        """A sample; a function of the seed, the epoch and the index alone.

        Args:
            epoch: From 0.
            index: From 0; it may be beyond the length.

        Raises:
            SceneError: The scene is damaged there.
        """
        rng = np.random.default_rng([self._seed, epoch, index])
        tile = self._tile(rng)
        if "mosaic" in self._options.augment:
            for _ in range(MOSAIC_CUTS):
                replace_part(tile, self._tile(rng), rng)
        return tile

    def _tile(self, rng: np.random.Generator) -> Sample:
        """A tile from one place."""
        scene, window = self.window(rng)
        tile = self._reader.read(scene, window)
        bands = self._reader.scenes[scene].file.bands
        usable = tile.valid & (tile.roles == TRAIN)
        labels = np.where(usable, tile.labels, 0)
        image, (usable, labels) = vary(
            tile.values, (usable, labels), bands.units, self._options.augment, rng
        )
        usable = np.ascontiguousarray(usable, np.bool_)
        return (
            self._spec.apply(np.ascontiguousarray(image), usable, self._seen(bands, rng)),
            np.ascontiguousarray(labels, np.uint16),
        )

    def _seen(self, bands: SceneBands, rng: np.random.Generator) -> SceneBands:
        """The scene's bands; sometimes without those that a scene may lack."""
        fills = self._spec.fill
        if all(fill is None for fill in fills) or rng.random() >= LACKING:
            return bands
        pairs = zip(bands.positions, fills, strict=True)
        return replace(bands, positions=tuple(p if f is None else None for p, f in pairs))

    def window(self, rng: np.random.Generator) -> tuple[int, Window]:
        """Draws a scene and a window in it.

        The window holds a labelled cell that was drawn (or lies in it, where tiles are smaller).
        Of several such windows it is the one with the most pixels for training.
        """
        scene, cell_row, cell_col = self._draw.cell(rng)
        grid = self._reader.scenes[scene].file.grid
        tile = self._options.tile_size
        first, last = sorted((CELL - tile, 0))
        best, most = Window(0, 0, tile, tile), -1.0
        for _ in range(_CANDIDATES):
            down, right = rng.integers(first, last + 1, size=2).tolist()
            row = _placed(cell_row * CELL + down, grid.height, tile)
            col = _placed(cell_col * CELL + right, grid.width, tile)
            window = Window(row, col, tile, tile)
            share = _share(self._corners[scene], window)
            if share > most:
                best, most = window, share
        return scene, best

    def close(self) -> None:
        """Closes the files."""
        self._reader.close()


class FixedTiles:
    """Tiles for validation or test: every labelled pixel with that role is in exactly one.

    The tiles are those of ``TilePlan``, as predict lays them; a pixel counts in the tile that
    settles it. Their images show what is around, whatever it is for.

    Args:
        reader: The scenes.
        cells: Of each scene, its labels of pixels with that role.
        role: The role.
        spec: What the model takes.
        options: How tiles are cut.
    """

    def __init__(
        self,
        reader: SceneReader,
        cells: Sequence[CellCounts],
        role: int,
        spec: PreprocessSpec,
        options: TileOptions,
    ) -> None:
        self._reader, self._role, self._spec = reader, role, spec
        self._tiles = [
            (scene, tile.window, tile.settles)
            for scene, counts in enumerate(cells)
            if len(counts.cells)
            for grid in [reader.scenes[scene].file.grid]
            for sums in [_summed(counts.labelled())]
            for tile in TilePlan(grid.height, grid.width, options.tile_size, options.shared)
            if _share(sums, tile.settles) > 0
        ]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._tiles)

    def sample(self, epoch: int, index: int) -> Sample:
        """A tile; the same in every epoch.

        Raises:
            SceneError: The scene is damaged there.
        """
        scene, window, settles = self._tiles[index]
        tile = self._reader.read(scene, window)
        here = np.zeros(tile.valid.shape, np.bool_)
        here[settles.within(window).slices] = True
        labels = np.where(here & (tile.roles == self._role), tile.labels, 0)
        bands = self._reader.scenes[scene].file.bands
        return self._spec.apply(tile.values, tile.valid, bands), labels.astype(np.uint16)

    def close(self) -> None:
        """Closes the files."""
        self._reader.close()


class _Draw:
    """Draws labelled cells, of all labels alike or class by class."""

    def __init__(self, labels: TrainingLabels, options: TileOptions) -> None:
        self._balance = options.balance
        self._widths = [cells.shape[1] for cells in labels.cells]
        self._scene = np.repeat(np.arange(len(labels.cells)), [len(c.cells) for c in labels.cells])
        self._cell = np.concatenate([c.cells for c in labels.cells])
        sets = np.concatenate([c.sets for c in labels.cells])
        pixels = np.concatenate([c.pixels for c in labels.cells]).astype(np.float64)
        self._all = pixels.cumsum()
        self._by_class = []
        for k in range(labels.sets.shape[1]):
            allowing = labels.sets[:, k]
            # Where some labels name the class alone, only these teach what it looks like.
            alone = allowing & (labels.sets.sum(1) == 1)
            share = (alone if alone[sets].any() else allowing)[sets].astype(np.float64)
            there = np.flatnonzero(share > 0)
            if len(there):
                self._by_class.append((there, (pixels * share)[there].cumsum()))

    def cell(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Scene, row and column of a cell."""
        balanced, which, place = rng.random(3)
        if balanced < self._balance:
            there, sums = self._by_class[int(which * len(self._by_class))]
            entry = int(there[_drawn(sums, place)])
        else:
            entry = _drawn(self._all, place)
        scene = int(self._scene[entry])
        row, col = divmod(int(self._cell[entry]), self._widths[scene])
        return scene, row, col


def _drawn(sums: NDArray[np.float64], place: float) -> int:
    return min(int(np.searchsorted(sums, place * sums[-1], "right")), len(sums) - 1)


def _placed(start: int, length: int, tile: int) -> int:
    """Where a tile starts: inside the scene, or around it where the scene is smaller."""
    low, high = sorted((0, length - tile))
    return min(max(start, low), high)


def _summed(cells: NDArray[np.generic]) -> NDArray[np.float64]:
    """Sums of all cells above and left of each corner, shape (rows + 1, cols + 1)."""
    sums = np.zeros((cells.shape[0] + 1, cells.shape[1] + 1))
    sums[1:, 1:] = cells.astype(np.float64).cumsum(0).cumsum(1)
    return sums


def _share(sums: NDArray[np.float64], window: Window) -> float:
    """Sum over the cells that a window touches."""
    rows, cols = sums.shape[0] - 1, sums.shape[1] - 1
    top, bottom = max(0, window.row // CELL), min(rows, -(-window.bottom // CELL))
    left, right = max(0, window.col // CELL), min(cols, -(-window.right // CELL))
    if top >= bottom or left >= right:
        return 0.0
    return float(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left])
