"""SAM's image encoder with CWSAM's adapters in every block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cwsam_geo.model.network import sam
from cwsam_geo.model.network.adapters import Adapter, LowFrequencyPrompt
from cwsam_geo.model.network.architecture import MLP_RATIO
from cwsam_geo.model.network.attention import Attention

if TYPE_CHECKING:
    from cwsam_geo.model.network.architecture import Architecture


LAYER_NORM_EPS = 1e-6
"""SAM's value, instead of torch's 1e-5."""

POSITION_STD = 0.02
"""Standard deviation of a new position embedding, as usual for vision transformers."""

MLP_ADAPTER_SCALE = 0.5
"""Factor of the MLP adapter's output in the CWSAM authors' code."""


class Block(nn.Module):
    """A transformer block of SAM with an adapter after attention and one parallel to the MLP.

    Args:
        window: Side of the attention windows in tokens, or 0 for attention over the whole tile.
    """

    def __init__(self, architecture: Architecture, window: int) -> None:
        super().__init__()
        backbone = architecture.backbone
        dim = backbone.dim
        self.window = window
        self.attend_padding = architecture.attend_padding
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(dim, backbone.heads, window or architecture.grid_size)
        self.attention_adapter = Adapter(dim)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = sam.MLPBlock(dim, MLP_RATIO * dim)
        self.mlp_adapter = Adapter(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens to tokens, shape (B, h, w, D)."""
        attended = self._attend(self.norm1(tokens))
        tokens = tokens + attended + self.attention_adapter(attended)
        normed = self.norm2(tokens)
        out: Tensor = tokens + self.mlp(normed) + MLP_ADAPTER_SCALE * self.mlp_adapter(normed)
        return out

    def _attend(self, tokens: Tensor) -> Tensor:
        if self.window == 0:
            whole: Tensor = self.attn(tokens)
            return whole
        size = (tokens.shape[1], tokens.shape[2])
        windows, padded = sam.window_partition(tokens, self.window)
        is_token = None
        if padded != size and not self.attend_padding:
            # Partition a map of ones like the tokens: it is zero where padding was added.
            ones = tokens.new_ones(len(tokens), *size, 1)
            is_token = sam.window_partition(ones, self.window)[0].flatten(1) > 0
        attended = self.attn(windows, is_token)
        return sam.window_unpartition(attended, self.window, padded, size)


class Encoder(nn.Module):
    """Computes image embeddings.

    Attributes:
        checkpointing: Recompute each block in the backward pass instead of keeping its
            activations. This takes less memory and more time.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        backbone = architecture.backbone
        patch = (backbone.patch_size, backbone.patch_size)
        grid = architecture.grid_size
        out = backbone.decoder_dim
        self.checkpointing = False
        self.patch_embed = sam.PatchEmbed(kernel_size=patch, stride=patch, embed_dim=backbone.dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, backbone.dim))
        nn.init.trunc_normal_(self.pos_embed, std=POSITION_STD)
        self.prompt = LowFrequencyPrompt(
            backbone.dim, backbone.depth, backbone.patch_size, architecture.scrambled_prompt
        )
        self.blocks = nn.ModuleList(
            Block(architecture, 0 if i in backbone.global_blocks else backbone.window)
            for i in range(backbone.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(backbone.dim, out, kernel_size=1, bias=False),
            sam.LayerNorm2d(out),
            nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False),
            sam.LayerNorm2d(out),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Computes the embeddings of preprocessed images.

        Args:
            images: Shape (B, 3, H, W), float32.

        Returns:
            Shape (B, decoder dim, H / patch size, W / patch size).
        """
        tokens = self.patch_embed(images)  # (B, h, w, D)
        # The prompt uses the patch embedding before positions are added.
        features = self.prompt.features(images, tokens)
        tokens = tokens + self.pos_embed
        for i, block in enumerate(self.blocks):
            tokens = tokens + self.prompt(features, i)
            if self.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        embedding: Tensor = self.neck(tokens.permute(0, 3, 1, 2))
        return embedding
