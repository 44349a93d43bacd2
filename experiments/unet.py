"""A U-Net of about 1 million parameters, to compare with, trained on the tiles that ours gets."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from recipe import PRETRAIN, simulated_region, simulation
from torch import Tensor, nn

from cwsam_geo.finetuning.data.prepare import RegionData, region_data
from cwsam_geo.finetuning.region.config import RegionConfig
from cwsam_geo.finetuning.targets.losses import SegmentationLoss
from cwsam_geo.finetuning.training.batches import (
    EpochBatches,
    ProcessShare,
    Samples,
    TileBatches,
    batch_loader,
)
from cwsam_geo.finetuning.training.loop import validation_matrix

UNET_LR = 1e-3


class _Twice(nn.Sequential):
    """Two convolutions with batch norm."""

    def __init__(self, inner: int, outer: int) -> None:
        layers: list[nn.Module] = []
        for channels in (inner, outer):
            layers += [
                nn.Conv2d(channels, outer, 3, padding=1, bias=False),
                nn.BatchNorm2d(outer),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) with five levels and about 1 million parameters."""

    def __init__(self, classes: int, width: int = 12, levels: int = 5) -> None:
        super().__init__()
        sizes = [width * 2**i for i in range(levels)]
        self.down = nn.ModuleList(_Twice(a, b) for a, b in zip([3, *sizes], sizes, strict=False))
        self.up = nn.ModuleList(
            _Twice(a + b, a) for a, b in zip(sizes[-2::-1], sizes[:0:-1], strict=True)
        )
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, T, T) to logits (B, K, T, T)."""
        features, kept = images, []
        for i, block in enumerate(self.down):
            features = block(F.max_pool2d(features, 2) if i else features)
            kept.append(features)
        for block, skip in zip(self.up, kept[-2::-1], strict=True):
            up = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = block(torch.cat([skip, up], 1))
        logits: Tensor = self.head(features)
        return logits


def train_unet(
    data: RegionData, config: RegionConfig, seconds: float, start: dict[str, Tensor] | None = None
) -> UNet:
    """Trains a U-Net for some seconds of processor time, from some weights or random ones."""
    torch.manual_seed(config.recipe.seed)
    model = UNet(len(config.legend))
    if start is not None:
        model.load_state_dict(start)
    given = config.recipe.class_weights
    weights = [1.0] * len(config.legend) if isinstance(given, str) else given
    loss = SegmentationLoss(config.recipe.loss, data.sets, weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=UNET_LR, weight_decay=0.01)
    size = config.recipe.batch_size or 8
    keys = EpochBatches(len(data.training), size, 1, ProcessShare())
    batches = batch_loader(data.training, keys, 0)
    began = time.process_time()
    done = 0.0
    while done < 1:
        model.train()
        for images, labels in batches:
            done = (time.process_time() - began) / seconds
            if done >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = UNET_LR * (1 + math.cos(math.pi * done)) / 2
            optimizer.zero_grad()
            loss(model(images), labels).backward()
            optimizer.step()
        keys.epoch += 1
        scored(model, data.validation, data, size)  # The model pays for this too.
    return model


def pretrained_unet(folder: Path, minutes: float) -> dict[str, Tensor] | None:
    """Weights of a U-Net after some minutes of processor time on simulated scenes; kept.

    It goes through the stages that the model goes through, each for its share of the samples.
    """
    if not minutes:
        return None
    weights: dict[str, Tensor] | None = None
    samples = {name: stage["epochs"] * stage["samples"] for name, stage in PRETRAIN.items()}
    for levels, count in samples.items():
        path = folder / simulation() / f"unet_{minutes:g}_{levels}.pt"
        if not path.exists():
            seconds = 60 * minutes * count / sum(samples.values())
            with region_data(config := simulated_region(folder, levels, "small")) as tiles:
                torch.save(train_unet(tiles, config, seconds, weights).state_dict(), path)
        weights = torch.load(path, weights_only=True)
    return weights


def scored(model: nn.Module, tiles: Samples, data: RegionData, size: int) -> NDArray[np.int64]:
    """The model's confusion matrix on fixed tiles."""
    model.eval()
    batches = batch_loader(tiles, TileBatches(len(tiles), size, ProcessShare()), 0)
    return validation_matrix(model, batches, data.sets, torch.device("cpu"), None)
