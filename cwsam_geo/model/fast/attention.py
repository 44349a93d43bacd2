"""The encoder's attention, without storing the scores of all pairs of tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model.encoder import Attention
from cwsam_geo.model.fast.arithmetic import Arithmetic
from cwsam_geo.model.fast.layout import TokenLayout
from cwsam_geo.model.fast.linear import Linear, products
from cwsam_geo.model.fast.positions import RelativePositions

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
