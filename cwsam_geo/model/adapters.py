"""What CWSAM adds to SAM's encoder: adapters and the low-frequency prompt."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model import sam

ADAPTER_RATIO = 4
PROMPT_RATIO = 32
LOW_FREQUENCY_SHARE = 0.25


class Trained(nn.Module):
    """Base of the modules whose parameters fine-tuning trains; all others stay frozen."""


class Adapter(Trained):
    """Bottleneck D -> D/4 -> D with GELU; starts as zero, so that SAM starts unchanged.

    Args:
        dim: Channels D of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, dim // ADAPTER_RATIO)
        self.up = nn.Linear(dim // ADAPTER_RATIO, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """What to add to the tokens, same shape (..., D)."""
        added: Tensor = self.up(F.gelu(self.down(tokens)))
        return added


def low_pass(images: Tensor) -> Tensor:
    """The part of an image in its lowest frequencies, a quarter of the spectrum's area.

    A centred square of side sqrt(H * W / 4) of the 2-D spectrum, transformed back; from the CWSAM
    paper (arXiv 2401.02326), which takes it from Explicit Visual Prompting (arXiv 2303.10883).

    Args:
        images: Shape (B, C, H, W), float32.

    Returns:
        Absolute values, same shape, float32.
    """
    height, width = images.shape[-2:]
    half = int(math.sqrt(height * width * LOW_FREQUENCY_SHARE) // 2)
    spectrum = torch.fft.fft2(images.float())
    # Of frequencies -half .. half-1 each way, the unshifted spectrum holds two edge strips.
    keep_rows = _is_low(height, half, images.device)
    keep_columns = _is_low(width, half, images.device)
    spectrum = spectrum * (keep_rows[:, None] & keep_columns[None, :])
    low: Tensor = torch.fft.ifft2(spectrum).real.abs()
    return low


def _is_low(size: int, half: int, device: torch.device) -> Tensor:
    frequency = torch.arange(size, device=device)
    frequency = torch.where(frequency < (size + 1) // 2, frequency, frequency - size)
    return (frequency >= -half) & (frequency < half)


class LowFrequencyPrompt(Trained):
    """Low-frequency content of the image and its patch embedding, as a prompt for every block.

    Args:
        dim: Channels D of a token; the prompt has D/32 inside.
        depth: Number of encoder blocks.
        patch_size: Side of SAM's patch embedding in pixels.
        scrambled: As the authors' code does it, the linear map reads the (B, h, w, D) memory of
            the patch embedding as if it were (B, D, h * w), which mixes positions and channels.
    """

    def __init__(self, dim: int, depth: int, patch_size: int, scrambled: bool) -> None:
        super().__init__()
        inner = dim // PROMPT_RATIO
        size = (patch_size, patch_size)
        self.scrambled = scrambled
        self.image_embed = sam.PatchEmbed(kernel_size=size, stride=size, embed_dim=inner)
        self.token_embed = nn.Linear(dim, inner)
        self.block_layers = nn.ModuleList(nn.Linear(inner, inner) for _ in range(depth))
        self.shared = nn.Linear(inner, dim)
        nn.init.zeros_(self.shared.weight)
        nn.init.zeros_(self.shared.bias)

    def features(self, images: Tensor, tokens: Tensor) -> Tensor:
        """What the prompts of all blocks are made from.

        Args:
            images: Shape (B, 3, H, W), float32.
            tokens: Their patch embedding without positions, shape (B, h, w, D).

        Returns:
            Features, shape (B, h, w, D/32).
        """
        if self.scrambled:
            batch, height, width, dim = tokens.shape
            mixed = tokens.reshape(batch, dim, height * width).transpose(1, 2)
            tokens = mixed.reshape(batch, height, width, dim)
        features: Tensor = self.image_embed(low_pass(images)) + self.token_embed(tokens)
        return features

    def forward(self, features: Tensor, block: int) -> Tensor:
        """The prompt of one block, to add to its input: shape (B, h, w, D)."""
        prompt: Tensor = self.shared(F.gelu(self.block_layers[block](features)))
        return prompt
