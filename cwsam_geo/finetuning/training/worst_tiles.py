"""The validation tiles that a trained model gets wrong most."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cwsam_geo.finetuning.targets.class_sets import single_channels
from cwsam_geo.finetuning.targets.losses import upsampled
from cwsam_geo.finetuning.training.batches import Samples
from cwsam_geo.model.device import Precision, autocast

_MOST = 6
"""Tiles that a report shows: a reader looks at no more."""


@dataclass(frozen=True)
class WorstTile:
    """A tile with many wrong pixels.

    Attributes:
        index: Number of the tile in its samples.
        wrong: Labelled pixels with another class in the map.
        counted: Labelled pixels. Those whose label allows several classes do not count.
        confused: Channels of label and map that differ most often.
        image: The preprocessed image, shape (3, T, T), float32.
        labels: Channel of each pixel's label, shape (T, T); -1 where it does not count.
        mapped: Channel of the map, shape (T, T).
    """

    index: int
    wrong: int
    counted: int
    confused: tuple[int, int]
    image: NDArray[np.float32]
    labels: NDArray[np.int64]
    mapped: NDArray[np.int64]


def worst_tiles(
    model: nn.Module,
    tiles: Samples,
    sets: NDArray[np.bool_],
    ignore: tuple[int, ...],
    arithmetic: tuple[torch.device, Precision],
) -> list[WorstTile]:
    """The tiles with most wrong pixels, the worst first.

    Args:
        model: Maps images (B, 3, T, T) to logits (B, K, t, t).
        tiles: Labelled tiles that are the same in every epoch.
        sets: Which classes each label row allows, shape (S, K), bool.
        ignore: Channels whose labels do not count.
        arithmetic: Device and number format.
    """
    device, precision = arithmetic
    model.eval()
    channels = single_channels(sets)
    channels = np.where(np.isin(channels, ignore), -1, channels)
    worst: list[tuple[int, int, WorstTile]] = []
    for index in range(len(tiles)):
        image, rows = tiles.sample(0, index)
        with torch.inference_mode(), autocast(device, precision):
            logits = model(torch.from_numpy(image)[None].to(device))
        with torch.inference_mode():
            mapped = upsampled(logits, rows.shape).argmax(1)[0].cpu().numpy()
        labels = channels[rows]
        wrong = (labels >= 0) & (labels != mapped)
        number = int(wrong.sum())
        if not number or (len(worst) == _MOST and number <= worst[0][0]):
            continue
        pairs = labels[wrong] * len(sets[0]) + mapped[wrong]
        confused = divmod(int(np.bincount(pairs).argmax()), len(sets[0]))
        tile = WorstTile(index, number, int((labels >= 0).sum()), confused, image, labels, mapped)
        heapq.heappush(worst, (number, -index, tile))
        if len(worst) > _MOST:
            heapq.heappop(worst)
    return [tile for _, _, tile in sorted(worst, reverse=True)]
