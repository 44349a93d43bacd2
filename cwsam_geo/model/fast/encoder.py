"""The image encoder for inference: the same numbers with fewer and larger operations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model.fast.arithmetic import Arithmetic
from cwsam_geo.model.fast.attention import GlobalAttention, WindowAttention
from cwsam_geo.model.fast.layout import TokenLayout
from cwsam_geo.model.fast.linear import Linear, Norm
from cwsam_geo.model.network.adapters import LOW_FREQUENCY_SHARE
from cwsam_geo.model.network.encoder import MLP_ADAPTER_SCALE, Block, Encoder

if TYPE_CHECKING:
    from cwsam_geo.model.network.architecture import Architecture


class FastBlock(nn.Module):
    """A transformer block with its adapters and the last layer of its prompt.

    Args:
        block: The plain block.
        prompt: The linear layer that the prompts of all blocks share.
        layout: Order of the tokens.
        arithmetic: Number format and operators.
    """

    def __init__(
        self, block: Block, prompt: nn.Module, layout: TokenLayout, arithmetic: Arithmetic
    ) -> None:
        super().__init__()
        self.prompt = Linear.of(prompt, arithmetic)
        self.norm1 = Norm(block.norm1, arithmetic)
        self.attend: nn.Module
        if block.window:
            self.attend = WindowAttention(block.attn, layout, arithmetic, block.attend_padding)
        else:
            self.attend = GlobalAttention(block.attn, layout, arithmetic)
        self.proj = Linear.of(block.attn.proj, arithmetic)
        # The adapter's first layer directly follows the output projection: one layer does both.
        self.adapter_in = _composed(block.attention_adapter.down, block.attn.proj, arithmetic)
        self.adapter_out = Linear.of(block.attention_adapter.up, arithmetic)
        self.norm2 = Norm(block.norm2, arithmetic)
        # The MLP and its adapter have the same input and both a GELU inside: side by side they are
        # one wider MLP.
        mlp, adapter = block.mlp, block.mlp_adapter
        first, second = cast("list[nn.Linear]", [mlp.lin1, mlp.lin2])
        self.mlp_in = Linear.stacked([first, adapter.down], arithmetic)
        self.mlp_out = Linear(
            torch.cat([second.weight, MLP_ADAPTER_SCALE * adapter.up.weight], 1),
            second.bias + MLP_ADAPTER_SCALE * adapter.up.bias,
            arithmetic,
        )

    def forward(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """Maps tokens (B * S, D) and the features of their prompt (B * S, D / 32) to tokens."""
        tokens = self.prompt.plus(prompt, tokens)
        attended = self.attend(self.norm1(tokens))
        adapted = self.adapter_in.gelu(attended)
        tokens = self.proj.plus(attended, tokens)
        tokens = self.adapter_out.plus(adapted, tokens)
        return self.mlp_out.plus(self.mlp_in.gelu(self.norm2(tokens)), tokens)


class FastEncoder(nn.Module):
    """Computes image embeddings, channels last.

    Args:
        encoder: The plain encoder.
        architecture: Sizes and options.
        arithmetic: Number format and operators.
        shift: Vector added to the embedding of every token, shape (decoder dim,).
    """

    def __init__(
        self, encoder: Encoder, architecture: Architecture, arithmetic: Arithmetic, shift: Tensor
    ) -> None:
        super().__init__()
        backbone, prompt = architecture.backbone, encoder.prompt
        self.grid, self.patch_size = architecture.grid_size, backbone.patch_size
        self.dtype = arithmetic.dtype
        self.layout = TokenLayout(self.grid, backbone.window)
        self.patch_embed = _as_linear(cast(nn.Module, encoder.patch_embed.proj), arithmetic)
        self.position = encoder.pos_embed.detach().to(self.dtype)
        self.low_pass = LowPass(architecture.tile_size, self.position.device)
        self.scrambled = prompt.scrambled
        self.image_embed = _as_linear(cast(nn.Module, prompt.image_embed.proj), arithmetic)
        self.token_embed = Linear.of(prompt.token_embed, arithmetic)
        self.block_layers = Linear.stacked(list(prompt.block_layers), arithmetic)
        self.blocks = nn.ModuleList(
            FastBlock(cast(Block, block), prompt.shared, self.layout, arithmetic)
            for block in encoder.blocks
        )
        thin, norm1, wide, norm2 = encoder.neck
        self.thin = Linear(cast(Tensor, thin.weight).flatten(1), None, arithmetic)
        self.norm1 = Norm(norm1, arithmetic)
        weight = cast(Tensor, wide.weight).detach()
        self.wide = weight.to(self.dtype, memory_format=torch.channels_last)
        self.norm2 = Norm(norm2, arithmetic, shift)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, 3, T, T), float32, to embeddings (B, h, w, decoder dim)."""
        raster = self.patch_embed(self._squares(images))
        prompts = self._prompts(images, raster)
        tokens = self.layout.to_windows(raster + self.position)
        for block, prompt in zip(self.blocks, prompts, strict=True):
            tokens = block(tokens, prompt)
        thin = self.norm1(self.thin(self.layout.to_raster(tokens)))
        wide = F.conv2d(thin.permute(0, 3, 1, 2), self.wide, padding=1)
        embedding: Tensor = self.norm2(wide.permute(0, 2, 3, 1))
        return embedding

    def _squares(self, images: Tensor) -> Tensor:
        """Returns the pixels of each token as channels, shape (B, h, w, 3 * patch size ** 2)."""
        size = self.patch_size
        squares = torch.unflatten(images.to(self.dtype), 3, (-1, size))
        squares = torch.unflatten(squares, 2, (-1, size))
        return squares.permute(0, 2, 4, 1, 3, 5).flatten(3)

    def _prompts(self, images: Tensor, raster: Tensor) -> list[Tensor]:
        """Returns the features (B * S, D / 32) of each block's prompt, in window order."""
        low = self.image_embed(self._squares(self.low_pass(images)))
        if self.scrambled:
            # As in the plain network, for converted checkpoints: see ``LowFrequencyPrompt``.
            batch, height, width, dim = raster.shape
            raster = raster.reshape(batch, dim, height * width).transpose(1, 2)
            raster = raster.reshape(batch, height, width, dim)
        features = self.layout.to_windows(self.token_embed.plus(raster, low))
        hidden = self.block_layers.gelu(features)
        return [part.contiguous() for part in hidden.chunk(len(self.blocks), -1)]


