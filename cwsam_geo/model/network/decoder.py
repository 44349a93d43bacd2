"""The class-wise mask decoder: SAM's mask decoder with one output mask per class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cwsam_geo.model.network import sam
from cwsam_geo.model.network.adapters import TrainableModule
from cwsam_geo.model.network.architecture import MASK_RATIO, TRANSFORMER_HEADS

if TYPE_CHECKING:
    from cwsam_geo.model.network.architecture import Architecture


# The sizes of SAM's mask decoder, which its checkpoints need.
TRANSFORMER_DEPTH = 2

MASK_TOKENS = 4


class ClassWiseDecoder(TrainableModule):
    """Computes the logits of K classes from an image embedding (arXiv 2401.02326).

    SAM's two-way transformer runs with the no-mask embedding as its only prompt. SAM's layers
    upsample its output and its input four times. Both are concatenated and turned into K groups
    of D/8 features, one group per class. The logit of a class is the dot product of its group
    with a vector that the hypernetwork makes from the first mask token.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        dim = architecture.backbone.decoder_dim
        inner = dim // MASK_RATIO
        self.num_classes = architecture.num_classes
        self.classes_fastest = architecture.classes_fastest
        self.transformer = sam.TwoWayTransformer(
            depth=TRANSFORMER_DEPTH,
            embedding_dim=dim,
            num_heads=TRANSFORMER_HEADS,
            mlp_dim=architecture.backbone.decoder_mlp_dim,
        )
        # Its random matrix is a buffer, so it is not trained although this module is.
        self.position = sam.PositionEmbeddingRandom(dim // 2)
        self.no_mask_embed = nn.Embedding(1, dim)
        # SAM's quality score is not computed, but the mask tokens attend to its token.
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(MASK_TOKENS, dim)
        self.upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            sam.LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, inner, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.hypernetwork = sam.MLP(dim, dim, inner, 3)
        self.class_upscaling = nn.Sequential(
            nn.ConvTranspose2d(2 * inner, 2 * inner, kernel_size=2, stride=2),
            sam.LayerNorm2d(2 * inner),
            nn.GELU(),
            nn.Conv2d(2 * inner, inner * self.num_classes, kernel_size=7, stride=2, padding=3),
            nn.GELU(),
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """Maps image embeddings (B, D, h, w) to logits (B, K, 4h, 4w)."""
        batch, _, height, width = embedding.shape
        source = embedding + self.no_mask_embed.weight[0][:, None, None]
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (5, D)
        positions = self.position((height, width))  # (D, h, w)
        tokens_out, image_out = self.transformer(
            source,
            positions.expand(batch, -1, -1, -1),
            tokens.expand(batch, -1, -1),
        )
        image_out = image_out.transpose(1, 2).unflatten(2, (height, width))  # (B, D, h, w)
        both = torch.cat([self.upscaling(image_out), self.upscaling(source)], 1)
        # From (B, D/4, 4h, 4w): up to 8h x 8w, then down again by the class convolution.
        features = self.class_upscaling(both)  # (B, K * D/8, 4h, 4w)
        # Token 0 is that of the quality score, token 1 that of the first mask.
        vector = self.hypernetwork(tokens_out[:, 1])  # (B, D/8)
        if self.classes_fastest:
            features = features.unflatten(1, (-1, self.num_classes))
            return torch.einsum("bd,bdkhw->bkhw", vector, features)
        features = features.unflatten(1, (self.num_classes, -1))
        return torch.einsum("bd,bkdhw->bkhw", vector, features)
