"""Blends overlapping tiles at the resolution of the logits, in bounded memory.

Tiles arrive in row-major order, some neighbours of a row at a time. Their logits are added up with
positive weights on one grid of logits. Logits that no later tile covers have *settled*: they are
interpolated to the scene's resolution and decided. Only unfinished overlap is kept, so that memory
grows with the width of the scene, never with its height. How many tiles come at a time changes no
pixel.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.core.predictor import Ops, PendingDecision
from cwsam_geo.core.tiling import Tile, TilePlan

BlendName = Literal["cosine", "linear", "gaussian", "flat"]
"""Weights of overlapping tiles: Hann window, linear ramp, Gaussian bell, or equal weights."""

BLENDS: tuple[BlendName, ...] = get_args(BlendName)

_STRIP_VALUES = 12_000_000
"""Full-resolution logits that are computed at a time, as a number of float32 values (48 MB)."""


def profile(name: BlendName, length: int, overlap: int) -> NDArray[np.float64]:
    """Weights along one side of a tile: positive everywhere, even at the outermost logit.

    Args:
        length: Logits along the side.
        overlap: Logits shared with a neighbour; only ``linear`` depends on it.

    Returns:
        Weights, shape (length,), above 0 and at most 1.
    """
    # Distance of each logit's centre from the nearer edge, in logits.
    edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    if name == "flat":
        return np.ones(length)
    if name == "linear":
        return np.minimum(1.0, edge / max(overlap, 1))
    if name == "gaussian":
        from_centre = (length / 2 - edge) / (length / 4)
        return np.asarray(np.exp(-0.5 * from_centre**2))
    return np.asarray(np.sin(np.pi * edge / length) ** 2)


def shares(offsets: Sequence[int], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of all tiles along one axis, normalised to add up to 1 at every logit.

    Args:
        offsets: First logit of each tile, ascending.
        weights: Profile of a tile, shape (n,).

    Returns:
        Normalised weights, shape (tiles, n).
    """
    n = len(weights)
    total = np.zeros(offsets[-1] + n)
    for offset in offsets:
        total[offset : offset + n] += weights
    return np.stack([weights / total[offset : offset + n] for offset in offsets])


def _constants(ops: Ops, rows: NDArray[np.float64]) -> list[Any]:
    """Rows as arrays of the predictor's kind; equal rows share one array."""
    arrays: dict[bytes, Any] = {}
    for row in rows:
        if row.tobytes() not in arrays:
            arrays[row.tobytes()] = ops.constant(row.astype(np.float32))
    return [arrays[row.tobytes()] for row in rows]


@dataclass(frozen=True)
class Settled:
    """Pixels that no later tile changes.

    Attributes:
        window: Their place in the scene.
        decision: Returns their classes; waits until the device has computed them.
    """

    window: Window
    decision: PendingDecision


def settled_window(tiles: Sequence[Tile]) -> Window:
    """The pixels that become final with neighbouring tiles of one row."""
    return functools.reduce(Window.union, (tile.settles for tile in tiles))


