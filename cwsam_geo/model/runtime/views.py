"""Test-time augmentation: a tile is mapped in several views, and their logits are averaged.

The views differ in what should not matter: a tile is mirrored, and moved by half a patch of the
network. Moving changes more: the network cuts a tile into patches, and a map depends on where they
begin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from cwsam_geo.model.network.architecture import UPSCALING

_HALF_PATCH = UPSCALING // 2
"""Half a patch in logits; the other half of a patch is as long, because UPSCALING is even."""


@dataclass(frozen=True)
class View:
    """A way of looking at a tile.

    Attributes:
        mirrored: Axes along which the tile is mirrored.
        down: Half patches by which the tile's content is moved down first.
        right: Half patches by which it is moved to the right first.
    """

    mirrored: tuple[int, ...] = ()
    down: int = 0
    right: int = 0


VIEWS = (View(), View((-1,), right=1), View((-2,), down=1), View((-2, -1), down=1, right=1))
"""The tile itself and its three mirror images, each with its patches elsewhere."""


def mean_logits(model: Callable[[Tensor], Tensor], images: Tensor, stride: int) -> Tensor:
    """Averages a model's logits over ``VIEWS``.

    Args:
        model: Maps images (B, 3, T, T) to logits (B, K, T / stride, T / stride).
        images: Shape (B, 3, T, T).
        stride: Pixels per logit.

    Returns:
        Shape (B, K, T / stride, T / stride). A logit that a moved view does not show, because it
        left the tile, is the mean over the other views.
    """
    first = model(images)
    total, count = first.clone(), first.new_ones(1, 1, *first.shape[-2:])
    for view in VIEWS[1:]:
        down, right = _HALF_PATCH * view.down, _HALF_PATCH * view.right
        moved = _moved(images, down * stride, right * stride).flip(view.mirrored)
        logits = model(moved.contiguous()).flip(view.mirrored)
        height, width = logits.shape[-2] - down, logits.shape[-1] - right
        total[..., :height, :width] += logits[..., down:, right:]
        count[..., :height, :width] += 1
    return total.div_(count)


def _moved(images: Tensor, down: int, right: int) -> Tensor:
    """Images whose content is moved; the first rows and columns repeat the edge."""
    if not down and not right:
        return images
    padded = F.pad(images, (right, 0, down, 0), mode="replicate")
    return padded[..., : images.shape[-2], : images.shape[-1]]
