"""CWSAM for inference: the plain model's numbers, computed faster."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from cwsam_geo.errors import ModelError
from cwsam_geo.model.device import Precision, tune_allocator
from cwsam_geo.model.fast.arithmetic import Arithmetic, choose_arithmetic
from cwsam_geo.model.fast.decoder import FastDecoder
from cwsam_geo.model.fast.encoder import FastEncoder
from cwsam_geo.model.network.cwsam import Cwsam

__all__ = ["FastCwsam", "accelerate", "has_fast_network", "tune_allocator"]


class FastCwsam(nn.Module):
    """CWSAM laid out for one device and number format; it cannot be moved or trained.

    Args:
        cwsam: The plain model, whose weights are copied or shared.
    """

    def __init__(self, cwsam: Cwsam, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.architecture = cwsam.architecture
        # The decoder's no-mask embedding is added by the encoder's last norm, at no extra cost.
        shift = cwsam.decoder.no_mask_embed.weight[0]
        self.encoder = FastEncoder(cwsam.encoder, cwsam.architecture, arithmetic, shift)
        self.decoder = FastDecoder(cwsam.decoder, cwsam.architecture, arithmetic)
        # It computes in float32 in any case, and takes a small part of the time.
        self.texture = cwsam.texture

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Computes the logits of preprocessed images.

        Args:
            images: Shape (B, 3, T, T) with T the architecture's tile size, float32.

        Returns:
            Logits, shape (B, K, T / stride, T / stride), float32.

        Raises:
            ModelError: The images have another shape.
        """
        size = self.architecture.tile_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ModelError(
                f"the model takes images of shape (B, 3, {size}, {size}), not {tuple(images.shape)}"
            )
        logits: Tensor = self.decoder(self.encoder(images))
        return logits if self.texture is None else logits + self.texture(images)


def has_fast_network(device: torch.device) -> bool:
    """Whether the fast network supports a device; others compute with the plain one."""
    return device.type in ("cpu", "cuda")


@torch.no_grad()
def accelerate(cwsam: Cwsam, precision: Precision, compile: bool = False) -> nn.Module:
    """Makes a faster module that computes the same logits as a model, without gradients.

    Args:
        cwsam: The plain model on the device where the fast one will run; it is not changed.
        precision: Number format of the arithmetic.
        compile: Compile the whole with torch.compile. This is meant for GPUs; on a CPU it gained
            nothing in a measurement. The first batch of each size takes minutes, so
            ``TorchPredictor`` keeps the size constant. Compilation is not the default, and CUDA
            graphs are not captured, until both have been measured on a GPU: benchmarks/model.py
            has cases for them.

    Returns:
        A module whose ``forward`` takes images (B, 3, T, T), float32, and returns logits
        (B, K, T / stride, T / stride), float32.
    """
    device = cwsam.encoder.pos_embed.device
    fast = FastCwsam(cwsam, choose_arithmetic(device, precision, compile)).eval()
    return cast(nn.Module, torch.compile(fast, dynamic=False)) if compile else fast