class Blender:
    """Adds up the logits of overlapping tiles and returns the pixels that have settled.

    Settling takes some small operations, however many tiles settle together: feed small tiles
    several at a time.

    Args:
        plan: The tiles; each must be fed once, in the plan's order.
        num_classes: Number of classes, K.
        blend: Weights of overlapping tiles.
        ops: Arithmetic on the predictor's arrays.
        confidence: Also compute the probability of the winning class.
        probabilities: Also compute the probabilities of all classes.
        temperature: Divides the logits before the softmax; it changes no class.
    """

    def __init__(
        self,
        plan: TilePlan,
        num_classes: int,
        blend: BlendName,
        ops: Ops,
        *,
        confidence: bool = False,
        probabilities: bool = False,
        temperature: float = 1.0,
    ) -> None:
        self._plan, self._ops = plan, ops
        self._classes = num_classes
        self._confidence, self._probabilities = confidence, probabilities
        self._temperature = temperature
        # Tiles without data are not added, so the weights at a logit may add up to less than 1. The
        # winning class stays the same, but probabilities change: for them an extra plane sums the
        # weights, and the logits are divided by it.
        self._planes = num_classes + (1 if confidence or probabilities else 0)
        self._n = plan.tile_size // plan.stride
        overlap = plan.overlap // plan.stride
        weights = profile(blend, self._n, overlap)
        self._rows = [o // plan.stride for o in plan.row_offsets]
        self._cols = [o // plan.stride for o in plan.col_offsets]
        # Weights are normalised over the tiles of the whole scene, so that those of a part are the
        # same. They are copied to the device once: a copy for each tile would wait for the device.
        self._row_shares = _constants(ops, shares(self._rows, weights))
        self._col_shares = _constants(ops, shares(self._cols, weights))
        # Interpolation needs one settled logit above and to the left of a block.
        self._halo = 1 if plan.stride > 1 else 0
        self._next = 0
        self._row_index = -1
        # Kept between rows of tiles, shape (planes, rows, width): the overlap with the row above,
        # the overlap with the row below, and the last settled row.
        self._left = self._cols[plan.cols[0]]
        width = self._width = self._cols[plan.cols[-1]] + self._n - self._left
        self._above = ops.zeros((self._planes, 0, width))
        self._below = ops.zeros((self._planes, 0, width))
        self._last_row = ops.zeros((self._planes, self._halo, width))
        self._begin_row(plan.rows[0])

    @property
    def held_values(self) -> int:
        """Number of values in memory: unfinished overlap and one row of logits."""
        held = (self._above, self._below, self._last_row, self._pending)
        return sum(int(np.prod(tuple(a.shape))) for a in held)

    def strip_pixels(self, tiles: int) -> int:
        """Largest number of pixels of a settled strip, if so many tiles are fed at a time."""
        return min(tiles * self._plan.tile_size**2, _STRIP_VALUES // self._planes)

    def feed(
        self, tiles: Sequence[Tile], logits: Sequence[Any | None], wanted: bool = True
    ) -> Iterator[Settled]:
        """Adds the logits of tiles and returns the pixels that settle, in strips of rows.

        Args:
            tiles: The next tiles of the plan, all in one row.
            logits: Logits of each tile, shape (K, n, n), or None for a tile without data.
            wanted: False if the map needs none of the pixels that settle, so that they are not
            computed.

        Returns:
            The settled strips, which together cover ``settled_window(tiles)``; none if not wanted.

        Raises:
            ValueError: The tiles are not the next ones, or the logits have the wrong shape.
        """
        first = tiles[0]
        for i, tile in enumerate(tiles, self._next):
            if tile.index != i or tile.row_index != first.row_index:
                raise ValueError(f"tile {tile.index} was fed, but the next one is tile {i}")
        self._next += len(tiles)
        if first.row_index != self._row_index:
            self._begin_row(first.row_index)
        self._roll(first, tiles[-1])
        for tile, values in zip(tiles, logits, strict=True):
            if values is not None:
                self._add(tile, values)
        block = self._settle(first, tiles[-1])
        settles = settled_window(tiles)
        return self._decide(first, settles, block) if wanted and not settles.empty else iter(())

    def _begin_row(self, row_index: int) -> None:
        self._row_index = row_index
        self._above = self._below
        overlap = self._n - self._step(self._rows, row_index)
        self._below = self._ops.zeros((self._planes, overlap, self._width))
        self._pending, self._pending_left = self._ops.zeros((self._planes, self._n, 0)), self._left
        self._left_column = self._ops.zeros((self._planes, self._n + self._halo, self._halo))

    def _step(self, offsets: Sequence[int], i: int) -> int:
        """Logits between tile i and the next; a whole tile for the last one."""
        return offsets[i + 1] - offsets[i] if i + 1 < len(offsets) else self._n

    def _roll(self, first: Tile, last: Tile) -> None:
        """Moves the pending sums from the columns of the previous tiles to those of these ones."""
        left = self._cols[first.col_index]
        width = self._cols[last.col_index] + self._n - left
        rolled = self._ops.zeros((self._planes, self._n, width))
        if (kept := self._pending_left + self._pending.shape[2] - left) > 0:
            rolled[:, :, :kept] = self._pending[:, :, -kept:]
        self._pending, self._pending_left = rolled, left

    def _add(self, tile: Tile, logits: Any) -> None:
        expected = (self._classes, self._n, self._n)
        if tuple(logits.shape) != expected:
            raise ValueError(f"logits have shape {tuple(logits.shape)}, expected {expected}")
        # (n, 1) * (n,) -> (n, n)
        weights = self._row_shares[tile.row_index][:, None] * self._col_shares[tile.col_index]
        left = self._cols[tile.col_index] - self._pending_left
        sums = self._pending[:, :, left : left + self._n]
        sums[: self._classes] += logits * weights
        if self._planes > self._classes:
            sums[self._classes] += weights

    def _settle(self, first: Tile, last: Tile) -> Any:
        """The final logits, with a row above and a column to the left for interpolation.

        Returns:
            Shape (planes, rows + halo, columns + halo).
        """
        step_rows = self._step(self._rows, first.row_index)
        step_cols = self._cols[last.col_index] + self._step(self._cols, last.col_index)
        step_cols -= self._pending_left
        left = self._pending_left - self._left
        columns = slice(left, left + step_cols)
        # No later tile of this row covers the first columns. They still lack the overlap with the
        # row above, and their last rows are kept for the row below.
        final = self._pending[:, :, :step_cols]
        overlap = self._above.shape[1]
        final[:, :overlap] += self._above[:, :, columns]
        self._below[:, :, columns] = final[:, step_rows:]
        halo = self._halo
        block = self._ops.zeros((self._planes, step_rows + halo, step_cols + halo))
        block[:, halo:, halo:] = final[:, :step_rows]
        if halo:
            block[:, :1, 1:] = self._last_row[:, :, columns]
            block[:, :, :1] = self._left_column[:, : step_rows + 1]
            # The next tile's corner lies in the row above: save it before that row is replaced.
            self._left_column[:, : step_rows + 1] = block[:, :, -1:]
            self._last_row[:, :, columns] = block[:, -1:, 1:]
        return block

    def _decide(self, first: Tile, settles: Window, block: Any) -> Iterator[Settled]:
        """Interpolates a block of settled logits to pixels and decides them, strip by strip."""
        stride, half = self._plan.stride, self._plan.stride // 2
        halo = self._halo
        top, left = self._rows[first.row_index], self._cols[first.col_index]
        # The first column of tiles has no logits to its left: its edge is clamped.
        skip_col = 0 if first.col_index else halo
        first_col = (left - halo + skip_col) * stride
        cols = slice(settles.col - first_col, settles.right - first_col)
        # A tile may reach past the scene: stop at the logit that the last pixel needs.
        rows = min(block.shape[1] - halo, -(-settles.bottom // stride) + 1 - top)
        # Where strips and blocks begin changes no pixel: for strides that are powers of two, as all
        # backbones have, the weights of the interpolation are exact.
        step = max(1, _STRIP_VALUES // (self._planes * block.shape[2] * stride**2))
        start = settles.row
        for a in range(0, rows, step):
            b = min(a + step, rows)
            # Pixels beyond the centre of the strip's last logit need the next strip.
            end = settles.bottom if b == rows else min((top + b) * stride - half, settles.bottom)
            # Rows of the tile above the part are not computed.
            if end <= start:
                continue
            at_scene_top = top + a == 0
            strip = block[:, a + (halo if at_scene_top else 0) : b + halo, skip_col:]
            first_row = (top + a - (0 if at_scene_top else halo)) * stride
            fine = self._ops.upsample(strip, stride) if stride > 1 else strip
            fine = fine[:, start - first_row : end - first_row, cols]
            window = Window(start, settles.col, end - start, settles.width)
            yield Settled(window, self._decided(fine))
            start = end

    def _decided(self, fine: Any) -> PendingDecision:
        if self._planes == self._classes:
            return self._ops.decide(fine, False, False)
        # The sum of weights is 0 only where there is no data. 1e-9 avoids dividing by 0 there; the
        # result is not used.
        scale = 1 / (self._temperature * (fine[self._classes :] + 1e-9))
        logits = fine[: self._classes]
        return self._ops.decide(logits, self._confidence, self._probabilities, scale)
