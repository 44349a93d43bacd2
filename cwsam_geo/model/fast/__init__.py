"""CWSAM for inference: the plain model's numbers, near the speed of the machine."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from cwsam_geo.errors import ModelError
from cwsam_geo.model.build import Cwsam
from cwsam_geo.model.device import Precision
from cwsam_geo.model.fast.allocator import tune_allocator
from cwsam_geo.model.fast.arithmetic import Arithmetic, choose_arithmetic
from cwsam_geo.model.fast.decoder import FastDecoder
from cwsam_geo.model.fast.encoder import FastEncoder

__all__ = ["FastCwsam", "accelerate", "tune_allocator"]


class FastCwsam(nn.Module):
    """A CWSAM laid out for one device and number format; it cannot be moved or trained.

    Args:
        cwsam: The plain model, whose weights are copied or shared.
        arithmetic: How to compute.

    Attributes:
        architecture: Sizes and options.
    """

    def __init__(self, cwsam: Cwsam, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.architecture = cwsam.architecture
        # The decoder adds its no-mask embedding to every token: the encoder's last norm does.
        shift = cwsam.decoder.no_mask_embed.weight[0]
        self.encoder = FastEncoder(cwsam.encoder, cwsam.architecture, arithmetic, shift)
        self.decoder = FastDecoder(cwsam.decoder, cwsam.architecture, arithmetic)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images to logits.

        Args:
            images: Preprocessed, shape (B, 3, T, T) with T the architecture's tile size, float32.

        Returns:
            Logits, shape (B, K, T / stride, T / stride), float32.

        Raises:
            ModelError: The images have another size.
        """
        size = self.architecture.tile_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ModelError(
                f"the model takes images of shape (B, 3, {size}, {size}), not {tuple(images.shape)}"
            )
        logits: Tensor = self.decoder(self.encoder(images))
        return logits


@torch.no_grad()
def accelerate(cwsam: Cwsam, precision: Precision, compile: bool = False) -> nn.Module:
    """A module that computes what a model computes, faster.

    Args:
        cwsam: The plain model, on the device where it shall run. It stays as it is.
        precision: Number format of the arithmetic.
        compile: Let torch.compile rewrite the whole: minutes at the first batch of each size,
            which ``TorchPredictor`` therefore keeps the same. It is meant for GPUs; on a CPU it was
            measured to gain nothing. Not the default, and no CUDA graphs are captured, until both
            have been measured on a GPU: benchmarks/model.py has cases for them.

    Returns:
        Its ``forward`` takes images (B, 3, T, T), float32, and returns logits
        (B, K, T / stride, T / stride), float32, without gradients.
    """
    device = cwsam.encoder.pos_embed.device
    fast = FastCwsam(cwsam, choose_arithmetic(device, precision, compile)).eval()
    return cast(nn.Module, torch.compile(fast, dynamic=False)) if compile else fast
