"""Labelled tiles of large scenes: drawn at random for training, fixed for validation and test."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.core.preprocess import PreprocessSpec, SceneBands
from cwsam_geo.core.temperatures import Bands
from cwsam_geo.core.tiling import TilePlan
from cwsam_geo.finetuning.data.augment import MOSAIC_CUTS, replace_part, vary
from cwsam_geo.finetuning.data.scene_files import SceneReader
from cwsam_geo.finetuning.region.config import TileOptions
from cwsam_geo.finetuning.split.roles import TRAIN
from cwsam_geo.finetuning.targets.class_sets import CELL, CellCounts
from cwsam_geo.finetuning.training.batches import Sample

"""A preprocessed image (3, T, T), and for each pixel (T, T) a row of the table of class sets."""

LEAST_SAMPLES = 32
"""Least number of tiles in an epoch.

On small scenes, epochs of fewer tiles would spend more time on validation than on training.
"""

LACKING = 0.25
"""Share of the training tiles without the optional band: the model learns to do without it.

If n bands are optional, a share of 1 - (1 - LACKING)^n lacks one or more of them.
"""

# Windows drawn around a labelled cell; the one with the most pixels for training is used.
_CANDIDATES = 4


@dataclass(frozen=True)
class TrainingLabels:
    """Counts of the labels to train on.

    Attributes:
        cells: Labels of the training pixels, one entry for each scene.
        sets: Which classes each label row allows, shape (S, K), bool.
        usable: How much of each cell is for training, 0 to 1. One float32 array for each scene,
            with the shape of its cells.
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
        """Training pixels of each class, shape (K,), int64.

        Partial labels count for no class, since their class is not known.
        """
        single = self.sets.sum(1) == 1
        return np.asarray(self.per_set[single] @ self.sets[single], np.int64)


