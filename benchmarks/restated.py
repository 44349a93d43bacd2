"""The CWSAM authors' algorithm, re-stated in plain torch: the yardstick of the benchmarks.

It computes what their code computes, in their order, with nothing left out: the complex spectrum
of all three channels and its high-pass half, queries, keys and values of padded windows, scores of
all pairs of tokens with an added bias, vectors of all four mask tokens, and the quality head. It
runs on the weights of a ``Cwsam``; what that does not have, because it is thrown away, is random.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cwsam_geo.model.network import sam
from cwsam_geo.model.network.adapters import LOW_FREQUENCY_SHARE
from cwsam_geo.model.network.architecture import MASK_RATIO
from cwsam_geo.model.network.attention import Attention
from cwsam_geo.model.network.cwsam import Cwsam
from cwsam_geo.model.network.decoder import MASK_TOKENS
from cwsam_geo.model.network.encoder import MLP_ADAPTER_SCALE, Block

QUALITY_DIM = 256


class Restated(nn.Module):
    """The authors' algorithm on a plain model's weights.

    Args:
        cwsam: The model; its architecture must attend to padding, as theirs does.
    """

    def __init__(self, cwsam: Cwsam) -> None:
        super().__init__()
        if not cwsam.architecture.attend_padding:
            raise ValueError("the authors' windows attend to their padding")
        self.cwsam = cwsam
        dim = cwsam.architecture.backbone.decoder_dim
        self.other_hypernetworks = nn.ModuleList(
            sam.MLP(dim, dim, dim // MASK_RATIO, 3) for _ in range(MASK_TOKENS - 1)
        )
        self.quality_head = sam.MLP(dim, QUALITY_DIM, MASK_TOKENS, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, T, T) to logits (B, K, T / stride, T / stride)."""
        encoder = self.cwsam.encoder
        tokens = encoder.patch_embed(images)
        batch, height, width, dim = tokens.shape
        prompt = encoder.prompt
        rows = tokens.reshape(batch, height * width, dim)
        if prompt.scrambled:
            rows = tokens.reshape(batch, dim, height * width).transpose(1, 2)
        embedded = prompt.token_embed(rows).reshape(batch, height, width, -1)
        low, _ = low_and_high_pass(images)
        features = prompt.image_embed(low) + embedded
        tokens = tokens + encoder.pos_embed
        for i, block in enumerate(encoder.blocks):
            tokens = block_forward(block, tokens + prompt(features, i))
        return self._decode(encoder.neck(tokens.permute(0, 3, 1, 2)))

    def _decode(self, embedding: Tensor) -> Tensor:
        decoder = self.cwsam.decoder
        batch, _, height, width = embedding.shape
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = tokens.expand(batch, -1, -1)
        dense = decoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        source = embedding + dense.expand(batch, -1, height, width)
        positions = decoder.position((height, width)).expand(batch, -1, -1, -1)
        tokens_out, image_out = decoder.transformer(source, positions, tokens)
        image_out = image_out.transpose(1, 2).reshape(source.shape)
        both = torch.cat([decoder.upscaling(image_out), decoder.upscaling(source)], 1)
        features = decoder.class_upscaling(both)
        networks = [decoder.hypernetwork, *self.other_hypernetworks]
        vectors = torch.stack([n(tokens_out[:, 1 + i]) for i, n in enumerate(networks)], 1)
        classes = decoder.num_classes
        if decoder.classes_fastest:
            features = features.unflatten(1, (-1, classes))
        else:
            features = features.unflatten(1, (classes, -1)).transpose(1, 2)
        masks = (vectors @ features.flatten(2)).unflatten(2, features.shape[2:])
        self.quality_head(tokens_out[:, 0])
        return masks[:, 0]


def low_and_high_pass(images: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of the spectrum, transformed back."""
    height, width = images.shape[-2:]
    half = int(math.sqrt(height * width * LOW_FREQUENCY_SHARE) // 2)
    mask = torch.zeros_like(images)
    top, left = height // 2 - half, width // 2 - half
    mask[..., top : top + 2 * half, left : left + 2 * half] = 1
    spectrum = torch.fft.fftshift(torch.fft.fft2(images, norm="forward"), dim=(-2, -1))
    low, high = (
        torch.fft.ifft2(torch.fft.ifftshift(part, dim=(-2, -1)), norm="forward").real.abs()
        for part in (spectrum * mask, spectrum * (1 - mask))
    )
    return low, high


def block_forward(block: Block, tokens: Tensor) -> Tensor:
    """A transformer block with its adapters, tokens (B, h, w, D)."""
    attended = block.norm1(tokens)
    if block.window:
        size = (tokens.shape[1], tokens.shape[2])
        windows, padded = sam.window_partition(attended, block.window)
        windows = attention(block.attn, windows)
        attended = sam.window_unpartition(windows, block.window, padded, size)
    else:
        attended = attention(block.attn, attended)
    tokens = tokens + (attended + block.attention_adapter(attended))
    normed = block.norm2(tokens)
    return tokens + block.mlp(normed) + MLP_ADAPTER_SCALE * block.mlp_adapter(normed)


def attention(layer: Attention, tokens: Tensor) -> Tensor:
    """SAM's attention with the scores of all pairs of tokens, (B, h, w, D) to the same."""
    batch, height, width, dim = tokens.shape
    qkv = layer.qkv(tokens).reshape(batch, height * width, 3, layer.heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).flatten(1, 2).unbind(0)
    scores = (q * (dim // layer.heads) ** -0.5) @ k.transpose(1, 2)
    rows = sam.get_rel_pos(height, height, layer.rel_pos_h)
    columns = sam.get_rel_pos(width, width, layer.rel_pos_w)
    grid = q.unflatten(1, (height, width))
    by_row = torch.einsum("bhwc,hkc->bhwk", grid, rows)
    by_column = torch.einsum("bhwc,wkc->bhwk", grid, columns)
    scores = scores.view(-1, height, width, height, width)
    scores = scores + by_row[:, :, :, :, None] + by_column[:, :, :, None, :]
    scores = scores.view(-1, height * width, height * width).softmax(-1)
    out = (scores @ v).view(batch, layer.heads, height, width, -1)
    return layer.proj(out.permute(0, 2, 3, 1, 4).reshape(batch, height, width, dim))
