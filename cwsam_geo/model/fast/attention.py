"""Attention with decomposed relative positions that never holds all pairs of tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model.encoder import Attention
from cwsam_geo.model.fast.layout import TokenLayout, without_heads
from cwsam_geo.model.fast.linear import Linear, onednn_works

# Scores computed at once on a CPU: they stay in its cache from product to product.
_BLOCK = 1 << 21


class RelativePositions(nn.Module):
    """The scores' share of the relative positions, as views without a table of all pairs.

    One product with the whole table gives q.R[d] for every offset d; the score of row y with row
    y' is that of d = y' - y, which is a view with a stride one less along y.

    Args:
        attention: Whose tables to take.
        scale: What the queries have been multiplied with.
        dtype: Number format of the arithmetic.
    """

    def __init__(self, attention: Attention, scale: float, dtype: torch.dtype) -> None:
        super().__init__()
        self._size = (attention.rel_pos_h.shape[0] + 1) // 2
        tables = torch.cat([attention.rel_pos_h.flip(0), attention.rel_pos_w.flip(0)])
        self._table = Linear(tables / scale, None, dtype)

    def forward(self, q: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Shares of the keys' rows and of their columns.

        Args:
            q: Scaled queries of whole windows, contiguous, shape (..., height * width, d).
            height: Rows of queries.
            width: Columns of queries.

        Returns:
            Two views of shape (..., height, width, s), s the side of the attention windows.
        """
        size = self._size
        products = self._table(q)
        lead = products.stride()[:-2]
        columns = products.shape[-1]
        first = products.storage_offset() + size - 1
        shape = (*q.shape[:-2], height, width, size)
        by_row = products.as_strided(shape, (*lead, width * columns - 1, columns, 1), first)
        first += columns // 2
        by_column = products.as_strided(shape, (*lead, width * columns, columns - 1, 1), first)
        return by_row, by_column

    def with_queries(self, q: Tensor, height: int, width: int) -> Tensor:
        """Queries (..., height * width, d) with their shares as 2s further channels."""
        by_row, by_column = self(q, height, width)
        dim, size = q.shape[-1], self._size
        out = q.new_empty(*q.shape[:-2], height, width, dim + 2 * size)
        out[..., :dim] = q.unflatten(-2, (height, width))
        out[..., dim : dim + size] = by_row
        out[..., dim + size :] = by_column
        return out.flatten(-3, -2)

    def with_keys(self, k: Tensor, height: int, width: int) -> Tensor:
        """Keys (..., height * width, d) with 2s channels that say where they are."""
        dim, size = k.shape[-1], self._size
        out = k.new_empty(*k.shape[:-1], dim + 2 * size)
        out[..., :dim] = k
        eye = torch.eye(size, dtype=k.dtype, device=k.device)
        out[..., dim : dim + size] = eye[:height].repeat_interleave(width, 0)
        out[..., dim + size :] = eye[:width].repeat(height, 1)
        return out


