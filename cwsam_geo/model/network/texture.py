"""The texture head: logits from levels and textures around a pixel, beside the class masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwsam_geo.model.network.adapters import TrainableModule

if TYPE_CHECKING:
    from cwsam_geo.model.network.architecture import Architecture

WINDOWS = (1, 3, 7, 15, 31)
"""Sides of the windows in which levels and deviations are measured, in logits."""

STRUCTURE_WINDOWS = (7, 15, 31)
"""Sides of the windows in which the deviation of local means is measured, in logits."""

SPOT_WINDOW = 9
"""Side of the window in which the brightest and the darkest local mean are found, in logits."""

STATISTICS = 2 * len(WINDOWS) + len(STRUCTURE_WINDOWS) + 2
"""Numbers per channel of the image."""

DROPOUT = 0.1
"""Share of the hidden values that training leaves out."""

SMOOTHING = 5
"""Side of the window over which the head's logits are averaged, in logits."""

_LEAST_VARIANCE = 1e-6
"""Below this the root has no useful gradient and rounding decides."""


def local_statistics(images: Tensor, stride: int) -> Tensor:
    """Measures levels and textures around each logit, as classifiers of single pixels use them.

    For each channel: mean and standard deviation of its pixels in windows of ``WINDOWS``; the
    standard deviation of local means in ``STRUCTURE_WINDOWS``, in which speckle has averaged out;
    and how far the brightest and the darkest local mean near by are from the mean.

    Args:
        images: Shape (B, C, H, W), float32.
        stride: Pixels per logit.

    Returns:
        Shape (B, C * STATISTICS, H / stride, W / stride). Windows end at the tile's edge.
    """
    mean = F.avg_pool2d(images, stride)
    square = F.avg_pool2d(images * images, stride)
    found = []
    for size in WINDOWS:
        level = _box(mean, size)
        found += [level, _root(_box(square, size) - level * level)]
    smooth = _box(mean, WINDOWS[1])
    smooth_square = smooth * smooth
    for size in STRUCTURE_WINDOWS:
        level = _box(smooth, size)
        found.append(_root(_box(smooth_square, size) - level * level))
    around = _box(mean, STRUCTURE_WINDOWS[0])
    half = SPOT_WINDOW // 2
    found.append(F.max_pool2d(smooth, SPOT_WINDOW, 1, half) - around)
    found.append(-F.max_pool2d(-smooth, SPOT_WINDOW, 1, half) - around)
    return torch.cat(found, 1)


def _box(values: Tensor, size: int) -> Tensor:
    """Means of square windows, (B, C, h, w) to the same shape.

    For tiles of 128 px, products with band matrices are two to six times as fast on a CPU as
    pooling, and as exact.
    """
    if size == 1:
        return values
    rows, columns = (_averaging(length, size, values) for length in values.shape[-2:])
    return rows @ values @ columns.T


def _averaging(length: int, size: int, like: Tensor) -> Tensor:
    """The matrix (length, length) that averages a window around each place, cut off at the ends."""
    places = torch.arange(length, device=like.device)
    near = ((places[:, None] - places).abs() <= size // 2).to(like.dtype)
    return near / near.sum(1, keepdim=True)


def _root(variance: Tensor) -> Tensor:
    return variance.clamp(min=_LEAST_VARIANCE).sqrt()


class TextureHead(TrainableModule):
    """A perceptron on ``local_statistics`` that adds to the logits of the class masks.

    The transformer sees patches and learns, of few places, how these places look. Levels and
    textures alone hold in more places. The head is no part of the CWSAM paper.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        dim = architecture.texture_dim
        self.stride = architecture.stride
        self.layers = nn.Sequential(
            nn.Conv2d(3 * STATISTICS, dim, kernel_size=1),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Conv2d(dim, dim, kernel_size=1),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Conv2d(dim, architecture.num_classes, kernel_size=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Maps preprocessed images (B, 3, T, T) to logits (B, K, T / stride, T / stride)."""
        # A difference of squares needs float32, whatever the rest computes with.
        with torch.autocast(images.device.type, enabled=False):
            statistics = local_statistics(images.float(), self.stride)
            logits: Tensor = _box(self.layers(statistics), SMOOTHING)
        return logits
