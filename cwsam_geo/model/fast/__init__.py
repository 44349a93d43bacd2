"""CWSAM for inference: the plain model's numbers, near the speed of the machine."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cwsam_geo.model.build import Cwsam
from cwsam_geo.model.device import Precision
from cwsam_geo.model.fast.decoder import FastDecoder
from cwsam_geo.model.fast.encoder import FastEncoder

_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class FastCwsam(nn.Module):
    """A CWSAM made ready to run.

    Args:
        cwsam: The plain model, whose weights are copied.
        dtype: Number format of the arithmetic.
    """

    def __init__(self, cwsam: Cwsam, dtype: torch.dtype) -> None:
        super().__init__()
        self.architecture = cwsam.architecture
        shift = cwsam.decoder.no_mask_embed.weight[0]
        self.encoder = FastEncoder(cwsam.encoder, cwsam.architecture, dtype, shift)
        self.decoder = FastDecoder(cwsam.decoder, cwsam.architecture, dtype)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, T, T) to logits (B, K, T / stride, T / stride), both float32."""
        logits: Tensor = self.decoder(self.encoder(images))
        return logits


@torch.no_grad()
def accelerate(cwsam: Cwsam, precision: Precision, compile: bool = False) -> nn.Module:
    """A module that computes what a model computes, faster."""
    fast = FastCwsam(cwsam, _DTYPES[precision]).eval()
    return fast
