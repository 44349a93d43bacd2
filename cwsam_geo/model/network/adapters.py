"""CWSAM's additions to SAM's encoder: adapters and the low-frequency prompt."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model.network import sam
from cwsam_geo.model.network.architecture import PROMPT_RATIO

# These values are those of the CWSAM authors' code: their checkpoints load and give equal logits.
ADAPTER_RATIO = 4
"""Channels D of a token per channel of an adapter's bottleneck."""

LOW_FREQUENCY_SHARE = 0.25
"""Share of the spectrum's area that ``low_pass`` keeps."""


class TrainableModule(nn.Module):
    """Base class of modules whose parameters are fine-tuned; all other parameters stay frozen."""


class Adapter(TrainableModule):
    """Bottleneck D -> D/4 -> D with GELU, as in CWSAM (arXiv 2401.02326).

    Args:
        dim: Channels D of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, dim // ADAPTER_RATIO)
        self.up = nn.Linear(dim // ADAPTER_RATIO, dim)
        # The output starts as zero, so a fresh adapter leaves SAM unchanged.
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the residual to add to the tokens; both have shape (..., D)."""
        added: Tensor = self.up(F.gelu(self.down(tokens)))
        return added


def low_pass(images: Tensor) -> Tensor:
    """Keeps the lowest frequencies of an image: a quarter of the spectrum's area.

    A centred square of side sqrt(H * W / 4) of the 2-D spectrum is transformed back. The CWSAM
    paper (arXiv 2401.02326) takes this from Explicit Visual Prompting (arXiv 2303.10883).

    Args:
        images: Shape (B, C, H, W), float32.

    Returns:
        Absolute values, same shape, float32.
    """
    height, width = images.shape[-2:]
    half = int(math.sqrt(height * width * LOW_FREQUENCY_SHARE) // 2)
    spectrum = torch.fft.fft2(images.float())
    # In the unshifted spectrum the kept frequencies -half .. half - 1 are at both ends of an axis.
    keep_rows = _is_low(height, half, images.device)
    keep_columns = _is_low(width, half, images.device)
    spectrum = spectrum * (keep_rows[:, None] & keep_columns[None, :])
    low: Tensor = torch.fft.ifft2(spectrum).real.abs()
    return low


def _is_low(size: int, half: int, device: torch.device) -> Tensor:
    frequency = torch.arange(size, device=device)
    frequency = torch.where(frequency < (size + 1) // 2, frequency, frequency - size)
    return (frequency >= -half) & (frequency < half)


class LowFrequencyPrompt(TrainableModule):
    """Makes a prompt for every block from the image's low frequencies and its patch embedding.

    Args:
        dim: Channels D of a token; the inner layers have D/32.
        depth: Number of encoder blocks.
        patch_size: Side of SAM's patch embedding in pixels.
        scrambled: Reproduce the authors' code, which passes the (B, h, w, D) memory of the patch
            embedding to the linear map as if its shape were (B, D, h * w). This mixes positions
            and channels.
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
        # The prompts start as zero, so they leave SAM unchanged at first.
        nn.init.zeros_(self.shared.weight)
        nn.init.zeros_(self.shared.bias)

    def features(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Computes the features from which the prompts of all blocks are made.

        Args:
            images: Shape (B, 3, H, W), float32.
            tokens: Patch embedding of the images, without position embedding; shape (B, h, w, D).

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
        """Returns the prompt to add to the input of one block, shape (B, h, w, D)."""
        prompt: Tensor = self.shared(F.gelu(self.block_layers[block](features)))
        return prompt
