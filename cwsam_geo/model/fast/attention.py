"""The encoder's attention, without storing the scores of all pairs of tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model.fast.arithmetic import Arithmetic
from cwsam_geo.model.fast.layout import TokenLayout
from cwsam_geo.model.fast.linear import Linear, products
from cwsam_geo.model.network.attention import Attention

_FUSED_MULTIPLE = 8
"""CUDA's fused attention needs channels in multiples of this; else torch stores all scores."""

_BLOCK = 1 << 21
"""Attention scores (8 MB in float32) computed at once on a CPU, so that they stay in its cache."""


class FastAttention(nn.Module):
    """Base class of the encoder's attention layers, without their output projection."""

    def __init__(self, attention: Attention, layout: TokenLayout, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.heads, self.layout, self.arithmetic = attention.heads, layout, arithmetic
        weight, bias = attention.qkv.weight.detach(), attention.qkv.bias.detach()
        dim = weight.shape[1]
        scale = (dim // self.heads) ** -0.5
        # Scale the queries' weights, so that scores need no scaling.
        factors = torch.ones_like(bias)
        factors[:dim] = scale
        self.qkv = Linear(weight * factors[:, None], bias * factors, arithmetic)
        self.positions = RelativePositions(attention, scale, arithmetic)
        # Padding tokens are zero, so their keys and values are the bias: (2, heads, D / heads).
        self.padding = bias[dim:].to(arithmetic.dtype).view(2, self.heads, -1)


class GlobalAttention(FastAttention):
    """Every token attends to every token of its image."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the heads' output for tokens in window order, both of shape (B * S, D)."""
        grid = self.layout.grid
        q, k, v = self.layout.to_heads(self.qkv(tokens), self.heads).unbind(0)
        if self.arithmetic.kernel == "blocked":
            attended = self._blocked(q, k, v)
        else:
            fused = self._folded if self.arithmetic.kernel == "folded" else self._flex
            attended = fused(q, k, v).transpose(1, 2).flatten(2)
        return self.layout.to_windows(torch.unflatten(attended, 1, (grid, grid)))

    def _blocked(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # For each image and head, some rows of the grid attend to the whole grid at a time.
        batch, heads, count, dim = q.shape
        grid = self.layout.grid
        by_row, by_column = self.positions(q, grid, grid)
        rows = max(1, min(grid, _BLOCK // (count * grid)))
        out = q.new_empty(batch, count, heads, dim)
        for index in ((image, head) for image in range(batch) for head in range(heads)):
            for top in range(0, grid, rows):
                block = slice(top, top + rows)
                queries = slice(top * grid, (top + rows) * grid)
                bias = (by_row[index][block, :, :, None], by_column[index][block, :, None, :])
                shares = self._scores(q[index][queries], k[index], bias).softmax(-1)
                out[index[0], queries, index[1]] = products(shares, v[index].t(), self.arithmetic)
        return out.flatten(2)

    def _scores(self, q: Tensor, k: Tensor, bias: tuple[Tensor, Tensor]) -> Tensor:
        """Returns the scores (n, m) of queries (n, d) and keys (m, d).

        The bias has the shapes (rows, grid, grid, 1) and (rows, grid, 1, grid), with
        n = rows * grid and m = grid * grid.
        """
        grid = self.layout.grid
        if q.dtype == torch.float32:
            scores = products(q, k, self.arithmetic)
            scores.view(-1, grid, grid, grid).add_(bias[0]).add_(bias[1])
            return scores
        # Let the product add the bias: this rounds only once and reads half as much memory.
        scores = (bias[0] + bias[1]).view(len(q), len(k))
        return scores.addmm_(q, k.t())

    def _folded(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        grid = self.layout.grid
        q = self.positions.with_queries(q, grid, grid)
        k = self.positions.with_keys(k, grid, grid)
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)

    def _flex(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        grid = self.layout.grid
        rows, columns = self.positions(q, grid, grid)
        by_row, by_column = rows.flatten(2, 3), columns.flatten(2, 3)

        def add_positions(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            bias: Tensor = by_row[b, h, i, j // grid] + by_column[b, h, i, j % grid]
            return score + bias

        # Imported here, because the oldest torch that runs the rest does not have it.
        from torch.nn.attention.flex_attention import flex_attention

        out = flex_attention(q, k, v, score_mod=add_positions, scale=1.0)
        assert isinstance(out, Tensor)
        return out


class WindowAttention(FastAttention):
    """Every token attends to the tokens of its window.

    Args:
        attention: The plain layer.
        layout: Order of the tokens.
        arithmetic: Number format and operators.
        attend_padding: Tokens also attend to the padding of windows that extend past the tile.
    """

    def __init__(
        self,
        attention: Attention,
        layout: TokenLayout,
        arithmetic: Arithmetic,
        attend_padding: bool,
    ) -> None:
        super().__init__(attention, layout, arithmetic)
        self.attend_padding = attend_padding

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the heads' output for tokens in window order, both of shape (B * S, D)."""
        out = torch.empty_like(tokens)
        parts = zip(
            self.layout.split(self.qkv(tokens)),
            self.layout.split(out),
            self.layout.groups,
            strict=True,
        )
        for qkv, target, group in parts:
            step = len(qkv)
            if self.arithmetic.blocked:
                step = max(1, _BLOCK // (self.heads * qkv.shape[1] * self.positions.side**2))
            for first in range(0, len(qkv), step):
                windows = slice(first, first + step)
                attended = self._attend(qkv[windows], group.height, group.width)
                by_head = torch.unflatten(target[windows], 2, (self.heads, -1))
                by_head.copy_(attended.transpose(1, 2))
        return out

    def _attend(self, qkv: Tensor, height: int, width: int) -> Tensor:
        """Maps (n, height * width, 3 * D) to (n, heads, height * width, D / heads)."""
        split = torch.unflatten(qkv, 2, (3, self.heads, -1))
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        # At the tile's edge a window has fewer real tokens; padding completes keys and values.
        rows, columns = height, width
        side = self.positions.side
        if self.attend_padding and height * width < side**2:
            rows = columns = side
            k, v = (self._padded(t, height, width, i) for i, t in enumerate((k, v)))
        q = self.positions.with_queries(q.contiguous(), height, width)
        k = self.positions.with_keys(k, rows, columns)
        if not self.arithmetic.blocked:
            return F.scaled_dot_product_attention(q, k, v, scale=1.0)
        scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
        attended = torch.bmm(scores.softmax(-1), v.flatten(0, 1))
        return torch.unflatten(attended, 0, (-1, self.heads))

    def _padded(self, values: Tensor, height: int, width: int, which: int) -> Tensor:
        """Completes the keys (``which`` 0) or values (1) of windows at the edge with padding."""
        side = self.positions.side
        whole = values.new_empty(*values.shape[:2], side, side, values.shape[-1])
        whole[:] = self.padding[which][:, None, None, :]
        whole[:, :, :height, :width] = torch.unflatten(values, 2, (height, width))
        return whole.flatten(2, 3)


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
