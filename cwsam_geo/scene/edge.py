"""The part of a scene without echo that is connected with the scene's edge.

A 0 is either the border of the swath, or calm water where noise removal left no power, and the file
does not say which. The border is connected with the edge of the raster; water usually is not.
Whether a pixel is connected depends on the whole scene, because the border can reach far into it.
The scene is therefore divided into cells, and a flood fill goes from the edge inwards, cell by
cell, until it reaches no more pixels. Cells that it does not reach are not read.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.windows import units_along

_CELL_PIXELS = 1 << 21
"""Largest number of pixels in a cell: 2 million, so that its labels (int32) take 8 MB."""

_CELL_SIDE = 512
"""Smallest side of a cell in a tiled file, in pixels: smaller cells would mean many small reads."""

Mask = NDArray[np.bool_]

Place = tuple[int, int]
"""Position of a cell in the grid of cells: row and column, from 0."""


@dataclass(frozen=True, eq=False)
class EdgeArea:
    """Pixels without echo that are connected with the scene's edge, along rows and columns.

    Attributes:
        width: Columns of the scene.
        cell: Height and width of a cell in pixels.
        packed: For each cell that the area reaches, its pixels: 8 pixels of a row in a byte,
            compressed. Solid areas take a few bytes; the worst case is an eighth of a byte for
            each pixel of the scene.
    """

    width: int
    cell: tuple[int, int]
    packed: Mapping[Place, bytes]

    def of(self, window: Window) -> Mask:
        """True where a pixel of a window of the scene is in the area, shape (H, W)."""
        height, width = self.cell
        area = np.zeros((window.height, window.width), bool)
        for i in range(window.row // height, units_along(window.bottom, height)):
            for j in range(window.col // width, units_along(window.right, width)):
                packed = self.packed.get((i, j))
                if packed is not None:
                    cell = Window(i * height, j * width, height, width)
                    part = cell.intersect(window)
                    # The last cell of a row may be narrower.
                    mask = _unpacked(packed, min(width, self.width - cell.col))
                    mask = mask[part.within(cell).slices]
                    area[part.within(window).slices] = mask
        return area


def edge_area(grid: SceneGrid, without_echo: Callable[[Window], Mask]) -> EdgeArea:
    """Finds the pixels without echo that are connected with the scene's edge, by a flood fill.

    Args:
        grid: The scene's grid.
        without_echo: Function that reads a window inside the scene; its result, (h, w) bool, is
            True where a pixel has no power or no data.
    """
    cell = _cell_shape(grid)
    rows, cols = units_along(grid.height, cell[0]), units_along(grid.width, cell[1])
    cells: dict[Place, _Cell] = {}
    places = [(i, j) for i in range(rows) for j in range(cols)]
    queue = deque(p for p in places if _on_edge(p, rows, cols))
    waiting = set(queue)
    while queue:
        place = queue.popleft()
        waiting.remove(place)
        if place not in cells:
            window = Window(place[0] * cell[0], place[1] * cell[1], *cell).intersect(grid.window)
            cells[place] = _Cell.of(without_echo(window), _on_edge(place, rows, cols))
        here = cells[place]
        beside = {side: cells.get(p) for side, p in _neighbours(place, rows, cols)}
        seeds = {
            side: other.reached_sides[_OPPOSITE[side]] for side, other in beside.items() if other
        }
        if not here.grow(seeds):
            continue
        # Queue the neighbours that the fill can enter from this cell.
        for side, neighbour in _neighbours(place, rows, cols):
            other = cells.get(neighbour)
            reached = here.reached_sides[side]
            if other is not None:
                opposite = _OPPOSITE[side]
                reached = reached & other.open_sides[opposite] & ~other.reached_sides[opposite]
            if reached.any() and neighbour not in waiting:
                queue.append(neighbour)
                waiting.add(neighbour)
    packed = {place: c.reached for place, c in cells.items() if c.reached is not None}
    return EdgeArea(grid.width, cell, packed)


_SIDES: dict[str, tuple[int | slice, int | slice]] = {
    "top": (0, slice(None)),
    "bottom": (-1, slice(None)),
    "left": (slice(None), 0),
    "right": (slice(None), -1),
}
"""Indices of the outermost row or column of a cell."""

_OPPOSITE = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}

_STEPS = {"top": (-1, 0), "bottom": (1, 0), "left": (0, -1), "right": (0, 1)}


@dataclass(eq=False)
class _Cell:
    """A cell: open pixels have no echo; reached pixels are the open ones that the fill reached."""

    width: int
    on_edge: tuple[str, ...]
    open: bytes
    open_sides: dict[str, Mask]
    reached_sides: dict[str, Mask]
    reached: bytes | None = field(default=None)

    @classmethod
    def of(cls, mask: Mask, on_edge: tuple[str, ...]) -> _Cell:
        sides = {side: mask[index].copy() for side, index in _SIDES.items()}
        nothing = {side: np.zeros_like(open_side) for side, open_side in sides.items()}
        return cls(mask.shape[1], on_edge, _packed(mask), sides, nothing)

    def grow(self, seeds: Mapping[str, Mask]) -> bool:
        """Continues the fill from neighbours and the scene's edge; True if it reached more pixels.

        Args:
            seeds: For each side with a neighbour, the reached pixels of the neighbour along it.
        """
        starts = {side: self.open_sides[side] for side in self.on_edge}
        starts |= {side: self.open_sides[side] & seed for side, seed in seeds.items()}
        if not any((start & ~self.reached_sides[side]).any() for side, start in starts.items()):
            return False
        # Imported only when needed: it takes a quarter of a second, and few scenes need it.
        from scipy import ndimage

        mask = _unpacked(self.open, self.width)
        # Open pixels that are connected inside the cell get the same label.
        labels, count = ndimage.label(mask)
        chosen = np.zeros(count + 1, bool)
        for side, start in starts.items():
            chosen[labels[_SIDES[side]][start]] = True
        # What was reached earlier stays reached.
        for side, reached_side in self.reached_sides.items():
            chosen[labels[_SIDES[side]][reached_side]] = True
        reached = chosen[labels]
        self.reached = _packed(reached)
        self.reached_sides = {side: reached[index].copy() for side, index in _SIDES.items()}
        return True


def _neighbours(place: Place, rows: int, cols: int) -> Iterator[tuple[str, Place]]:
    for side, (down, right) in _STEPS.items():
        i, j = place[0] + down, place[1] + right
        if 0 <= i < rows and 0 <= j < cols:
            yield side, (i, j)


def _on_edge(place: Place, rows: int, cols: int) -> tuple[str, ...]:
    inside = {side for side, _ in _neighbours(place, rows, cols)}
    return tuple(side for side in _SIDES if side not in inside)


def _cell_shape(grid: SceneGrid) -> tuple[int, int]:
    """Height and width of a cell: whole storage blocks, or part of a block that is too large."""
    height, width = grid.block_shape
    if width >= grid.width:
        rows = max(1, _CELL_PIXELS // grid.width // height) * height
        return min(rows, max(1, _CELL_PIXELS // grid.width), grid.height), grid.width
    rows = min(units_along(_CELL_SIDE, height) * height, grid.height)
    cols = min(units_along(_CELL_SIDE, width) * width, grid.width)
    return min(rows, max(1, _CELL_PIXELS // cols)), cols


def _packed(mask: Mask) -> bytes:
    return zlib.compress(np.packbits(mask, axis=1).tobytes(), 1)


def _unpacked(packed: bytes, width: int) -> Mask:
    stored = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(-1, -(-width // 8))
    return np.unpackbits(stored, axis=1, count=width).view(bool)
