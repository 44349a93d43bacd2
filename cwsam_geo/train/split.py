"""Spatially separate training, validation and test: blocks with a gap between them."""

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
from cwsam_geo.io.geolocation import Geolocation
from cwsam_geo.train.assignment import BlockTable, assign_blocks
from cwsam_geo.train.class_sets import CELL, CellCounts
from cwsam_geo.train.config import BlockOptions, Split
from cwsam_geo.train.planes import Plane, planes_of
from cwsam_geo.train.regions import ROLES, TEST, TRAIN, VAL, SceneRegions

_ENOUGH_BLOCKS = 16
_NAMES: Mapping[int, str] = {role: name for name, role in ROLES.items()}


@dataclass(frozen=True)
class SplitScene:
    """A scene to divide.

    Attributes:
        location: Its grid.
        cells: Its labels, counted by cell.
        split: What the whole scene is for; None where blocks are drawn.
    """

    location: Geolocation
    cells: CellCounts
    split: Split | None


@dataclass(frozen=True)
class Block:
    """A block with labels.

    Attributes:
        plane: Index of its plane.
        box: Left, bottom, right, top on the plane.
        role: What it is for.
    """

    plane: int
    box: tuple[float, float, float, float]
    role: int


@dataclass(frozen=True)
class SpatialSplit:
    """Who is for what.

    Attributes:
        scenes: The roles of each scene's pixels.
        planes: The planes on which blocks were drawn.
        blocks: The blocks with labels.
        names: The scenes' names.
        whole: What each scene is for as a whole; None where blocks were drawn.
        remarks: What the user should know.
    """

    scenes: tuple[SceneRegions, ...]
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

    Scenes with a split of their own keep it. Over the others a grid of blocks is laid, in
    ground coordinates, so that scenes of one place agree. The blocks with labels are assigned by
    ``assign_blocks``. No training pixel lies nearer to a block of validation or test than the gap.

    Args:
        scenes: The scenes.
        sets: Which classes each label row allows, shape (S, K), bool.
        options: Size of the blocks and the gap, and shares.
        tile: Side and overlap of a tile in pixels.
        seed: Decides the draw; the same arguments give the same split.

    Raises:
        UsageError: The labels lie in too few blocks, or a scene without a CRS has its blocks in
            metres, or nothing is left for training or validation.
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
    """The grid of blocks on a plane, with the labelled cells in it."""

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
    """Grids of the wanted block size; of a fitting one where none is wanted."""
    drawn = {i: p for i, p in enumerate(planes) if any(scenes[m].split is None for m in p.members)}
    least, label = max(_least_side(plane, scenes) for plane in drawn.values())
    side = options.block_size_px or max(tile_size, round(least))
    fixed = options.block_size_px is not None or options.block_size_m is not None
    while True:
        grids = [_grid(i, p, scenes, options.block_size_m, side) for i, p in drawn.items()]
        found = sum(len(np.unique(grid.ids)) for grid in grids)
        smaller = side // 2
        if fixed or found >= _ENOUGH_BLOCKS or smaller < max(2 * gap, 2 * CELL, round(least)):
            break
        side = smaller
    needed = 3 if options.test_fraction else 2
    if found < needed:
        size = f"{options.block_size_m:g} m" if options.block_size_m else f"{side} px"
        raise UsageError(
            f"the labels lie in {found} block{'s' if found != 1 else ''} of {size}, and "
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
    narrowest = CELL * size / (least * plane.pixel)
    if round(narrowest) < CELL:
        given = f"block_size_px {pixels}" if metres is None else f"block_size_m {metres:g}"
        needed = least if metres is None else least * plane.pixel * plane.unit
        raise UsageError(
            f"{label}: validation.{given} makes blocks of {narrowest:.0f} px, too small to keep "
            f"the fraction: give {math.ceil(round(needed, 3))} or more"
        )
    left, bottom, right, top = plane.bounds
    cols, rows = max(1, round((right - left) / size)), max(1, round((top - bottom) / size))
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
    """The least side of a plane's blocks, in its pixels, and the scene that needs it.

    Labels are counted by cell, and a block without a cell's centre would go unnoticed.
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
    # A partial label counts for each of its classes in equal parts.
    parts = sets / np.maximum(sets.sum(1, keepdims=True), 1)
    tables, where = [], []
    for grid in grids:
        found, place = np.unique(grid.ids, return_inverse=True)
        pixels = np.concatenate([c.pixels for c in grid.cells])
        rows = np.concatenate([c.sets for c in grid.cells])
        counts = np.bincount(place * len(sets) + rows, pixels, minlength=len(found) * len(sets))
        by_set = counts.reshape(len(found), len(sets))
        places = np.column_stack(
            [np.full(len(found), grid.index), found % grid.cols, found // grid.cols]
        )
        loss = np.full(len(found), min(1.0, gap * grid.plane.pixel / grid.size))
        tables.append(BlockTable(by_set @ parts, by_set.sum(1), places.astype(np.int64), loss))
        where += [(grid.index, grid.box(int(b))) for b in found]
    table = BlockTable(
        *(np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(BlockTable))
    )
    roles = assign_blocks(table, options.fraction, options.test_fraction, seed)
    return tuple(Block(p, box, int(r)) for (p, box), r in zip(where, roles, strict=True))


def _regions(
    scenes: Sequence[SplitScene], planes: Sequence[Plane], blocks: Sequence[Block], gap: int
) -> tuple[SceneRegions, ...]:
    regions = [SceneRegions.whole(scene.split or "train") for scene in scenes]
    for index, plane in enumerate(planes):
        boxes = {
            role: shapely.box(*np.array(found).T) if found else np.array([], object)
            for role in (VAL, TEST)
            for found in [[b.box for b in blocks if b.plane == index and b.role == role]]
        }
        for i in plane.members:
            if scenes[i].split not in (None, "train"):
                continue
            location = scenes[i].location
            val, test = (
                _near(plane.to_pixels(location, boxes[r]), location, gap) for r in (VAL, TEST)
            )
            regions[i] = SceneRegions.with_blocks(val, test, gap, scenes[i].split == "train")
    return tuple(regions)


def _near(shapes: NDArray[Any], location: Geolocation, gap: int) -> NDArray[Any]:
    """The shapes that touch the scene or its gap."""
    scene = shapely.box(-gap, -gap, location.grid.width + gap, location.grid.height + gap)
    near: NDArray[Any] = shapes[shapely.intersects(shapes, scene)] if len(shapes) else shapes
    return near


def _overlaps(scenes: Sequence[SplitScene], planes: Sequence[Plane]) -> list[str]:
    """Remarks on scenes that were given for validation or test over ground of training."""
    remarks = []
    for plane in planes:
        prints = {i: plane.footprint(scenes[i].location) for i in plane.members}
        for a, b in itertools.permutations(plane.members, 2):
            held, used = scenes[a], scenes[b]
            if held.split in ("val", "test") and used.split in (None, "train"):
                common = prints[a].intersection(prints[b]).area
                if common > 1e-3 * min(prints[a].area, prints[b].area):
                    remarks.append(
                        f"{held.location.label} ({held.split}) covers ground that "
                        f"{used.location.label} is trained on: its scores will flatter the model"
                    )
    return remarks
