"""Layers with prepared weights, on a CPU in oneDNN's layout and with fused GELU and sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model.fast.arithmetic import Arithmetic

_MKLDNN = torch.ops.mkldnn


class Linear(nn.Module):
    """A linear layer whose weights are converted once for a device and a number format.

    Args:
        weight: Shape (out, in).
        bias: Shape (out,), or None.
        arithmetic: Number format and operators.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, arithmetic: Arithmetic) -> None:
        super().__init__()
        dtype = arithmetic.dtype
        self._onednn = arithmetic.onednn
        self._bias = None if bias is None else bias.detach().to(dtype).contiguous()
        # With transposed weights oneDNN would fall back to its slow reference loop.
        weight = weight.detach().to(dtype).contiguous()
        self._weight = _MKLDNN._reorder_linear_weight(weight, None) if self._onednn else weight

    @classmethod
    def of(cls, layer: nn.Module, arithmetic: Arithmetic) -> Linear:
        """Makes the equivalent of an ``nn.Linear``."""
        assert isinstance(layer, nn.Linear)
        return cls(layer.weight, layer.bias, arithmetic)

    @classmethod
    def stacked(cls, layers: Sequence[nn.Module], arithmetic: Arithmetic) -> Linear:
        """Makes one layer that gives the outputs of several ``nn.Linear`` side by side."""
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        for layer in layers:
            assert isinstance(layer, nn.Linear)
            weights.append(layer.weight)
            biases.append(layer.bias)
        return cls(torch.cat(weights), torch.cat(biases), arithmetic)

    def forward(self, values: Tensor) -> Tensor:
        """Maps (..., in) to (..., out)."""
        if not self._onednn:
            return F.linear(values, self._weight, self._bias)
        out: Tensor = _MKLDNN._linear_pointwise(values, self._weight, self._bias, "none", [], "")
        return out

    def gelu(self, values: Tensor) -> Tensor:
        """Returns GELU (exact, not the tanh approximation) of the layer's output."""
        if not self._onednn:
            return F.gelu(self(values))
        out: Tensor = _MKLDNN._linear_pointwise(
            values, self._weight, self._bias, "gelu", [], "none"
        )
        return out

    def plus(self, values: Tensor, other: Tensor) -> Tensor:
        """Returns the layer's output plus ``other``, in a new tensor."""
        if not self._onednn or other.dtype != values.dtype:
            added: Tensor = other + self(values)
            return added
        out: Tensor = _MKLDNN._linear_pointwise.binary(
            values, other, self._weight, self._bias, "add"
        )
        return out


class ConvolutionGelu(nn.Module):
    """A 2-D convolution followed by GELU, channels last, with prepared weights.

    Args:
        layer: The plain convolution.
        padding: Rows of zeros above and below, and columns of zeros left and right. They replace
            the layer's own padding.
        arithmetic: Number format and operators.
    """

    def __init__(self, layer: nn.Conv2d, padding: tuple[int, int], arithmetic: Arithmetic) -> None:
        super().__init__()
        dtype = arithmetic.dtype
        self._stride, self._padding = list(layer.stride), list(padding)
        weight = layer.weight.detach().to(dtype, memory_format=torch.channels_last)
        assert layer.bias is not None
        self._bias = layer.bias.detach().to(dtype)
        self._onednn = arithmetic.onednn
        if self._onednn:
            weight = _MKLDNN._reorder_convolution_weight(
                weight, self._padding, self._stride, [1, 1], 1, None
            )
        self._weight = weight

    def forward(self, values: Tensor) -> Tensor:
        """Maps (B, h, w, in) to (B, h', w', out)."""
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
    """Layer norm over the last axis; mean and variance are computed in float32.

    Args:
        layer: ``nn.LayerNorm``, or SAM's ``LayerNorm2d``, which does the same over channels.
        arithmetic: Its number format is that of the output.
        shift: Vector added to the output, shape (channels,).
    """

    def __init__(
        self, layer: nn.Module, arithmetic: Arithmetic, shift: Tensor | None = None
    ) -> None:
        super().__init__()
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor)
        assert isinstance(bias, Tensor)
        self._weight = weight.detach().float()
        self._bias = bias.detach().float() + (0 if shift is None else shift.detach().float())
        self._eps = float(layer.eps)  # type: ignore[arg-type]
        self._dtype = arithmetic.dtype

    def forward(self, values: Tensor) -> Tensor:
        """Normalises values of shape (..., channels)."""
        if values.device.type != "cpu":
            # Only the CPU accepts float32 weights with bf16 or fp16 values.
            values = values.float()
        normed = F.layer_norm(values, values.shape[-1:], self._weight, self._bias, self._eps)
        return normed.to(self._dtype)


def products(left: Tensor, right: Tensor, arithmetic: Arithmetic) -> Tensor:
    """Returns the dot products (n, m) of all rows of (n, c) with all rows of (m, c)."""
    if left.dtype == torch.float32 and arithmetic.onednn:
        out: Tensor = _MKLDNN._linear_pointwise(left, right, None, "none", [], "")
        return out
    return left @ right.t()
