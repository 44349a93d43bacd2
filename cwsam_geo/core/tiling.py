"""The plan of tiles: where tiles lie in a scene, and what each of them settles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from cwsam_geo.core.grid import Window
from cwsam_geo.errors import UsageError


def default_overlap(tile_size: int) -> int:
    """Overlap of neighbouring tiles in pixels, if the user gives none: an eighth of a tile."""
    return tile_size // 8


@dataclass(frozen=True)
class Tile:
    """One model input.

    Attributes:
        index: Index among the plan's tiles, row-major, from 0.
        row_index: Index of the row of tiles, counted over the whole scene.
        col_index: Index of the column of tiles, counted over the whole scene.
        window: Pixels of the tile; may reach past the bottom and right of the scene.
        settles: Pixels of the plan's part that become final once this tile has been blended;
            may be empty.
        reaches: Pixels that are interpolated from logits of this tile: the window and half a
            stride around it. May reach outside the scene.
    """

    index: int
    row_index: int
    col_index: int
    window: Window
    settles: Window
    reaches: Window


@dataclass(frozen=True)
class TilePlan:
    """Overlapping square tiles over a scene or over a part of it, in row-major order.

    Tile offsets are multiples of ``stride``, so that the logits of all tiles lie on one grid. The
    last tile of a row or column is shifted back inside the scene. It reaches past the edge by less
    than ``stride`` pixels, unless the scene is smaller than a tile. The ``settles`` rectangles of
    the tiles partition the part.

    The class of a pixel depends on where the tiles lie. The plan of a part therefore consists of
    those tiles of the whole scene's plan that the part's pixels depend on, at their places.

    Attributes:
        height: Rows of the scene.
        width: Columns of the scene.
        tile_size: Side of a tile in pixels.
        overlap: Least number of pixels that neighbours share, 0 to half a tile.
        stride: Pixels per logit along one side (1 if logits have the tile's resolution).
        part: The part to map, inside the scene and not empty; None for the whole scene.

    Raises:
        UsageError: The overlap is not between 0 and half a tile.
    """

    height: int
    width: int
    tile_size: int
    overlap: int
    stride: int = 1
    part: Window | None = None

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or self.tile_size < 1 or self.stride < 1:
            raise ValueError(f"impossible plan: {self}")
        if self.tile_size % self.stride:
            raise ValueError(f"tile size {self.tile_size} is not a multiple of {self.stride}")
        if not 0 <= self.overlap <= self.tile_size // 2:
            raise UsageError(
                f"overlap {self.overlap} does not fit tiles of {self.tile_size} px: "
                f"choose 0 to {self.tile_size // 2}"
            )

    @cached_property
    def row_offsets(self) -> tuple[int, ...]:
        """First row of each row of tiles of the whole scene."""
        return self._offsets(self.height)

    @cached_property
    def col_offsets(self) -> tuple[int, ...]:
        """First column of each column of tiles of the whole scene."""
        return self._offsets(self.width)

    @cached_property
    def rows(self) -> range:
        """Indices of the rows of tiles that the part depends on."""
        return self._touching(self.row_offsets, self._mapped.row, self._mapped.bottom)

    @cached_property
    def cols(self) -> range:
        """Indices of the columns of tiles that the part depends on."""
        return self._touching(self.col_offsets, self._mapped.col, self._mapped.right)

    @property
    def _mapped(self) -> Window:
        return self.part or Window(0, 0, self.height, self.width)

    def _touching(self, offsets: tuple[int, ...], start: int, stop: int) -> range:
        half = self.stride // 2
        touching = [
            i
            for i, o in enumerate(offsets)
            if o - half < stop and o + self.tile_size + half > start
        ]
        return range(touching[0], touching[-1] + 1)

    def _offsets(self, length: int) -> tuple[int, ...]:
        if length <= self.tile_size:
            return (0,)
        # Both are multiples of the stride: the step rounded down, the last offset rounded up.
        step = (self.tile_size - self.overlap) // self.stride * self.stride
        last = -(-(length - self.tile_size) // self.stride) * self.stride
        return (*range(0, last, step), last)

    def _settled(self, offsets: tuple[int, ...], i: int, length: int) -> tuple[int, int]:
        # A pixel is interpolated between two logits: the pixels less than half a stride before the
        # next tile need a logit of that tile.
        half = self.stride // 2
        start = offsets[i] - half if i else 0
        end = offsets[i + 1] - half if i + 1 < len(offsets) else length
        return start, end

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    def tile(self, row_index: int, col_index: int) -> Tile:
        """The tile in the given row and column of tiles, counted over the whole scene."""
        top, bottom = self._settled(self.row_offsets, row_index, self.height)
        left, right = self._settled(self.col_offsets, col_index, self.width)
        row, col = self.row_offsets[row_index], self.col_offsets[col_index]
        half, side = self.stride // 2, self.tile_size
        return Tile(
            index=(row_index - self.rows.start) * len(self.cols) + col_index - self.cols.start,
            row_index=row_index,
            col_index=col_index,
            window=Window(row, col, side, side),
            settles=Window(top, left, bottom - top, right - left).intersect(self._mapped),
            reaches=Window(row - half, col - half, side + 2 * half, side + 2 * half),
        )

    def row(self, row_index: int) -> Iterator[Tile]:
        """The tiles of one row, left to right."""
        return (self.tile(row_index, c) for c in self.cols)

    def __iter__(self) -> Iterator[Tile]:
        for r in self.rows:
            yield from self.row(r)
