"""The class-wise decoder for inference: channels last, in bands, with constants precomputed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model.fast.arithmetic import Arithmetic
from cwsam_geo.model.fast.linear import ConvolutionGelu, Linear, Norm, products
from cwsam_geo.model.network.decoder import ClassWiseDecoder

if TYPE_CHECKING:
    from cwsam_geo.model.network.architecture import Architecture

_HALO = 3
"""Rows of zeros above and below the input of the class convolution, whose kernel is 7 x 7."""

_BAND = 1 << 21
"""Values of the widest layer computed at once on a CPU, so that they stay in its cache."""


class ImageSide(nn.Module):
    """Projects the image's tokens for one or two attention layers in a single product.

    Args:
        layers: The projections for keys, values and possibly queries, in this order.
        positions: Positional encoding of the image, shape (S, D).
        arithmetic: Number format and operators.
    """

    def __init__(self, layers: list[nn.Linear], positions: Tensor, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.project = Linear.stacked(layers, arithmetic)
        # Keys and queries see positions, values (index 1) do not. The layers are linear, so the
        # positions can be projected once and added to the output.
        parts = [
            positions @ layer.weight.t() * (0 if i == 1 else 1) for i, layer in enumerate(layers)
        ]
        self.positions = torch.cat(parts, 1).detach().to(arithmetic.dtype)
        self.count = len(layers)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns each layer's output (B, S, D') for tokens (B, S, D)."""
        projected: Tensor = self.project(image) + self.positions
        return tuple(projected.chunk(self.count, -1))


