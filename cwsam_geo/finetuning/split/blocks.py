"""Spatial splits into training, validation and test: blocks with a gap around them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cwsam_geo.errors import UsageError
from cwsam_geo.finetuning.region.config import BlockOptions, Split
from cwsam_geo.finetuning.split.assignment import BlockTable, assign_blocks
from cwsam_geo.finetuning.split.planes import Plane, planes_of
from cwsam_geo.finetuning.split.roles import ROLES, TEST, TRAIN, VAL, SceneRoles
from cwsam_geo.finetuning.targets.class_sets import CELL, CellCounts
from cwsam_geo.io.geolocation import Geolocation

# Blocks with labels. While there are fewer, an automatic block size is halved.
_ENOUGH_BLOCKS = 16
_NAMES: Mapping[int, str] = {role: name for name, role in ROLES.items()}


@dataclass(frozen=True)
class SplitScene:
    """A scene to divide.

    Attributes:
        location: Grid and georeferencing.
        cells: Counts of the labels in each cell.
        split: Role of the whole scene; None to divide the scene by blocks.
    """

    location: Geolocation
    cells: CellCounts
    split: Split | None


@dataclass(frozen=True)
class Block:
    """A block with labels.

    Attributes:
        plane: Index of the plane on which it lies.
        box: Left, bottom, right and top in the plane's coordinates.
        role: ``TRAIN``, ``VAL`` or ``TEST``.
    """

    plane: int
    box: tuple[float, float, float, float]
    role: int


@dataclass(frozen=True)
class SpatialSplit:
    """The role (training, validation, test or unused) of each pixel of each scene.

    Attributes:
        scenes: Roles of the pixels of each scene.
        blocks: The blocks with labels.
        names: Names of the scenes.
        whole: Role of each scene as a whole; None for scenes that are divided by blocks.
        remarks: Sentences for the user, such as on scenes that overlap.
    """

    scenes: tuple[SceneRoles, ...]
    planes: tuple[Plane, ...]
    blocks: tuple[Block, ...]
    names: tuple[str, ...]
    whole: tuple[Split | None, ...]
    remarks: tuple[str, ...]


def draw_split(
    scenes: Sequence[SplitScene],
    sets: NDArray[np.bool_],
    options: BlockOptions,
    tile: tuple[int, int],
    seed: int,
) -> SpatialSplit:
    """Divides scenes into training, validation and test.

    Scenes with a ``split`` keep it. The others are divided by a grid of blocks in ground
    coordinates, so that overlapping scenes agree. ``assign_blocks`` assigns the blocks with
    labels. Training pixels keep at least the gap from blocks for validation and test.

    Args:
        sets: Classes that each label may mean, shape (S, K), bool.
        options: Sizes of the blocks and the gap, and the shares of validation and test.
        tile: Side and overlap of a tile in pixels.
        seed: Seed of the draw; the same arguments give the same split.

    Raises:
        UsageError: The labels lie in too few blocks, blocks in metres are configured for a scene
            without a CRS, or no scene is left for training or validation.
    """
    gap = max(tile[1], options.gap_px or 0)
    planes = planes_of([scene.location for scene in scenes])
    remarks: list[str] = []
    blocks: tuple[Block, ...] = ()
    if any(scene.split is None for scene in scenes):
        grids = _grids(scenes, planes, options, max(tile[0], 2 * CELL), gap, remarks)
        blocks = _assigned(scenes, grids, sets, options, gap, seed)
    whole = tuple(scene.split for scene in scenes)
    for role, purpose in ((TRAIN, "training"), (VAL, "validation")):
        if _NAMES[role] not in whole and not any(b.role == role for b in blocks):
            raise UsageError(f"no scene is for {purpose}; give `split: {_NAMES[role]}` to one")
    return SpatialSplit(
        scenes=_regions(scenes, planes, blocks, gap),
        planes=tuple(planes),
        blocks=blocks,
        names=tuple(scene.location.label for scene in scenes),
        whole=whole,
        remarks=(*remarks, *_overlaps(scenes, planes)),
    )


@dataclass(frozen=True)
class _Grid:
    """The grid of blocks on a plane, with the labelled cells in it.

    Attributes:
        cols: Columns of blocks.
        size: Requested side of a block, in the plane's units.
        ids: Block (row * cols + column) of each entry of ``cells``, shape (N,).
        cells: Label counts of each scene on the plane.
    """

    index: int
    plane: Plane
    cols: int
    rows: int
    size: float
    ids: NDArray[np.int64]
    cells: tuple[CellCounts, ...]

    def box(self, block: int) -> tuple[float, float, float, float]:
        left, bottom, right, top = self.plane.bounds
        width, height = (right - left) / self.cols, (top - bottom) / self.rows
        x, y = left + block % self.cols * width, bottom + block // self.cols * height
        return x, y, x + width, y + height


def _grids(
    scenes: Sequence[SplitScene],
    planes: Sequence[Plane],
    options: BlockOptions,
    tile_size: int,
    gap: int,
    remarks: list[str],
) -> list[_Grid]:
    """Grids of the configured block size, or of one that gives enough blocks."""
    planes_to_divide = {
        i: p for i, p in enumerate(planes) if any(scenes[m].split is None for m in p.members)
    }
    least, label = max(_least_side(plane, scenes) for plane in planes_to_divide.values())
    side = options.block_size_px or max(tile_size, round(least))
    # Without a configured size, blocks start at the size of a tile and are halved until there are
    # enough of them.
    fixed = options.block_size_px is not None or options.block_size_m is not None
    while True:
        grids = [
            _grid(i, p, scenes, options.block_size_m, side) for i, p in planes_to_divide.items()
        ]
        count = sum(len(np.unique(grid.ids)) for grid in grids)
        smaller = side // 2
        if fixed or count >= _ENOUGH_BLOCKS or smaller < max(2 * gap, 2 * CELL, round(least)):
            break
        side = smaller
    needed = 3 if options.test_fraction else 2
    if count < needed:
        size = f"{options.block_size_m:g} m" if options.block_size_m else f"{side} px"
        raise UsageError(
            f"the labels lie in {count} block{'s' if count != 1 else ''} of {size}, and "
            f"{needed} are needed: set a smaller validation.block_size_m or block_size_px, or "
            "give scenes their `split:`"
        )
    if not fixed and side < tile_size:
        remarks.append(f"blocks of {side} px: with larger ones there would be too few")
    if not fixed and side > tile_size:
        remarks.append(f"blocks of {side} px: smaller ones are too small for {label}")
    return grids


def _grid(
    index: int, plane: Plane, scenes: Sequence[SplitScene], metres: float | None, pixels: int
) -> _Grid:
    if plane.crs is None and metres is not None:
        raise UsageError(
            f"{scenes[plane.members[0]].location.label}: has no CRS, so validation.block_size_m "
            "cannot be laid over it: give block_size_px instead"
        )
    size = pixels * plane.pixel if metres is None else metres / plane.unit
    least, label = _least_side(plane, scenes)
    # Side of a block in pixels of the coarsest scene
    narrowest = CELL * size / (least * plane.pixel)
    if round(narrowest) < CELL:
        option = f"block_size_px {pixels}" if metres is None else f"block_size_m {metres:g}"
        needed = least if metres is None else least * plane.pixel * plane.unit
        raise UsageError(
            f"{label}: validation.{option} makes blocks of {narrowest:.0f} px, smaller than "
            f"the cells of {CELL} px in which labels are counted: give "
            f"{math.ceil(round(needed, 3))} or more"
        )
    left, bottom, right, top = plane.bounds
    cols, rows = max(1, round((right - left) / size)), max(1, round((top - bottom) / size))
    # Block of each labelled cell, by the cell's centre
    ids, cells = [], []
    for scene in (scenes[m] for m in plane.members if scenes[m].split is None):
        width = scene.cells.shape[1]
        col = (scene.cells.cells % width + 0.5) * CELL
        row = (scene.cells.cells // width + 0.5) * CELL
        grid = scene.location.grid
        x, y = plane.of_pixels(
            scene.location, np.minimum(col, grid.width - 0.5), np.minimum(row, grid.height - 0.5)
        )
        i = np.clip((x - left) / (right - left) * cols, 0, cols - 1).astype(np.int64)
        j = np.clip((y - bottom) / (top - bottom) * rows, 0, rows - 1).astype(np.int64)
        ids.append(j * cols + i)
        cells.append(scene.cells)
    return _Grid(index, plane, cols, rows, size, np.concatenate(ids), tuple(cells))


def _least_side(plane: Plane, scenes: Sequence[SplitScene]) -> tuple[float, str]:
    """Smallest side of blocks on a plane, in its pixels, and the scene that requires it.

    Labels are counted by cell, and a block counts the cells whose centres it contains. A block
    smaller than a cell could contain none, although it has labels.
    """
    drawn = [scenes[m].location for m in plane.members if scenes[m].split is None]
    pixel, label = max((plane.pixel_side(location), location.label) for location in drawn)
    return CELL * pixel / plane.pixel, label


def _assigned(
    scenes: Sequence[SplitScene],
    grids: Sequence[_Grid],
    sets: NDArray[np.bool_],
    options: BlockOptions,
    gap: int,
    seed: int,
) -> tuple[Block, ...]:
    # A partial label counts in equal parts for its classes: weights of shape (S, K).
    parts = sets / np.maximum(sets.sum(1, keepdims=True), 1)
    tables, boxes = [], []
    for grid in grids:
        block_ids, place = np.unique(grid.ids, return_inverse=True)
        pixels = np.concatenate([c.pixels for c in grid.cells])
        rows = np.concatenate([c.sets for c in grid.cells])
        # Pixels of each block and label set, shape (B, S)
        counts = np.bincount(place * len(sets) + rows, pixels, minlength=len(block_ids) * len(sets))
        by_set = counts.reshape(len(block_ids), len(sets))
        places = np.column_stack(
            [np.full(len(block_ids), grid.index), block_ids % grid.cols, block_ids // grid.cols]
        )
        loss = np.full(len(block_ids), min(1.0, gap * grid.plane.pixel / grid.size))
        tables.append(BlockTable(by_set @ parts, by_set.sum(1), places.astype(np.int64), loss))
        boxes += [(grid.index, grid.box(int(b))) for b in block_ids]
    table = BlockTable(
        *(np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(BlockTable))
    )
    roles = assign_blocks(table, options.fraction, options.test_fraction, seed)
    return tuple(Block(p, box, int(r)) for (p, box), r in zip(boxes, roles, strict=True))


def _regions(
    scenes: Sequence[SplitScene], planes: Sequence[Plane], blocks: Sequence[Block], gap: int
) -> tuple[SceneRoles, ...]:
    regions = [SceneRoles.whole(scene.split or "train") for scene in scenes]
    for index, plane in enumerate(planes):
        boxes = {
            role: shapely.box(*np.array(role_boxes).T) if role_boxes else np.array([], object)
            for role in (VAL, TEST)
            for role_boxes in [[b.box for b in blocks if b.plane == index and b.role == role]]
        }
        for i in plane.members:
            if scenes[i].split not in (None, "train"):
                continue
            location = scenes[i].location
            val, test = (
                _near(plane.to_pixels(location, boxes[r]), location, gap) for r in (VAL, TEST)
            )
            regions[i] = SceneRoles.with_blocks(val, test, gap, scenes[i].split == "train")
    return tuple(regions)


def _near(shapes: NDArray[Any], location: Geolocation, gap: int) -> NDArray[Any]:
    """The shapes that touch the scene or the gap around it."""
    scene = shapely.box(-gap, -gap, location.grid.width + gap, location.grid.height + gap)
    near: NDArray[Any] = shapes[shapely.intersects(shapes, scene)] if len(shapes) else shapes
    return near


def _overlaps(scenes: Sequence[SplitScene], planes: Sequence[Plane]) -> list[str]:
    """Remarks on validation and test scenes that overlap training scenes."""
    remarks = []
    for plane in planes:
        prints = {i: plane.footprint(scenes[i].location) for i in plane.members}
        for a, b in itertools.permutations(plane.members, 2):
            held, used = scenes[a], scenes[b]
            if held.split in ("val", "test") and used.split in (None, "train"):
                # Scenes that merely adjoin may share a sliver.
                common = prints[a].intersection(prints[b]).area
                if common > 1e-3 * min(prints[a].area, prints[b].area):
                    remarks.append(
                        f"{held.location.label} ({held.split}) covers ground that "
                        f"{used.location.label} is trained on: its scores will flatter the model"
                    )
    return remarks
