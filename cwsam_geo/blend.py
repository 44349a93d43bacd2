"""Blending overlapping tiles where the decoder speaks, in bounded memory.

Tiles arrive in row-major order. Their logits are added up with positive weights on the grid of
logits; what no later tile touches has *settled*, is brought to the scene's resolution and decided.
Only unfinished overlap is held: memory grows with the width of the scene, never with its height.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.grid import Tile, TilePlan, Window
from cwsam_geo.ops import Ops, PendingDecision

BlendName = Literal["cosine", "linear", "gaussian", "flat"]
"""How neighbours share their overlap: Hann window, ramp, bell, or equal parts."""

BLENDS: tuple[BlendName, ...] = get_args(BlendName)

_STRIP_VALUES = 12_000_000
"""Values of full-resolution logits held at a time (48 MB of float32)."""


def profile(name: BlendName, length: int, overlap: int) -> NDArray[np.float64]:
    """Weight along one side of a tile: positive everywhere, also at the very edge.

    Args:
        name: Which blend.
        length: Logits along the side.
        overlap: Logits shared with a neighbour.

    Returns:
        Weights, shape (length,), at most 1.
    """
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
    """Each tile's share of every logit along one axis.

    Args:
        offsets: Where the tiles begin, ascending, in logits.
        weights: A tile's profile, shape (n,).

    Returns:
        Shape (tiles, n); over all tiles that cover a logit the shares add up to 1.
    """
    n = len(weights)
    total = np.zeros(offsets[-1] + n)
    for offset in offsets:
        total[offset : offset + n] += weights
    return np.stack([weights / total[offset : offset + n] for offset in offsets])


def _constants(ops: Ops, rows: NDArray[np.float64]) -> list[Any]:
    """Each distinct row once as an array of the predictor's own kind."""
    known: dict[bytes, Any] = {}
    for row in rows:
        if row.tobytes() not in known:
            known[row.tobytes()] = ops.constant(row.astype(np.float32))
    return [known[row.tobytes()] for row in rows]


@dataclass(frozen=True)
class Settled:
    """Final pixels.

    Attributes:
        window: Where in the scene.
        decision: Gives what they are, once the device has come to it.
    """

    window: Window
    decision: PendingDecision


