"""Tokens in the order of the attention windows instead of the rows of a tile."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class WindowGroup:
    """Adjacent attention windows of the same shape.

    Attributes:
        rows: First row of the first window, in tokens.
        columns: First column of the first window, in tokens.
        down: Number of windows in vertical direction.
        across: Number of windows in horizontal direction.
        height: Rows of a window without padding; fewer at the bottom edge of the tile.
        width: Columns of a window without padding; fewer at the right edge of the tile.
    """

    rows: int
    columns: int
    down: int
    across: int
    height: int
    width: int

    @property
    def windows(self) -> int:
        """Number of windows."""
        return self.down * self.across

    @property
    def tokens(self) -> int:
        """Number of tokens of the group in one image."""
        return self.windows * self.height * self.width


class TokenLayout:
    """Order of a batch's tokens in which each group of windows is contiguous.

    Nearly all layers process each token on its own, so the order does not matter to them, and
    window attention needs neither partition nor padding. Each group is stored in the order
    (image, window, row, column).

    Args:
        grid: Side of a tile in tokens.
        window: Side of the attention windows in tokens.
    """

    def __init__(self, grid: int, window: int) -> None:
        self.grid = grid
        # Whole windows, then those that the tile's edge cuts off: up to four groups.
        full, rest = divmod(grid, window)
        edge = full * window
        spans = [(0, full, window)] if full else []
        spans += [(edge, 1, rest)] if rest else []
        self.groups = tuple(
            WindowGroup(y, x, down, across, height, width)
            for y, down, height in spans
            for x, across, width in spans
        )

    def split(self, tokens: Tensor) -> list[Tensor]:
        """Splits tokens (B * grid**2, C) into (B * windows, height * width, C) for each group."""
        batch = len(tokens) // self.grid**2
        parts = torch.split(tokens, [batch * g.tokens for g in self.groups])
        return [
            part.view(batch * g.windows, g.height * g.width, -1)
            for part, g in zip(parts, self.groups, strict=True)
        ]

    def to_windows(self, raster: Tensor) -> Tensor:
        """Reorders a raster (B, grid, grid, C) to tokens (B * grid**2, C)."""
        batch, channels = len(raster), raster.shape[-1]
        tokens = raster.new_empty(batch * self.grid**2, channels)
        for part, group in zip(self.split(tokens), self.groups, strict=True):
            g = group
            part.view(batch, g.down, g.across, g.height, g.width, channels).copy_(
                self.region(raster, group, 1).transpose(2, 3)
            )
        return tokens

    def to_raster(self, tokens: Tensor) -> Tensor:
        """Reorders tokens (B * grid**2, C) to a raster (B, grid, grid, C)."""
        batch, channels = len(tokens) // self.grid**2, tokens.shape[-1]
        raster = tokens.new_empty(batch, self.grid, self.grid, channels)
        for part, group in zip(self.split(tokens), self.groups, strict=True):
            g = group
            windows = part.view(batch, g.down, g.across, g.height, g.width, channels)
            self.region(raster, group, 1).copy_(windows.transpose(2, 3))
        return raster

    def to_heads(self, tokens: Tensor, heads: int) -> Tensor:
        """Reorders queries, keys and values to the order of the raster, by heads.

        Args:
            tokens: Queries, keys and values side by side, shape (B * grid**2, 3 * D).
            heads: Number of attention heads.

        Returns:
            Shape (3, B, heads, grid**2, D / heads).
        """
        batch, dim = len(tokens) // self.grid**2, tokens.shape[-1] // 3 // heads
        out = tokens.new_empty(3, batch, heads, self.grid, self.grid, dim)
        for part, group in zip(self.split(tokens), self.groups, strict=True):
            g = group
            windows = part.view(batch, g.down, g.across, g.height, g.width, 3, heads, dim)
            # From (B, down, across, height, width, 3, heads, d) to the axes of ``region(out)``.
            self.region(out, group, 3).copy_(windows.permute(5, 0, 6, 1, 3, 2, 4, 7))
        return out.flatten(3, 4)

    @staticmethod
    def region(raster: Tensor, group: WindowGroup, axis: int) -> Tensor:
        """Returns a view of a group's part of a raster.

        ``axis`` is the axis of the raster's rows; columns are the next one. In the view these two
        become four axes (down, height, across, width).
        """
        g = group
        part = raster.narrow(axis, g.rows, g.down * g.height)
        part = part.narrow(axis + 1, g.columns, g.across * g.width)
        part = torch.unflatten(part, axis + 1, (g.across, g.width))
        return torch.unflatten(part, axis, (g.down, g.height))