class FastAttention(nn.Module):
    """What all attention layers of the encoder share.

    Args:
        attention: The plain layer.
        layout: Order of the tokens.
        dtype: Number format of the arithmetic.
    """

    def __init__(self, attention: Attention, layout: TokenLayout, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads = attention.heads
        self.layout = layout
        weight, bias = attention.qkv.weight.detach(), attention.qkv.bias.detach()
        dim = weight.shape[1]
        scale = (dim // self.heads) ** -0.5
        factors = torch.ones_like(bias)
        factors[:dim] = scale
        self.qkv = Linear(weight * factors[:, None], bias * factors, dtype)
        self.positions = RelativePositions(attention, scale, dtype)
        # What padding has for keys and values.
        self.padding = bias[dim:].to(dtype).view(2, self.heads, -1)
        self.dtype = dtype
        self.on_cpu = weight.device.type == "cpu"


class GlobalAttention(FastAttention):
    """Every token attends to every token of its image."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B * S, D), by windows, to what the heads give, same shape and order."""
        grid = self.layout.grid
        q, k, v = self.layout.to_heads(self.qkv(tokens), self.heads).unbind(0)
        attended = self._blocked(q, k, v) if self.on_cpu else self._folded(q, k, v)
        return self.layout.to_windows(attended.unflatten(1, (grid, grid)))

    def _blocked(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Rows of queries by rows, so that their scores stay in the cache."""
        batch, heads, count, dim = q.shape
        grid = self.layout.grid
        rows = max(1, min(grid, _BLOCK // (count * grid)))
        by_row, by_column = self.positions(q, grid, grid)
        out = q.new_empty(batch, count, heads, dim)
        for image in range(batch):
            for head in range(heads):
                at = (image, head)
                for top in range(0, grid, rows):
                    where = slice(top, top + rows)
                    some = slice(top * grid, (top + rows) * grid)
                    bias = (by_row[at][where, :, :, None], by_column[at][where, :, None, :])
                    scores = _scores(q[at][some], k[at], bias)
                    out[image, some, head] = products(scores.softmax(-1), v[at].t())
        return out.flatten(2)

    def _folded(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Relative positions as further channels, for fused kernels that take no bias."""
        grid = self.layout.grid
        q = self.positions.with_queries(q, grid, grid)
        k = self.positions.with_keys(k, grid, grid)
        out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return out.transpose(1, 2).flatten(2)


class WindowAttention(FastAttention):
    """Tokens attend to those of their window, and to its padding if the architecture says so.

    Args:
        attention: The plain layer.
        layout: Order of the tokens.
        dtype: Number format of the arithmetic.
        attend_padding: Whether padding counts; its keys and values are qkv's bias.
    """

    def __init__(
        self,
        attention: Attention,
        layout: TokenLayout,
        dtype: torch.dtype,
        attend_padding: bool,
    ) -> None:
        super().__init__(attention, layout, dtype)
        self.attend_padding = attend_padding
        self.window = (attention.rel_pos_h.shape[0] + 1) // 2

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B * S, D), by windows, to what the heads give, same shape and order."""
        qkv = self.layout.split(self.qkv(tokens))
        out = tokens.new_empty(tokens.shape, dtype=self.dtype)
        parts = zip(qkv, self.layout.split(out), self.layout.groups, strict=True)
        for part, target, group in parts:
            count = len(part)
            step = count
            if self.on_cpu:
                scores = self.heads * part.shape[1] * self.window**2
                step = max(1, _BLOCK // scores)
            for first in range(0, count, step):
                some = slice(first, first + step)
                without_heads(
                    self._attend(part[some], group.height, group.width), target[some]
                )
        return out

    def _attend(self, qkv: Tensor, height: int, width: int) -> Tensor:
        """(n, height * width, 3 * D) to (n, heads, height * width, D / heads)."""
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q = q.contiguous()
        rows, columns = height, width
        if self.attend_padding and height * width < self.window**2:
            rows = columns = self.window
            k, v = (self._padded(t, height, width, i) for i, t in enumerate((k, v)))
        q = self.positions.with_queries(q, height, width)
        k = self.positions.with_keys(k, rows, columns)
        if not self.on_cpu:
            return F.scaled_dot_product_attention(q, k, v, scale=1.0)
        scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
        attended = torch.bmm(scores.softmax(-1), v.flatten(0, 1))
        return attended.unflatten(0, (-1, self.heads))

    def _padded(self, values: Tensor, height: int, width: int, which: int) -> Tensor:
        """Keys or values of a window cut off by the edge, with those of its padding."""
        size = self.window
        shape = (*values.shape[:2], size, size, values.shape[-1])
        whole = values.new_empty(shape)
        whole[:] = self.padding[which][:, None, None, :]
        whole[:, :, :height, :width] = values.unflatten(2, (height, width))
        return whole.flatten(2, 3)


def _scores(q: Tensor, k: Tensor, bias: tuple[Tensor, Tensor]) -> Tensor:
    """(n, d) and (m, d) and two addends that broadcast to (rows, columns, g, g) to (n, m)."""
    if q.dtype == torch.float32:
        scores = products(q, k)
        scores.view(*bias[0].shape[:3], bias[1].shape[3]).add_(bias[0]).add_(bias[1])
        return scores
    # Adding up inside the product rounds once.
    scores = (bias[0] + bias[1]).view(len(q), len(k))
    return scores.addmm_(q, k.t())


def products(left: Tensor, right: Tensor) -> Tensor:
    """(n, c) and (m, c) to (n, m), by the fastest kernel there is for them."""
    if left.dtype == torch.float32 and onednn_works(left.dtype):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
        return out
    return left @ right.t()