def _as_linear(convolution: nn.Module, arithmetic: Arithmetic) -> Linear:
    """Turns a convolution with stride equal to its kernel into a linear layer on the pixels."""
    assert isinstance(convolution, nn.Conv2d)
    return Linear(convolution.weight.flatten(1), convolution.bias, arithmetic)


def _composed(outer: nn.Linear, inner: nn.Linear, arithmetic: Arithmetic) -> Linear:
    """Multiplies two successive linear layers out to one, in float64."""
    weight, bias = outer.weight.detach().double(), outer.bias.detach().double()
    inner_weight, inner_bias = inner.weight.detach().double(), inner.bias.detach().double()
    return Linear(weight @ inner_weight, weight @ inner_bias + bias, arithmetic)


class LowPass(nn.Module):
    """Computes ``cwsam_geo.model.network.adapters.low_pass`` for square images of one size."""

    def __init__(self, size: int, device: torch.device) -> None:
        super().__init__()
        self._size = size
        self._half = half = int(math.sqrt(size * size * LOW_FREQUENCY_SHARE) // 2)
        # The plain form keeps frequencies -half .. half - 1 of a complex spectrum, and takes the
        # real part of the result. This averages the weights of each frequency and its negative, so
        # the frequencies -half and half get half the weight.
        rows = torch.arange(-half, half + 1)
        mask = _kept(rows, half)[:, None] * _kept(rows, half)[None, :]
        weights = (mask + mask.flip(0, 1)) / 2
        # Rows in the order of an unshifted spectrum, columns from frequency 0 up.
        self._rows = (rows.roll(-half) % size).to(device)
        self._weights = weights.roll(-half, 0)[:, half:].contiguous().to(device)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the absolute low-pass values of images (B, C, T, T), float32, same shape."""
        size, half = self._size, self._half
        # The filter zeroes all columns beyond ``half``: skip their transforms along the rows.
        spectrum = torch.fft.rfft(images)[..., : half + 1]
        spectrum = torch.fft.fft(spectrum, dim=-2)
        low = torch.zeros_like(spectrum)
        low[..., self._rows, :] = spectrum[..., self._rows, :] * self._weights
        low = torch.fft.ifft(low, dim=-2)
        values: Tensor = torch.fft.irfft(low, n=size)
        return values.abs_()


def _kept(frequency: Tensor, half: int) -> Tensor:
    return ((frequency >= -half) & (frequency < half)).float()
