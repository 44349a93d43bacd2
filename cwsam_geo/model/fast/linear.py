"""Layers whose weights are laid out once: oneDNN's on a CPU, with GELU and sums fused in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model.fast.arithmetic import Arithmetic

_MKLDNN = torch.ops.mkldnn


class Linear(nn.Module):
    """A linear layer whose weights are laid out for one device and number format, once.

    Args:
        weight: Shape (out, in).
        bias: Shape (out,), or None.
        arithmetic: How to compute.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, arithmetic: Arithmetic) -> None:
        super().__init__()
        dtype = arithmetic.dtype
        self._onednn = arithmetic.onednn
        self._bias = None if bias is None else bias.detach().to(dtype).contiguous()
        # Contiguous: transposed weights send oneDNN to its reference loop.
        weight = weight.detach().to(dtype).contiguous()
        self._weight = _MKLDNN._reorder_linear_weight(weight, None) if self._onednn else weight

    @classmethod
    def of(cls, layer: nn.Module, arithmetic: Arithmetic) -> Linear:
        """The same map as an ``nn.Linear``."""
        assert isinstance(layer, nn.Linear)
        return cls(layer.weight, layer.bias, arithmetic)

    @classmethod
    def stacked(cls, layers: Sequence[nn.Module], arithmetic: Arithmetic) -> Linear:
        """The outputs of several ``nn.Linear`` of one input, side by side."""
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        for layer in layers:
            assert isinstance(layer, nn.Linear)
            weights.append(layer.weight)
            biases.append(layer.bias)
        return cls(torch.cat(weights), torch.cat(biases), arithmetic)

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
            added: Tensor = other + self(values)
            return added
        out: Tensor = _MKLDNN._linear_pointwise.binary(
            values, other, self._weight, self._bias, "add"
        )
        return out


class ConvolutionGelu(nn.Module):
    """GELU of a 2-D convolution, channels last, its weights laid out once.

    Args:
        layer: The plain convolution.
        padding: Zeros above and below, and left and right, instead of the layer's own.
        arithmetic: How to compute.
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
    """Layer norm over the last axis.

    Args:
        layer: ``nn.LayerNorm`` or SAM's ``LayerNorm2d``, which is the same over channels.
        arithmetic: How to compute; the mean and the variance are float32's.
        shift: Added to the output, shape (channels,).
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
        """(..., channels) to the same."""
        if values.device.type != "cpu":
            # Only the CPU takes float32 weights with values of half the width.
            values = values.float()
        normed = F.layer_norm(values, values.shape[-1:], self._weight, self._bias, self._eps)
        return normed.to(self._dtype)


def products(left: Tensor, right: Tensor, arithmetic: Arithmetic) -> Tensor:
    """All products of rows: (n, c) and (m, c) to (n, m)."""
    if left.dtype == torch.float32 and arithmetic.onednn:
        out: Tensor = _MKLDNN._linear_pointwise(left, right, None, "none", [], "")
        return out
    return left @ right.t()
