"""The class-wise mask decoder: SAM's mask decoder answering with one mask a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cwsam_geo.model import sam
from cwsam_geo.model.adapters import Trained

if TYPE_CHECKING:
    from cwsam_geo.model.build import Architecture

TRANSFORMER_DEPTH = 2
TRANSFORMER_HEADS = 8
MASK_TOKENS = 4
MASK_RATIO = 8


class ClassWiseDecoder(Trained):
    """Image embedding to logits of K classes.

    SAM's two-way transformer runs with no prompt but the no-mask embedding. What it makes of the
    embedding and the embedding itself are both upscaled four times by SAM's layers, concatenated,
    and turned into K groups of D/8 features; a group's product with the vector of the first mask
    token is the logit of its class.

    Args:
        architecture: Sizes and options.
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
        # A buffer, so not trained although it stands in a trained module.
        self.position = sam.PositionEmbeddingRandom(dim // 2)
        self.no_mask_embed = nn.Embedding(1, dim)
        # The token of SAM's quality score has no head here, but the mask tokens attend to it.
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
        """Embeddings to logits.

        Args:
            embedding: Image embedding, shape (B, D, h, w).

        Returns:
            Logits, shape (B, K, 4h, 4w).
        """
        batch, _, height, width = embedding.shape
        source = embedding + self.no_mask_embed.weight[0][:, None, None]
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        positions = self.position((height, width))
        tokens_out, image_out = self.transformer(
            source,
            positions.expand(batch, -1, -1, -1),
            tokens.expand(batch, -1, -1),
        )
        image_out = image_out.transpose(1, 2).unflatten(2, (height, width))
        both = torch.cat([self.upscaling(image_out), self.upscaling(source)], 1)
        features = self.class_upscaling(both)
        vector = self.hypernetwork(tokens_out[:, 1])
        if self.classes_fastest:
            features = features.unflatten(1, (-1, self.num_classes))
            return torch.einsum("bd,bdkhw->bkhw", vector, features)
        features = features.unflatten(1, (self.num_classes, -1))
        return torch.einsum("bd,bkdhw->bkhw", vector, features)