class TwoWay(nn.Module):
    """A layer of SAM's two-way transformer; its few prompt tokens are computed in float32.

    Args:
        layer: The plain layer.
        tokens: The prompt tokens, shape (1, T, D), which are also their positional encoding.
        positions: Positional encoding of the image, shape (S, D).
        arithmetic: Number format and operators for the image's tokens.
    """

    def __init__(
        self, layer: nn.Module, tokens: Tensor, positions: Tensor, arithmetic: Arithmetic
    ) -> None:
        super().__init__()
        plain = cast(Any, layer)
        self.plain = plain
        self.tokens = tokens
        to_image, to_tokens = plain.cross_attn_token_to_image, plain.cross_attn_image_to_token
        self.heads = to_image.num_heads
        layers = [to_image.k_proj, to_image.v_proj, to_tokens.q_proj]
        self.image_side = ImageSide(layers, positions, arithmetic)
        self.out = Linear.of(to_tokens.out_proj, arithmetic)
        self.norm = Norm(plain.norm4, arithmetic)

    def own(self, queries: Tensor) -> Tensor:
        """Computes the self-attention of the prompt tokens, with its norm.

        In the first layer the result is the same for every image.
        """
        q = queries if self.plain.skip_first_layer_pe else queries + self.tokens
        attended = self.plain.self_attn(q=q, k=q, v=queries)
        if not self.plain.skip_first_layer_pe:
            attended = queries + attended
        out: Tensor = self.plain.norm1(attended)
        return out

    def forward(self, queries: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the prompt tokens (B, T, D) and the image's tokens (B, S, D) after this layer.

        The self-attention ``own`` must have been applied to ``queries`` already.
        """
        plain = self.plain
        k, v, q = self.image_side(image)
        to_image, to_tokens = plain.cross_attn_token_to_image, plain.cross_attn_image_to_token
        # The prompt tokens attend to the image.
        query = to_image.q_proj(queries + self.tokens)
        attended = to_image.out_proj(attend(query.to(k.dtype), k, v, self.heads).float())
        queries = plain.norm2(queries + attended)
        queries = plain.norm3(queries + plain.mlp(queries))
        # The image attends to the prompt tokens.
        k = to_tokens.k_proj(queries + self.tokens).to(q.dtype)
        v = to_tokens.v_proj(queries).to(q.dtype)
        return queries, self.norm(self.out.plus(attend(q, k, v, self.heads), image))


class FastDecoder(nn.Module):
    """Computes logits from an image embedding that includes the no-mask embedding."""

    def __init__(
        self, decoder: ClassWiseDecoder, architecture: Architecture, arithmetic: Arithmetic
    ) -> None:
        super().__init__()
        grid = architecture.grid_size
        self.arithmetic, self.num_classes = arithmetic, decoder.num_classes
        self.classes_fastest = decoder.classes_fastest
        positions = decoder.position((grid, grid)).flatten(1).t()
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])[None].detach()
        transformer = cast(Any, decoder.transformer)
        self.layers = nn.ModuleList(
            TwoWay(layer, tokens, positions, arithmetic) for layer in transformer.layers
        )
        self.tokens = tokens
        # The first self-attention has the same input for every image.
        self.start = cast(TwoWay, self.layers[0]).own(tokens).detach()
        self.last, self.norm_last = (
            transformer.final_attn_token_to_image,
            transformer.norm_final_attn,
        )
        self.last_image = ImageSide([self.last.k_proj, self.last.v_proj], positions, arithmetic)
        self.hypernetwork = decoder.hypernetwork
        first, norm, _, second, _ = decoder.upscaling
        self.up1, self.norm1 = _upscaling(first, arithmetic), Norm(norm, arithmetic)
        self.up2 = _upscaling(second, arithmetic)
        third, norm, _, classes, _ = decoder.class_upscaling
        self.up3, self.norm3 = _upscaling(third, arithmetic), Norm(norm, arithmetic)
        assert isinstance(classes, nn.Conv2d)
        self.channels = classes.in_channels
        self.classes = ConvolutionGelu(classes, (0, _HALO), arithmetic)

    def forward(self, source: Tensor) -> Tensor:
        """Maps embeddings (B, h, w, D) to logits (B, K, 4h, 4w), float32."""
        batch, height, width, _ = source.shape
        image = source.flatten(1, 2)
        queries = self.start.expand(batch, -1, -1)
        for i, layer in enumerate(self.layers):
            queries, image = layer(cast(TwoWay, layer).own(queries) if i else queries, image)
        vectors = self._vectors(queries, image)
        image = torch.unflatten(image, 1, (height, width))
        if not self.arithmetic.blocked:
            return self._logits(self._fine(image, source), vectors)
        logits = source.new_empty(
            batch, self.num_classes, 4 * height, 4 * width, dtype=torch.float32
        )
        # On a CPU, one image and a band of token rows at a time. A token has 8 x 8 pixels in the
        # class convolution's input.
        rows = max(1, _BAND // (64 * self.channels * width))
        bands = [(top, min(top + rows, height)) for top in range(0, height, rows)]
        for index in range(batch):
            this = slice(index, index + 1)
            fine = source.new_empty(1, 8 * height + 2 * _HALO, 8 * width, self.channels)
            fine[:, :_HALO] = 0
            fine[:, -_HALO:] = 0
            for top, end in bands:
                target = fine[:, _HALO + 8 * top : _HALO + 8 * end]
                self._write_fine(image[this, top:end], source[this, top:end], target)
            # A second loop, because the convolution needs rows of the bands above and below.
            for top, end in bands:
                part = fine[:, 8 * top : 8 * end + 2 * _HALO - 1]
                logits[this, :, 4 * top : 4 * end] = self._logits(part, vectors[this])
        return logits

    def _vectors(self, queries: Tensor, image: Tensor) -> Tensor:
        """Returns the vector of the first mask token, shape (B, D / 8), float32."""
        k, v = self.last_image(image)
        # Only token 1, the first mask token, is needed.
        q = self.last.q_proj((queries + self.tokens)[:, 1:2]).to(k.dtype)
        attended = self.last.out_proj(attend(q, k, v, self.last.num_heads).float())
        token = self.norm_last(queries[:, 1:2] + attended)
        vectors: Tensor = self.hypernetwork(token)[:, 0]
        return vectors

    def _upscaled(self, image: Tensor) -> Tensor:
        """Maps (B, h, w, D) to (B, h, w, 4, 4, D / 8): the quarters of each quarter of a token."""
        quarters = torch.unflatten(self.up1(image), -1, (4, -1))
        return torch.unflatten(self.up2.gelu(F.gelu(self.norm1(quarters))), -1, (4, -1))

    def _write_fine(self, image: Tensor, source: Tensor, target: Tensor) -> None:
        """Writes the class convolution's input (B, 8h, 8w, D / 4) to ``target``.

        ``image`` and ``source`` are the transformer's output and input, shape (B, h, w, D).
        """
        batch, height, width, _ = image.shape
        both = torch.cat([self._upscaled(image), self._upscaled(source)], -1)
        quarters = F.gelu(self.norm3(torch.unflatten(self.up3(both), -1, (4, -1))))
        # (B, h, w, 4, 4, 4, C): split each axis of quarters into rows and columns, and write all of
        # them in the order of the raster.
        for axis in (5, 4, 3):
            quarters = torch.unflatten(quarters, axis, (2, 2))
        shape = (batch, height, 2, 2, 2, width, 2, 2, 2, self.channels)
        view = torch.unflatten(target, 2, (width, 2, 2, 2))
        view = torch.unflatten(view, 1, (height, 2, 2, 2))
        assert view.shape == shape
        view.copy_(quarters.permute(0, 1, 3, 5, 7, 2, 4, 6, 8, 9))

    def _fine(self, image: Tensor, source: Tensor) -> Tensor:
        batch, height, width, _ = image.shape
        fine = image.new_zeros(batch, 8 * height + 2 * _HALO, 8 * width, self.channels)
        self._write_fine(image, source, fine[:, _HALO:-_HALO])
        return fine[:, :-1]

    def _logits(self, fine: Tensor, vectors: Tensor) -> Tensor:
        """Maps (B, 2h + 5, 2w, D / 4) and vectors (B, D / 8) to logits (B, K, h, w), float32."""
        features = self.classes(fine)
        eye = torch.eye(self.num_classes, device=vectors.device)
        out = []
        for image, vector in zip(features, vectors, strict=True):
            # One matrix product for all groups: row k of ``selection`` (K, K * D / 8) holds the
            # vector at the channels of class k and zeros elsewhere.
            if self.classes_fastest:
                selection = torch.kron(vector[None], eye)
            else:
                selection = torch.kron(eye, vector[None])
            logits = products(image.flatten(0, 1), selection.to(image.dtype), self.arithmetic)
            out.append(torch.unflatten(logits.float().t(), 1, image.shape[:2]))
        return torch.stack(out)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Computes the attention of SAM's decoder.

    Args:
        q: Queries, shape (B, n, D).
        k: Keys, shape (B, m, D).
        v: Values, shape (B, m, D).
        heads: Number of heads, which share the D channels.

    Returns:
        Shape (B, n, D).
    """
    q, k, v = (torch.unflatten(t, 2, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _upscaling(layer: nn.Module, arithmetic: Arithmetic) -> Linear:
    """Turns a 2 x 2 transposed convolution with stride 2 into a linear layer.

    The layer maps a pixel to its four quarters.
    """
    assert isinstance(layer, nn.ConvTranspose2d)
    assert layer.bias is not None
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
    return Linear(weight, layer.bias.repeat(4), arithmetic)