class TrainingTiles:
    """Tiles for training: sample ``index`` of epoch ``epoch`` is always the same.

    A share of the samples (``options.balance``) is drawn class by class, the rest uniformly over
    all labelled pixels. A tile may extend over pixels that are not for training. Those pixels are
    nodata in its image and have no label.

    Args:
        reader: Reads the scenes and their labels.
        labels: Counts of the labels, in the order of the reader's scenes.
        spec: The model's preprocessing.
        options: How tiles are cut and varied.
        seed: Seed of all draws.
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
        # As many tiles as have the area of all labelled pixels.
        cover = round(int(labels.per_set.sum()) / options.tile_size**2)
        self._length = options.samples or max(LEAST_SAMPLES, cover)

    def __len__(self) -> int:
        """Samples of an epoch: ``options.samples``, or enough to cover the labels, at least 32."""
        return self._length

    def sample(self, epoch: int, index: int) -> Sample:
        """Returns a sample, which depends on the seed, the epoch and the index alone.

        Args:
            epoch: Number of the epoch, from 0.
            index: Number of the sample, from 0; it may be beyond the length.

        Raises:
            SceneError: The scene is damaged within the tile.
        """
        rng = np.random.default_rng([self._seed, epoch, index])
        tile = self._tile(rng)
        if "mosaic" in self._options.augment:
            for _ in range(MOSAIC_CUTS):
                replace_part(tile, self._tile(rng), rng)
        return tile

    def _tile(self, rng: np.random.Generator) -> Sample:
        """A varied tile that is cut from one place of one scene."""
        scene, window = self.window(rng)
        tile = self._reader.read(scene, window)
        bands = self._reader.scenes[scene].file.bands
        usable = tile.valid & (tile.roles == TRAIN)
        labels = np.where(usable, tile.labels, 0)  # (T, T), 0 is no label
        image, (usable, labels) = vary(
            tile.values, (usable, labels), bands.units, self._options.augment, rng
        )
        usable = np.ascontiguousarray(usable, np.bool_)
        return (
            self._spec.apply(np.ascontiguousarray(image), usable, self._seen(bands, rng)),
            np.ascontiguousarray(labels, np.uint16),
        )

    def _seen(self, bands: SceneBands, rng: np.random.Generator) -> SceneBands:
        """The scene's bands; for a share of the tiles without some of the optional ones."""
        # A band with a fill value is optional. Position None makes the spec use the fill value.
        optional = [i for i, fill in enumerate(self._spec.fill) if fill is not None]
        if not optional or rng.random() >= 1 - (1 - LACKING) ** len(optional):
            return bands
        there = [i for i, position in enumerate(bands.positions) if position is not None]
        choices = [
            left_out
            for count in range(1, len(optional) + 1)
            for left_out in combinations(optional, count)
            if set(there) - set(left_out)
        ]
        if not choices:
            return bands
        # Without a draw where there is no choice.
        left_out = choices[int(rng.integers(len(choices))) if len(choices) > 1 else 0]
        positions = enumerate(bands.positions)
        return replace(bands, positions=tuple(None if i in left_out else p for i, p in positions))

    def window(self, rng: np.random.Generator) -> tuple[int, Window]:
        """Draws a labelled cell, and a window around it with many pixels for training.

        Returns:
            The scene's index and the window. The window contains the cell, or lies in it where
            tiles are smaller than cells.
        """
        scene, cell_row, cell_col = self._draw.cell(rng)
        grid = self._reader.scenes[scene].file.grid
        tile = self._options.tile_size
        # Offsets of the window from the cell at which the larger contains the smaller.
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
    """Tiles for validation or test, the same in every epoch.

    The tiles are those of ``TilePlan``, as in prediction. Every labelled pixel with the role counts
    in exactly one tile, the one that settles it. The images show all pixels of the scene, as in
    prediction, whatever the role of these pixels is.

    Args:
        reader: Reads the scenes and their labels.
        cells: Labels of the pixels with the role, one entry for each of the reader's scenes.
        role: ``VAL`` or ``TEST`` of ``train.regions``.
        spec: The model's preprocessing.
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
        # Labelled pixels of each scene.
        self._labelled = [int(counts.pixels.sum()) for counts in cells]
        # Names of the bands that the model is shown; None for all that a scene has.
        self._bands: Bands | None = None
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
        """Number of tiles."""
        return len(self._tiles)

    @property
    def labelled(self) -> int:
        """Labelled pixels of all tiles."""
        return sum(self._labelled[scene] for scene in {scene for scene, _, _ in self._tiles})

    def with_bands(self, bands: Bands, others: bool) -> FixedTiles:
        """The tiles of the scenes that have some bands of the model.

        Args:
            bands: Names of the bands. The model is not shown any others.
            others: Whether to take scenes that have other bands, too.
        """
        chosen = copy.copy(self)
        chosen._bands = bands
        chosen._tiles = [tile for tile in self._tiles if self._fits(tile[0], bands, others)]
        return chosen

    def _fits(self, scene: int, bands: Bands, others: bool) -> bool:
        there = self._spec.bands_of(self._reader.scenes[scene].file.bands)
        return set(bands) <= set(there) if others else bands == there

    def place(self, index: int) -> tuple[str, Window]:
        """The scene of a tile, and its pixels there; the window may reach beyond the scene."""
        scene, window, _ = self._tiles[index]
        return self._reader.scenes[scene].file.label, window

    def sample(self, epoch: int, index: int) -> Sample:
        """Returns a tile; ``epoch`` makes no difference.

        Raises:
            SceneError: The scene is damaged within the tile.
        """
        scene, window, settles = self._tiles[index]
        tile = self._reader.read(scene, window)
        settled = np.zeros(tile.valid.shape, np.bool_)
        settled[settles.within(window).slices] = True
        labels = np.where(settled & (tile.roles == self._role), tile.labels, 0)
        bands = self._reader.scenes[scene].file.bands
        if self._bands is not None:
            # Position None makes the spec use the fill value.
            places = zip(self._spec.bands, bands.positions, strict=True)
            shown = tuple(p if name in self._bands else None for name, p in places)
            bands = replace(bands, positions=shown)
        return self._spec.apply(tile.values, tile.valid, bands), labels.astype(np.uint16)

    def close(self) -> None:
        """Closes the files."""
        self._reader.close()


class _Draw:
    """Draws labelled cells, either uniformly over all labelled pixels or class by class."""

    def __init__(self, labels: TrainingLabels, options: TileOptions) -> None:
        # Entries are pairs of a cell and a class set. The arrays below hold the entries of all
        # scenes, one after the other, shape (N,).
        self._balance = options.balance
        self._widths = [cells.shape[1] for cells in labels.cells]
        self._scene = np.repeat(np.arange(len(labels.cells)), [len(c.cells) for c in labels.cells])
        self._cell = np.concatenate([c.cells for c in labels.cells])
        sets = np.concatenate([c.sets for c in labels.cells])
        pixels = np.concatenate([c.pixels for c in labels.cells]).astype(np.float64)
        # Drawing by the cumulative sum gives every entry a chance in proportion to its pixels.
        self._all = pixels.cumsum()
        self._by_class = []
        for k in range(labels.sets.shape[1]):
            allowing = labels.sets[:, k]
            # Partial labels are drawn for a class only if no label names the class alone.
            alone = allowing & (labels.sets.sum(1) == 1)
            share = (alone if alone[sets].any() else allowing)[sets].astype(np.float64)
            entries = np.flatnonzero(share > 0)
            if len(entries):
                self._by_class.append((entries, (pixels * share)[entries].cumsum()))

    def cell(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Draws a cell: the scene's index, and the cell's row and column."""
        balanced, which, place = rng.random(3)
        if balanced < self._balance:
            entries, sums = self._by_class[int(which * len(self._by_class))]
            entry = int(entries[_drawn(sums, place)])
        else:
            entry = _drawn(self._all, place)
        scene = int(self._scene[entry])
        row, col = divmod(int(self._cell[entry]), self._widths[scene])
        return scene, row, col


def _drawn(sums: NDArray[np.float64], place: float) -> int:
    """Index drawn in proportion to the differences of ``sums``; ``place`` is from 0 to 1."""
    return min(int(np.searchsorted(sums, place * sums[-1], "right")), len(sums) - 1)


def _placed(start: int, length: int, tile: int) -> int:
    """Shifts a tile's start so that the tile lies in the scene, or covers a smaller scene."""
    low, high = sorted((0, length - tile))
    return min(max(start, low), high)


def _summed(cells: NDArray[np.generic]) -> NDArray[np.float64]:
    """Summed-area table: sums of all cells above and left of each corner, (rows + 1, cols + 1)."""
    sums = np.zeros((cells.shape[0] + 1, cells.shape[1] + 1))
    sums[1:, 1:] = cells.astype(np.float64).cumsum(0).cumsum(1)
    return sums


def _share(sums: NDArray[np.float64], window: Window) -> float:
    """Sum over the cells that a window touches, from their summed-area table."""
    rows, cols = sums.shape[0] - 1, sums.shape[1] - 1
    top, bottom = max(0, window.row // CELL), min(rows, -(-window.bottom // CELL))
    left, right = max(0, window.col // CELL), min(cols, -(-window.right // CELL))
    if top >= bottom or left >= right:
        return 0.0
    return float(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left])
