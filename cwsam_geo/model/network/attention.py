"""SAM's self-attention with relative positions, without a tensor of the scores of all pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model.network import sam

_BLOCK = 1 << 19
"""Scores (2 MB in float32) that a CPU computes at once, so that they stay in its cache."""

_FUSED_MULTIPLE = 8
"""CUDA's fused attention takes channels in multiples of this number; else it stores all scores."""


class Attention(nn.Module):
    """SAM's self-attention with decomposed relative positions (MViTv2, arXiv 2112.01526).

    Args:
        dim: Channels D of a token.
        size: Side of the square of tokens that attend to each other.
    """

    def __init__(self, dim: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, dim // heads))

    def forward(self, tokens: Tensor, is_token: Tensor | None = None) -> Tensor:
        """Lets all tokens attend to each other.

        The score of a query at (y, x) and a key at (y', x') is
        q.k / sqrt(d) + q.R_h[y - y'] + q.R_w[x - x'], with d channels per head.

        Args:
            tokens: Shape (B, h, w, D).
            is_token: False at padding, to which no token may attend; shape (B, h * w). None
                allows attention to all positions.

        Returns:
            Shape (B, h, w, D).
        """
        batch, height, width, dim = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, height * width, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, h * w, d)
        by_row, by_column = self.positions(q, height, width)
        scaled = q * (dim // self.heads) ** -0.5
        if tokens.is_cuda:
            out = _attend_fused(scaled, k, v, by_row, by_column, is_token)
        else:
            out = _attend_in_blocks(scaled, k, v, by_row, by_column, is_token)
        out = out.transpose(1, 2).reshape(batch, height, width, dim)
        projected: Tensor = self.proj(out)
        return projected

    def positions(self, q: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Computes the parts of the scores that come from relative positions.

        Args:
            q: Queries without scaling, shape (B, heads, h * w, d).

        Returns:
            The parts that depend on the key's row, shape (B, heads, h * w, h), and on its column,
            shape (B, heads, h * w, w).
        """
        grid = q.reshape(*q.shape[:2], height, width, -1)
        rows = sam.get_rel_pos(height, height, self.rel_pos_h)
        columns = sam.get_rel_pos(width, width, self.rel_pos_w)
        by_row = torch.einsum("bnhwc,hkc->bnhwk", grid, rows)
        by_column = torch.einsum("bnhwc,wkc->bnhwk", grid, columns)
        return by_row.flatten(2, 3), by_column.flatten(2, 3)


def _attend_fused(
    q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor, is_token: Tensor | None
) -> Tensor:
    """Attends with a fused kernel, which takes no bias but any number of channels.

    The parts of the scores that come from positions are additional channels: the queries hold
    their values for each row and column of keys, and the keys are one-hot there.
    """
    height, width = by_row.shape[-1], by_column.shape[-1]
    eye_rows = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, 0)
    eye_columns = torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1)
    one_hot = torch.cat([eye_rows, eye_columns], 1).expand(*k.shape[:2], -1, -1)
    queries = torch.cat([q, by_row.to(q.dtype), by_column.to(q.dtype)], -1)
    keys = torch.cat([k, one_hot], -1)
    fill = -queries.shape[-1] % _FUSED_MULTIPLE
    queries, keys = F.pad(queries, (0, fill)), F.pad(keys, (0, fill))
    mask = None if is_token is None else is_token[:, None, None, :]
    return F.scaled_dot_product_attention(queries, keys, v, attn_mask=mask, scale=1.0)


def _attend_in_blocks(
    q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor, is_token: Tensor | None
) -> Tensor:
    heads = q.shape[1]
    if is_token is not None:
        is_token = is_token.repeat_interleave(heads, 0)
    flat = (t.flatten(0, 1) for t in (q, k, v, by_row, by_column))
    out: Tensor = _BlockedAttention.apply(*flat, is_token)  # type: ignore[no-untyped-call]
    return torch.unflatten(out, 0, (-1, heads))


class _BlockedAttention(torch.autograd.Function):
    """softmax(q.k + by_row + by_column).v, a block of scores at a time.

    The backward pass computes the scores again instead of keeping them (the idea of
    FlashAttention, arXiv 2205.14135). The shapes are (N, S, d) for q, k, v, with N images times
    heads and S = h * w tokens, (N, S, h) and (N, S, w) for the positions, (N, S) for is_token.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        by_row: Tensor,
        by_column: Tensor,
        is_token: Tensor | None,
    ) -> Tensor:
        q, k, v = (t.contiguous() for t in (q, k, v))
        by_row, by_column = by_row.to(q.dtype), by_column.to(q.dtype)
        out = torch.empty_like(q)
        log_sums = q.new_empty(*q.shape[:2], 1)
        with torch.autocast(q.device.type, enabled=False):
            for images, rows in _blocks(q):
                scores = _scores(q, k, by_row, by_column, is_token, images, rows)
                highest = scores.amax(-1, keepdim=True)
                shares = scores.sub_(highest).exp_()  # not yet divided by their sum
                sums = shares.sum(-1, keepdim=True)
                out[images, rows] = torch.bmm(shares, v[images]).div_(sums)
                log_sums[images, rows] = sums.log_().add_(highest)
        ctx.save_for_backward(q, k, v, by_row, by_column, is_token, log_sums)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, by_row, by_column, is_token, log_sums = ctx.saved_tensors
        # Scores less this logarithm give shares that are divided by their sum already.
        shifted = by_row - log_sums
        gradient = gradient.contiguous()
        d_q = torch.empty_like(q)
        # Channels first: products that write few long rows are twice as fast as the transposed.
        d_k, d_v = (torch.zeros_like(t.transpose(1, 2)) for t in (k, v))
        d_row, d_column = torch.empty_like(by_row), torch.empty_like(by_column)
        grid = (by_row.shape[-1], by_column.shape[-1])
        with torch.autocast(q.device.type, enabled=False):
            for images, rows in _blocks(q):
                shares = _scores(q, k, shifted, by_column, is_token, images, rows).exp_()
                d_out = gradient[images, rows]
                d_v[images].baddbmm_(d_out.transpose(1, 2), shares)
                d_shares = torch.bmm(d_out, v[images].transpose(1, 2))
                d_scores = torch._softmax_backward_data(d_shares, shares, -1, shares.dtype)
                d_q[images, rows] = torch.bmm(d_scores, k[images])
                d_k[images].baddbmm_(q[images, rows].transpose(1, 2), d_scores)
                by_key = torch.unflatten(d_scores, -1, grid)  # (n, r, h, w)
                d_row[images, rows] = by_key.sum(-1)
                d_column[images, rows] = by_key.sum(-2)
        return d_q, d_k.transpose(1, 2), d_v.transpose(1, 2), d_row, d_column, None


def _blocks(q: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of images and of queries whose scores make up a block."""
    count, tokens, _ = q.shape
    images = max(1, _BLOCK // tokens**2)
    rows = min(tokens, max(1, _BLOCK // tokens))
    for image in range(0, count, images):
        for row in range(0, tokens, rows):
            yield slice(image, image + images), slice(row, row + rows)


def _scores(
    q: Tensor,
    k: Tensor,
    by_row: Tensor,
    by_column: Tensor,
    is_token: Tensor | None,
    images: slice,
    rows: slice,
) -> Tensor:
    """Computes the scores of a block of queries and all keys, shape (n, r, S)."""
    scores = torch.bmm(q[images, rows], k[images].transpose(1, 2))
    grid = torch.unflatten(scores, -1, (by_row.shape[-1], by_column.shape[-1]))  # (n, r, h, w)
    grid.add_(by_row[images, rows, :, None]).add_(by_column[images, rows, None, :])
    if is_token is not None:
        scores.masked_fill_(~is_token[images, None, :], -torch.inf)
    return scores