class Blender:
    """Adds up the logits of overlapping tiles and gives what has settled.

    Args:
        plan: The tiles; they must be fed in its order, each once.
        num_classes: K.
        blend: How neighbours share their overlap.
        ops: Arithmetic on the predictor's arrays.
        confidence: Also give the winner's probability.
        probabilities: Also give all probabilities.
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
    ) -> None:
        self._plan, self._ops = plan, ops
        self._classes = num_classes
        self._confidence, self._probabilities = confidence, probabilities
        # Tiles without data are never fed: where probabilities are asked for, the shares that
        # are present are summed in a plane of their own and divided out.
        self._planes = num_classes + (1 if confidence or probabilities else 0)
        self._n = plan.tile_size // plan.stride
        overlap = plan.overlap // plan.stride
        weights = profile(blend, self._n, overlap)
        self._rows = [o // plan.stride for o in plan.row_offsets]
        self._cols = [o // plan.stride for o in plan.col_offsets]
        # Brought to the logits once: a copy for each tile would wait for the device.
        self._row_shares = _constants(ops, shares(self._rows, weights))
        self._col_shares = _constants(ops, shares(self._cols, weights))
        self._halo = 1 if plan.stride > 1 else 0
        self._next = 0
        self._row_index = -1
        width = self._cols[-1] + self._n
        self._above = ops.zeros((self._planes, 0, width))
        self._below = ops.zeros((self._planes, 0, width))
        self._last_row = ops.zeros((self._planes, self._halo, width))
        self._begin_row(0)

    @property
    def held_values(self) -> int:
        """Numbers held at present: unfinished overlap and one row of logits."""
        held = (self._above, self._below, self._last_row, self._pending)
        return sum(int(np.prod(tuple(a.shape))) for a in held)

    def feed(self, tile: Tile, logits: Any | None, wanted: bool = True) -> Iterator[Settled]:
        """Takes a tile's logits and gives the pixels that settle, in strips of rows.

        Args:
            tile: The next tile of the plan.
            logits: Shape (K, n, n), or None for a tile without data.
            wanted: False when none of the pixels that settle has data: they are not computed.

        Returns:
            The settled strips; together they cover ``tile.settles``, or nothing if not wanted.

        Raises:
            ValueError: The tile is not the next one, or the logits have another shape.
        """
        if tile.index != self._next:
            raise ValueError(f"tile {tile.index} was fed where {self._next} was due")
        self._next += 1
        if tile.row_index != self._row_index:
            self._begin_row(tile.row_index)
        self._roll(tile)
        if logits is not None:
            self._add(tile, logits)
        block = self._settle(tile)
        return self._decide(tile, block) if wanted else iter(())

    def _begin_row(self, row_index: int) -> None:
        self._row_index = row_index
        self._above = self._below
        width = self._cols[-1] + self._n
        kept = self._n - self._step(self._rows, row_index)
        self._below = self._ops.zeros((self._planes, kept, width))
        self._pending = self._ops.zeros((self._planes, self._n, self._n))
        self._left_column = self._ops.zeros((self._planes, self._n + self._halo, self._halo))

    def _step(self, offsets: Sequence[int], i: int) -> int:
        return offsets[i + 1] - offsets[i] if i + 1 < len(offsets) else self._n

    def _roll(self, tile: Tile) -> None:
        """Moves what is pending from the previous tile's columns to this one's."""
        if tile.col_index == 0:
            return
        step = self._step(self._cols, tile.col_index - 1)
        rolled = self._ops.zeros((self._planes, self._n, self._n))
        rolled[:, :, : self._n - step] = self._pending[:, :, step:]
        self._pending = rolled

    def _add(self, tile: Tile, logits: Any) -> None:
        expected = (self._classes, self._n, self._n)
        if tuple(logits.shape) != expected:
            raise ValueError(f"logits have shape {tuple(logits.shape)}, expected {expected}")
        weights = self._row_shares[tile.row_index][:, None] * self._col_shares[tile.col_index]
        self._pending[: self._classes] += logits * weights
        if self._planes > self._classes:
            self._pending[self._classes] += weights

    def _settle(self, tile: Tile) -> Any:
        """Logits that are final, with a row above and a column to the left for interpolation."""
        step_rows = self._step(self._rows, tile.row_index)
        step_cols = self._step(self._cols, tile.col_index)
        left = self._cols[tile.col_index]
        columns = slice(left, left + step_cols)
        final = self._pending[:, :, :step_cols]
        carried = self._above.shape[1]
        final[:, :carried] += self._above[:, :, columns]
        self._below[:, :, columns] = final[:, step_rows:]
        halo = self._halo
        block = self._ops.zeros((self._planes, step_rows + halo, step_cols + halo))
        block[:, halo:, halo:] = final[:, :step_rows]
        if halo:
            block[:, :1, 1:] = self._last_row[:, :, columns]
            block[:, :, :1] = self._left_column[:, : step_rows + 1]
            # The corner above the next tile is taken before the row above is replaced.
            self._left_column[:, : step_rows + 1] = block[:, :, -1:]
            self._last_row[:, :, columns] = block[:, -1:, 1:]
        return block

    def _decide(self, tile: Tile, block: Any) -> Iterator[Settled]:
        stride, half, settles = self._plan.stride, self._plan.stride // 2, tile.settles
        halo = self._halo
        top, left = self._rows[tile.row_index], self._cols[tile.col_index]
        skip_col = 0 if tile.col_index else halo
        first_col = (left - halo + skip_col) * stride
        cols = slice(settles.col - first_col, settles.right - first_col)
        # Of a tile that reaches past the scene only what the last pixel needs.
        rows = min(block.shape[1] - halo, -(-settles.bottom // stride) + 1 - top)
        step = max(1, _STRIP_VALUES // (self._planes * settles.width * stride))
        start = settles.row
        for a in range(0, rows, step):
            b = min(a + step, rows)
            end = settles.bottom if b == rows else min((top + b) * stride - half, settles.bottom)
            if end <= start:
                continue
            at_scene_top = top + a == 0
            strip = block[:, a + (halo if at_scene_top else 0) : b + halo, skip_col:]
            first_row = (top + a - (0 if at_scene_top else halo)) * stride
            fine = self._ops.upsample(strip, stride) if stride > 1 else strip
            fine = fine[:, start - first_row : end - first_row, cols]
            window = Window(start, settles.col, end - start, settles.width)
            yield Settled(window, self._ops.decide(*self._normalised(fine)))
            start = end

    def _normalised(self, fine: Any) -> tuple[Any, bool, bool]:
        if self._planes == self._classes:
            return fine, False, False
        # Where nothing was fed there is no data, and the tiny divisor is of no account.
        present = fine[self._classes :] + 1e-9
        return fine[: self._classes] / present, self._confidence, self._probabilities
