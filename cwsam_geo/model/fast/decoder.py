"""The class-wise decoder for inference: channels last, in bands, constants kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model.decoder import ClassWiseDecoder
from cwsam_geo.model.fast.arithmetic import Arithmetic
from cwsam_geo.model.fast.linear import ConvolutionGelu, Linear, Norm, products

if TYPE_CHECKING:
    from cwsam_geo.model.build import Architecture

_HALO = 3
# Values of the widest layer computed at once on a CPU.
_BAND = 1 << 21


class ImageSide(nn.Module):
    """What an attention layer or two compute of the image's tokens, in one product.

    Args:
        layers: Linear layers of the image's tokens; keys and queries see positions, values not.
        positions: Positional encoding of the image, shape (S, D).
        arithmetic: How to compute.
    """

    def __init__(self, layers: list[nn.Linear], positions: Tensor, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.project = Linear.stacked(layers, arithmetic)
        parts = [
            positions @ layer.weight.t() * (0 if i == 1 else 1) for i, layer in enumerate(layers)
        ]
        self.positions = torch.cat(parts, 1).detach().to(arithmetic.dtype)
        self.count = len(layers)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, S, D) to each layer's output (B, S, D')."""
        projected: Tensor = self.project(image) + self.positions
        return tuple(projected.chunk(self.count, -1))


class TwoWay(nn.Module):
    """A layer of SAM's two-way transformer; the few prompt tokens stay in float32.

    Args:
        layer: The plain layer.
        tokens: The prompt tokens, shape (1, T, D): they are their own positional encoding.
        positions: Positional encoding of the image, shape (S, D).
        arithmetic: How to compute with the image's tokens.
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
        """The tokens' attention to themselves; in the first layer the same for every image."""
        q = queries if self.plain.skip_first_layer_pe else queries + self.tokens
        attended = self.plain.self_attn(q=q, k=q, v=queries)
        if not self.plain.skip_first_layer_pe:
            attended = queries + attended
        out: Tensor = self.plain.norm1(attended)
        return out

    def forward(self, queries: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens after ``own`` (B, T, D) and image (B, S, D) to both after this layer."""
        plain = self.plain
        k, v, q = self.image_side(image)
        to_image, to_tokens = plain.cross_attn_token_to_image, plain.cross_attn_image_to_token
        query = to_image.q_proj(queries + self.tokens)
        attended = to_image.out_proj(attend(query.to(k.dtype), k, v, self.heads).float())
        queries = plain.norm2(queries + attended)
        queries = plain.norm3(queries + plain.mlp(queries))
        k = to_tokens.k_proj(queries + self.tokens).to(q.dtype)
        v = to_tokens.v_proj(queries).to(q.dtype)
        return queries, self.norm(self.out.plus(attend(q, k, v, self.heads), image))


class FastDecoder(nn.Module):
    """Image embedding, channels last, to logits.

    Args:
        decoder: The plain decoder; its no-mask embedding is already in the image embedding.
        architecture: Its sizes and options.
        arithmetic: How to compute.
    """

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
        """Embeddings (B, h, w, D) to logits (B, K, 4h, 4w), float32."""
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
        rows = max(1, _BAND // (64 * self.channels * width))
        bands = [(top, min(top + rows, height)) for top in range(0, height, rows)]
        for one in range(batch):
            this = slice(one, one + 1)
            fine = source.new_empty(1, 8 * height + 2 * _HALO, 8 * width, self.channels)
            fine[:, :_HALO] = 0
            fine[:, -_HALO:] = 0
            for top, end in bands:
                target = fine[:, _HALO + 8 * top : _HALO + 8 * end]
                self._write_fine(image[this, top:end], source[this, top:end], target)
            for top, end in bands:
                part = fine[:, 8 * top : 8 * end + 2 * _HALO - 1]
                logits[this, :, 4 * top : 4 * end] = self._logits(part, vectors[this])
        return logits

    def _vectors(self, queries: Tensor, image: Tensor) -> Tensor:
        """The vector of the first mask token, shape (B, D / 8), float32."""
        k, v = self.last_image(image)
        q = self.last.q_proj((queries + self.tokens)[:, 1:2]).to(k.dtype)
        attended = self.last.out_proj(attend(q, k, v, self.last.num_heads).float())
        token = self.norm_last(queries[:, 1:2] + attended)
        vectors: Tensor = self.hypernetwork(token)[:, 0]
        return vectors

    def _upscaled(self, image: Tensor) -> Tensor:
        """(B, h, w, D) to (B, h, w, 4, 4, D / 8): four quarters of four quarters of a token."""
        quarters = torch.unflatten(self.up1(image), -1, (4, -1))
        return torch.unflatten(self.up2.gelu(F.gelu(self.norm1(quarters))), -1, (4, -1))

    def _write_fine(self, image: Tensor, source: Tensor, target: Tensor) -> None:
        """Writes the class convolution's input: (B, h, w, D) twice to (B, 8h, 8w, D / 4)."""
        batch, height, width, _ = image.shape
        both = torch.cat([self._upscaled(image), self._upscaled(source)], -1)
        quarters = F.gelu(self.norm3(torch.unflatten(self.up3(both), -1, (4, -1))))
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
        """(B, 2h + 5, 2w, D / 4) and the images' vectors to (B, K, h, w), float32."""
        features = self.classes(fine)
        eye = torch.eye(self.num_classes, device=vectors.device)
        out = []
        for image, vector in zip(features, vectors, strict=True):
            # As a product: the vector once for each class, zero elsewhere.
            if self.classes_fastest:
                selection = torch.kron(vector[None], eye)
            else:
                selection = torch.kron(eye, vector[None])
            logits = products(image.flatten(0, 1), selection.to(image.dtype), self.arithmetic)
            out.append(torch.unflatten(logits.float().t(), 1, image.shape[:2]))
        return torch.stack(out)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention of SAM's decoder: (B, n, D), (B, m, D) and (B, m, D) to (B, n, D)."""
    q, k, v = (torch.unflatten(t, 2, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _upscaling(layer: nn.Module, arithmetic: Arithmetic) -> Linear:
    """A transposed convolution 2 x 2 / 2 as a map from a pixel to its four quarters."""
    assert isinstance(layer, nn.ConvTranspose2d)
    assert layer.bias is not None
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
    return Linear(weight, layer.bias.repeat(4), arithmetic)
