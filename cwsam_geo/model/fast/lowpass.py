"""The low-pass filter of the prompt, with a real FFT cropped to the kept frequencies."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cwsam_geo.model.adapters import LOW_FREQUENCY_SHARE


class LowPass(nn.Module):
    """Computes ``cwsam_geo.model.adapters.low_pass`` for square images of one size."""

    def __init__(self, size: int, device: torch.device) -> None:
        super().__init__()
        self._size = size
        self._half = half = int(math.sqrt(size * size * LOW_FREQUENCY_SHARE) // 2)
        # The plain form keeps frequencies -half .. half - 1 of a complex spectrum, and takes the
        # real part of the result. This averages the weights of each frequency and its negative, so
        # the frequencies -half and half get half the weight.
        rows = torch.arange(-half, half + 1)
        mask = _kept(rows, half)[:, None] * _kept(rows, half)[None, :]
        weights = (mask + mask.flip(0, 1)) / 2
        # Rows in the order of an unshifted spectrum, columns from frequency 0 up.
        self._rows = (rows.roll(-half) % size).to(device)
        self._weights = weights.roll(-half, 0)[:, half:].contiguous().to(device)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the absolute low-pass values of images (B, C, T, T), float32, same shape."""
        size, half = self._size, self._half
        # The filter zeroes all columns beyond ``half``: skip their transforms along the rows.
        spectrum = torch.fft.rfft(images)[..., : half + 1]
        spectrum = torch.fft.fft(spectrum, dim=-2)
        low = torch.zeros_like(spectrum)
        low[..., self._rows, :] = spectrum[..., self._rows, :] * self._weights
        low = torch.fft.ifft(low, dim=-2)
        values: Tensor = torch.fft.irfft(low, n=size)
        return values.abs_()


def _kept(frequency: Tensor, half: int) -> Tensor:
    return ((frequency >= -half) & (frequency < half)).float()
