"""Linear layers for inference: oneDNN's on the CPU, with GELU and residual sums fused in."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MKLDNN = torch.ops.mkldnn


@functools.cache
def onednn_works(dtype: torch.dtype) -> bool:
    """Whether oneDNN's linear layer can be used on this processor with this torch.

    Torch's own linear layer calls MKL in float32, which reaches half of oneDNN's speed on AMD.
    The operators used are those that torch.compile emits; where a build lacks them, torch's own
    take their place.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    values, weight = torch.ones(2, 16, dtype=dtype), torch.ones(16, 16, dtype=dtype)
    try:
        packed = _MKLDNN._reorder_linear_weight(weight, None)
        out = _MKLDNN._linear_pointwise(values, packed, None, "none", [], "")
        out = _MKLDNN._linear_pointwise.binary(values, out, packed, None, "add")
        filters = torch.ones(16, 16, 1, 1, dtype=dtype)
        _MKLDNN._reorder_convolution_weight(filters, [0, 0], [1, 1], [1, 1], 1, None)
        return bool((out == 2 * values.shape[1]).all())
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


class Linear(nn.Module):
    """A linear layer whose weights are laid out for one device and number format, once.

    Args:
        weight: Shape (out, in).
        bias: Shape (out,), or None.
        dtype: Number format of the arithmetic.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self._onednn = weight.device.type == "cpu" and onednn_works(dtype)
        self._bias = None if bias is None else bias.detach().to(dtype).contiguous()
        # Contiguous: transposed weights send oneDNN to its reference loop.
        weight = weight.detach().to(dtype).contiguous()
        self._weight = _MKLDNN._reorder_linear_weight(weight, None) if self._onednn else weight

    @classmethod
    def of(cls, layer: nn.Module, dtype: torch.dtype) -> Linear:
        """The same map as an ``nn.Linear``."""
        assert isinstance(layer, nn.Linear)
        return cls(layer.weight, layer.bias, dtype)

    @classmethod
    def stacked(cls, layers: Sequence[nn.Module], dtype: torch.dtype) -> Linear:
        """The outputs of several ``nn.Linear`` of one input, side by side."""
        weights, biases = [], []
        for layer in layers:
            assert isinstance(layer, nn.Linear)
            weights.append(layer.weight)
            biases.append(layer.bias)
        return cls(torch.cat(weights), torch.cat(biases), dtype)

    def forward(self, values: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        if not self._onednn:
            return F.linear(values, self._weight, self._bias)
        out: Tensor = _MKLDNN._linear_pointwise(values, self._weight, self._bias, "none", [], "")
        return out

    def gelu(self, values: Tensor) -> Tensor:
        """GELU (exact, not its tanh approximation) of the layer's output."""
        if not self._onednn:
            return F.gelu(self(values))
        out: Tensor = _MKLDNN._linear_pointwise(
            values, self._weight, self._bias, "gelu", [], "none"
        )
        return out

    def plus(self, values: Tensor, other: Tensor) -> Tensor:
        """The layer's output plus ``other``, a new tensor of that shape and number format."""
        if not self._onednn or other.dtype != values.dtype:
            return other + self(values)
        out: Tensor = _MKLDNN._linear_pointwise.binary(
            values, other, self._weight, self._bias, "add"
        )
        return out


class ConvolutionGelu(nn.Module):
    """GELU of a 2-D convolution, channels last, its weights laid out once.

    Args:
        layer: The plain convolution.
        padding: Zeros above and below, and left and right, instead of the layer's own.
        dtype: Number format of the arithmetic.
    """

    def __init__(
        self, layer: nn.Conv2d, padding: tuple[int, int], dtype: torch.dtype
    ) -> None:
        super().__init__()
        self._stride, self._padding = list(layer.stride), list(padding)
        weight = layer.weight.detach().to(dtype, memory_format=torch.channels_last)
        assert layer.bias is not None
        self._bias = layer.bias.detach().to(dtype)
        self._onednn = weight.device.type == "cpu" and onednn_works(dtype)
        if self._onednn:
            weight = _MKLDNN._reorder_convolution_weight(
                weight, self._padding, self._stride, [1, 1], 1, None
            )
        self._weight = weight

    def forward(self, values: Tensor) -> Tensor:
        """(B, h, w, in) to (B, h', w', out)."""
        values = values.permute(0, 3, 1, 2)
        if self._onednn:
            out: Tensor = _MKLDNN._convolution_pointwise(
                values, self._weight, self._bias, self._padding, self._stride, [1, 1], 1,
                "gelu", [], "none",
            )  # fmt: skip
        else:
            out = F.gelu(F.conv2d(values, self._weight, self._bias, self._stride, self._padding))
        return out.permute(0, 2, 3, 1)


class Norm(nn.Module):
    """Layer norm over the last axis, from any number format to one.

    Args:
        layer: ``nn.LayerNorm`` or SAM's ``LayerNorm2d``, which is the same over channels.
        dtype: Of the output.
        shift: Added to the output, shape (channels,).
    """

    def __init__(self, layer: nn.Module, dtype: torch.dtype, shift: Tensor | None = None) -> None:
        super().__init__()
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
        self._weight = weight.detach().float()
        self._bias = bias.detach().float() + (0 if shift is None else shift.detach().float())
        self._eps = float(layer.eps)  # type: ignore[arg-type]
        self._dtype = dtype

    def forward(self, values: Tensor) -> Tensor:
        """(..., channels) to the same."""
        shape = values.shape[-1:]
        weight, bias = self._weight, self._bias
        if values.device.type != "cpu":
            # Only the CPU takes float32 weights with values of half the width.
            weight, bias = weight.to(values.dtype), bias.to(values.dtype)
        return F.layer_norm(values, shape, weight, bias, self._eps).to(self._dtype)
