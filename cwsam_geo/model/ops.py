"""The blender's arithmetic on torch tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cwsam_geo.model.transfer import Fetched
from cwsam_geo.ops import Decision, PendingDecision


class TorchOps:
    """``cwsam_geo.ops.Ops`` on torch tensors; only decided bytes come back to the CPU.

    Args:
        device: Where the tensors are.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def zeros(self, shape: Sequence[int]) -> Tensor:
        """Zeros, float32, on the device."""
        return torch.zeros(tuple(shape), dtype=torch.float32, device=self.device)

    def constant(self, values: NDArray[np.float32]) -> Tensor:
        """The values as a tensor on the device."""
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)

    def upsample(self, logits: Tensor, stride: int) -> Tensor:
        """(K, h, w) to (K, h * stride, w * stride), bilinear, ``align_corners=False``."""
        size = (logits.shape[1] * stride, logits.shape[2] * stride)
        return F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]

    def decide(self, logits: Tensor, confidence: bool, probabilities: bool) -> PendingDecision:
        """Winning channels and probabilities of logits (K, h, w).

        Args:
            logits: Raw values.
            confidence: Also give the winner's probability.
            probabilities: Also give every class's.

        Returns:
            Gives channels, and probabilities in per cent where asked for, all uint8 on the CPU.
        """
        # max gives the winner five times faster than argmax does on a CPU.
        best, channels = logits.max(0)
        codes = _fetched_bytes(channels)
        if not (confidence or probabilities):
            return lambda: Decision(codes.numpy())
        shares = (logits - best).exp()
        total = shares.sum(0)
        each = (100 * shares / total).round().to(torch.uint8) if probabilities else None
        # The winner's own share is exp(0). Divided anew it may be rounded the other way.
        winner = (100 / total).round() if each is None else each.amax(0)
        sure = _fetched_bytes(winner) if confidence else None
        all_of_them = None if each is None else _fetched_bytes(each)
        return lambda: Decision(codes.numpy(), _read(sure), _read(all_of_them))


def _fetched_bytes(values: Tensor) -> Fetched:
    return Fetched(values.to(torch.uint8))


def _read(values: Fetched | None) -> NDArray[np.uint8] | None:
    return None if values is None else values.numpy()
