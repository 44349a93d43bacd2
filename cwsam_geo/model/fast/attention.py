"""The encoder's attention, without a tensor of all pairs of tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model.encoder import Attention
from cwsam_geo.model.fast.arithmetic import Arithmetic
from cwsam_geo.model.fast.layout import TokenLayout
from cwsam_geo.model.fast.linear import Linear, products
from cwsam_geo.model.fast.positions import RelativePositions

# Scores computed at once where blocks shall stay in a processor's cache.
_BLOCK = 1 << 21


class FastAttention(nn.Module):
    """What all attention layers of the encoder share.

    Args:
        attention: The plain layer.
        layout: Order of the tokens.
        arithmetic: How to compute.
    """

    def __init__(self, attention: Attention, layout: TokenLayout, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.heads, self.layout, self.arithmetic = attention.heads, layout, arithmetic
        weight, bias = attention.qkv.weight.detach(), attention.qkv.bias.detach()
        dim = weight.shape[1]
        scale = (dim // self.heads) ** -0.5
        factors = torch.ones_like(bias)
        factors[:dim] = scale
        self.qkv = Linear(weight * factors[:, None], bias * factors, arithmetic)
        self.positions = RelativePositions(attention, scale, arithmetic)
        # Keys and values of padding.
        self.padding = bias[dim:].to(arithmetic.dtype).view(2, self.heads, -1)


class GlobalAttention(FastAttention):
    """Every token attends to every token of its image."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B * S, D), by windows, to what the heads give, same shape and order."""
        grid = self.layout.grid
        q, k, v = self.layout.to_heads(self.qkv(tokens), self.heads).unbind(0)
        if self.arithmetic.kernel == "blocked":
            attended = self._blocked(q, k, v)
        else:
            fused = self._folded if self.arithmetic.kernel == "folded" else self._flex
            attended = fused(q, k, v).transpose(1, 2).flatten(2)
        return self.layout.to_windows(torch.unflatten(attended, 1, (grid, grid)))

    def _blocked(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, heads, count, dim = q.shape
        grid = self.layout.grid
        by_row, by_column = self.positions(q, grid, grid)
        rows = max(1, min(grid, _BLOCK // (count * grid)))
        out = q.new_empty(batch, count, heads, dim)
        for at in ((image, head) for image in range(batch) for head in range(heads)):
            for top in range(0, grid, rows):
                where, some = slice(top, top + rows), slice(top * grid, (top + rows) * grid)
                bias = (by_row[at][where, :, :, None], by_column[at][where, :, None, :])
                shares = self._scores(q[at][some], k[at], bias).softmax(-1)
                out[at[0], some, at[1]] = products(shares, v[at].t(), self.arithmetic)
        return out.flatten(2)

    def _scores(self, q: Tensor, k: Tensor, bias: tuple[Tensor, Tensor]) -> Tensor:
        """(n, d), (m, d) and addends (rows, grid, grid, 1) and (rows, grid, 1, grid) to (n, m)."""
        grid = self.layout.grid
        if q.dtype == torch.float32:
            scores = products(q, k, self.arithmetic)
            scores.view(-1, grid, grid, grid).add_(bias[0]).add_(bias[1])
            return scores
        # Added up inside the product, which rounds once and reads half as much.
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

        # Newer than the oldest torch that can run the rest.
        from torch.nn.attention.flex_attention import flex_attention

        out = flex_attention(q, k, v, score_mod=add_positions, scale=1.0)
        assert isinstance(out, Tensor)
        return out


class WindowAttention(FastAttention):
    """Tokens attend to those of their window, and to its padding if the architecture says so.

    Args:
        attention: The plain layer.
        layout: Order of the tokens.
        arithmetic: How to compute.
        attend_padding: Whether padding counts; its keys and values are the bias of qkv.
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
        """Tokens (B * S, D), by windows, to what the heads give, same shape and order."""
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
                some = slice(first, first + step)
                attended = self._attend(qkv[some], group.height, group.width)
                by_head = torch.unflatten(target[some], 2, (self.heads, -1))
                by_head.copy_(attended.transpose(1, 2))
        return out

    def _attend(self, qkv: Tensor, height: int, width: int) -> Tensor:
        """(n, height * width, 3 * D) to (n, heads, height * width, D / heads)."""
        split = torch.unflatten(qkv, 2, (3, self.heads, -1))
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
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
        """Keys or values of windows cut off by the edge, with those of the padding."""
        side = self.positions.side
        whole = values.new_empty(*values.shape[:2], side, side, values.shape[-1])
        whole[:] = self.padding[which][:, None, None, :]
        whole[:, :, :height, :width] = torch.unflatten(values, 2, (height, width))
        return whole.flatten(2, 3)
