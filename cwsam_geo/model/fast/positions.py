"""Decomposed relative positions as views or as channels, without storing all pairs of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cwsam_geo.model.encoder import Attention
from cwsam_geo.model.fast.arithmetic import Arithmetic
from cwsam_geo.model.fast.linear import Linear

_FUSED_MULTIPLE = 8
"""CUDA's fused attention needs channels in multiples of this; else torch stores all scores."""


class RelativePositions(nn.Module):
    """Computes the part of the attention scores that comes from relative positions.

    Args:
        attention: The plain layer, which has the tables.
        scale: Factor by which the queries have been multiplied; the tables are divided by it.
        arithmetic: Number format and operators.
    """

    def __init__(self, attention: Attention, scale: float, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.side = (attention.rel_pos_h.shape[0] + 1) // 2
        # Reversed, so that offsets increase with the row or column of the key.
        tables = torch.cat([attention.rel_pos_h.flip(0), attention.rel_pos_w.flip(0)])
        self._table = Linear(tables / scale, None, arithmetic)
        self._eye = torch.eye(self.side, dtype=arithmetic.dtype, device=tables.device)
        self._multiple = 1 if arithmetic.blocked else _FUSED_MULTIPLE

    def forward(self, q: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Returns the parts of the scores that depend on the key's row and on its column.

        Args:
            q: Scaled queries, contiguous, shape (..., height * width, d).
            height: Rows of queries.
            width: Columns of queries.

        Returns:
            Two views of shape (..., height, width, s) with s the side of the attention window.
        """
        side = self.side
        # One product gives q.R for all offsets: (..., height * width, 2 * (2s - 1)). A query in row
        # y and a key in row k need the entry s - 1 - y + k. This is a view whose stride along y is
        # one less; likewise along x for columns. The product is a new tensor, so its values start
        # at the beginning of its storage, as ``as_strided`` needs.
        products = self._table(q).contiguous()
        lead, count = products.stride()[:-2], products.shape[-1]
        shape, first = (*q.shape[:-2], height, width, side), side - 1
        by_row = products.as_strided(shape, (*lead, width * count - 1, count, 1), first)
        first += count // 2
        by_column = products.as_strided(shape, (*lead, width * count, count - 1, 1), first)
        return by_row, by_column

    def with_queries(self, q: Tensor, height: int, width: int) -> Tensor:
        """Appends the positions' parts of the scores to queries (..., height * width, d).

        These are 2s channels, followed by zeros up to the multiple that a fused kernel needs.
        """
        by_row, by_column = self(q, height, width)
        dim, side = q.shape[-1], self.side
        out = q.new_empty(*q.shape[:-2], height, width, self._width(dim))
        out[..., :dim] = torch.unflatten(q, -2, (height, width))
        out[..., dim : dim + side] = by_row
        out[..., dim + side : dim + 2 * side] = by_column
        out[..., dim + 2 * side :] = 0
        return out.flatten(-3, -2)

    def with_keys(self, k: Tensor, height: int, width: int) -> Tensor:
        """Appends one-hot channels of row and column to keys (..., height * width, d).

        The product with queries from ``with_queries`` then adds the positions' parts.
        """
        dim, side = k.shape[-1], self.side
        out = k.new_empty(*k.shape[:-1], self._width(dim))
        out[..., :dim] = k
        out[..., dim : dim + side] = self._eye[:height].repeat_interleave(width, 0)
        out[..., dim + side : dim + 2 * side] = self._eye[:width].repeat(height, 1)
        out[..., dim + 2 * side :] = 0
        return out

    def _width(self, dim: int) -> int:
        """Number of channels with those of the positions, rounded up for a fused kernel."""
        return -(-(dim + 2 * self.side) // self._multiple) * self._multiple
