"""How to compute: number format and operators, chosen by device and precision."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import torch

from cwsam_geo.model.device import Precision

AttentionKernel = Literal["blocked", "folded", "flex"]
"""How tokens attend to their whole tile.

``blocked``: some rows of scores at a time, which stay in a processor's cache. ``folded``: a fused
kernel, with the relative positions as further channels of queries and keys. ``flex``: a kernel that
torch.compile writes, which adds the relative positions to the scores.
"""

_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@dataclass(frozen=True)
class Arithmetic:
    """How to compute.

    Attributes:
        dtype: Number format of weights and activations.
        onednn: Use oneDNN's operators on weights laid out for them, with GELU and sums fused in.
        kernel: How tokens attend to their whole tile; ``blocked`` also has the windows and the
            decoder work in blocks.
    """

    dtype: torch.dtype
    onednn: bool
    kernel: AttentionKernel

    @property
    def blocked(self) -> bool:
        """Whether to compute in blocks that fit a processor's cache."""
        return self.kernel == "blocked"


def choose_arithmetic(
    device: torch.device, precision: Precision, compiled: bool = False
) -> Arithmetic:
    """The arithmetic that suits a device.

    Args:
        device: Where to compute.
        precision: Number format of the arithmetic.
        compiled: Whether the whole goes through torch.compile, which cannot look into oneDNN's
            weights and brings its own fusion.
    """
    dtype = _DTYPES[precision]
    if device.type == "cpu":
        return Arithmetic(dtype, not compiled and onednn_works(dtype), "blocked")
    return Arithmetic(dtype, False, "flex" if compiled and device.type == "cuda" else "folded")


@functools.cache
def onednn_works(dtype: torch.dtype) -> bool:
    """Whether oneDNN's linear layers and convolutions can be used here.

    Torch's own linear layer calls MKL in float32, which is slower than oneDNN on AMD processors.
    The operators are those that torch.compile emits; where a build lacks them or they behave
    otherwise, torch's own take their place.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    ops = torch.ops.mkldnn
    values, weight = torch.ones(2, 16, dtype=dtype), torch.ones(16, 16, dtype=dtype)
    filters, image = weight[..., None, None], values.view(1, 2, 1, 16).permute(0, 3, 1, 2)
    try:
        packed = ops._reorder_linear_weight(weight, None)
        sums = ops._linear_pointwise(values, packed, None, "none", [], "")
        sums = ops._linear_pointwise.binary(values, sums, packed, None, "add")
        packed = ops._reorder_convolution_weight(filters, [0, 0], [1, 1], [1, 1], 1, None)
        convolved = ops._convolution_pointwise(
            image, packed, None, [0, 0], [1, 1], [1, 1], 1, "gelu", [], "none"
        )
    except (AttributeError, RuntimeError):
        return False
    return bool((sums == 32).all()) and bool((convolved == 16).all())
