"""Decomposed relative positions as views and as channels, without a table of all pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cwsam_geo.model.encoder import Attention
from cwsam_geo.model.fast.arithmetic import Arithmetic
from cwsam_geo.model.fast.linear import Linear

_FUSED_MULTIPLE = 8
"""CUDA's fused attention takes channels in multiples of this, and else falls back to all pairs."""


class RelativePositions(nn.Module):
    """The scores' share of the relative positions.

    One product with the whole table gives q.R[d] for every offset d; the share of row y with row
    y' is that of d = y' - y, which is a view whose stride along y is one less.

    Args:
        attention: Whose tables to take.
        scale: What the queries have been multiplied with.
        arithmetic: How to compute.
    """

    def __init__(self, attention: Attention, scale: float, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.side = (attention.rel_pos_h.shape[0] + 1) // 2
        tables = torch.cat([attention.rel_pos_h.flip(0), attention.rel_pos_w.flip(0)])
        self._table = Linear(tables / scale, None, arithmetic)
        self._eye = torch.eye(self.side, dtype=arithmetic.dtype, device=tables.device)
        self._multiple = 1 if arithmetic.blocked else _FUSED_MULTIPLE

    def forward(self, q: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Shares of the keys' rows and of their columns.

        Args:
            q: Scaled queries, contiguous, shape (..., height * width, d).
            height: Rows of queries.
            width: Columns of queries.

        Returns:
            Two views of shape (..., height, width, s), s the side of the attention window.
        """
        side = self.side
        # A new tensor: its values start where its storage does.
        products = self._table(q).contiguous()
        lead, count = products.stride()[:-2], products.shape[-1]
        shape, first = (*q.shape[:-2], height, width, side), side - 1
        by_row = products.as_strided(shape, (*lead, width * count - 1, count, 1), first)
        first += count // 2
        by_column = products.as_strided(shape, (*lead, width * count, count - 1, 1), first)
        return by_row, by_column

    def with_queries(self, q: Tensor, height: int, width: int) -> Tensor:
        """Queries (..., height * width, d) with their shares as 2s further channels or more."""
        by_row, by_column = self(q, height, width)
        dim, side = q.shape[-1], self.side
        out = q.new_empty(*q.shape[:-2], height, width, self._width(dim))
        out[..., :dim] = torch.unflatten(q, -2, (height, width))
        out[..., dim : dim + side] = by_row
        out[..., dim + side : dim + 2 * side] = by_column
        out[..., dim + 2 * side :] = 0
        return out.flatten(-3, -2)

    def with_keys(self, k: Tensor, height: int, width: int) -> Tensor:
        """Keys (..., height * width, d) with channels that pick their row and column."""
        dim, side = k.shape[-1], self.side
        out = k.new_empty(*k.shape[:-1], self._width(dim))
        out[..., :dim] = k
        out[..., dim : dim + side] = self._eye[:height].repeat_interleave(width, 0)
        out[..., dim + side : dim + 2 * side] = self._eye[:width].repeat(height, 1)
        out[..., dim + 2 * side :] = 0
        return out

    def _width(self, dim: int) -> int:
        """Channels with the shares and, where a fused kernel needs them, some zeros."""
        return -(-(dim + 2 * self.side) // self._multiple) * self._multiple
