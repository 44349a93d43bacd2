"""Water of floods that were never seen: the bundled model's recipe, a threshold, and a U-Net.

    python benchmarks/floods.py --data DATA --output FOLDER

Leave one flood out: of the hand-labelled scenes of Sen1Floods11 all but one flood's train, that
flood's test. Test pixels of all folds are pooled before the IoU of water is taken. Compared are

- the bundled model's recipe (benchmarks/landcover.py) from random weights, trained with
  ``finetune`` on the other floods and TerraMind's tiles;
- a global threshold on speckle-filtered VH: filter, size and threshold are those with the best
  pooled IoU on the training floods of the fold. Also printed: the one threshold that is best on
  all test pixels together, which nobody can know beforehand;
- a U-Net of about 1 million parameters, on the same tiles, with the same augmentation, split,
  and loss, for as much processor time as the model took in the fold.

It passes where the model is 5 points above the threshold or more, and above the U-Net.

A fold that is done is kept in FOLDER and, with the same recipe, not computed again, so folds can be
shared out among processes with ``--only``; a last run without it pools them.

DATA holds ``sen1floods11``; by default it is CWSAM_GEO_TEST_DATA or ``../shared/data`` beside the
repository. Scenes without a labelled pixel that has data take no part.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from landcover import CLASSES, TRAIN, WATER, region, shared_data
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from torch import Tensor, nn

from cwsam_geo.finetuning import finetune
from cwsam_geo.grid import Window
from cwsam_geo.io.source import open_source
from cwsam_geo.metrics import Scores
from cwsam_geo.train.config import RegionConfig
from cwsam_geo.train.job import FinetuneOptions
from cwsam_geo.train.losses import SegmentationLoss
from cwsam_geo.train.prepare import RegionData, region_data
from cwsam_geo.train.samples import EpochBatches, Samples, Share, TileBatches, batch_loader
from cwsam_geo.train.validation import validation_matrix

POINTS = 5.0
"""How far above the threshold the model must be, in points of IoU."""

LOOKS = 4.4
"""Equivalent number of looks of Sentinel-1 IW GRD, for the Lee filter."""

THRESHOLDS = np.arange(-32.0, -8.0, 0.25)
FILTERS = [(kind, size) for kind in ("mean", "lee") for size in (3, 5, 7, 9, 11)]


@dataclass(frozen=True)
class FloodScene:
    """A hand-labelled scene.

    Attributes:
        flood: Which flood it shows.
        vh: VH in dB, shape (H, W); NaN where there is no data.
        water: True where it is labelled water.
        known: True where it has data and a label.
    """

    flood: str
    vh: NDArray[np.float32]
    water: NDArray[np.bool_]
    known: NDArray[np.bool_]


def flood_scenes(data: Path) -> list[FloodScene]:
    """The scenes that have labelled pixels with data."""
    found = []
    for path in sorted((data / "sen1floods11").glob("*_S1Hand.tif")):
        labels = path.with_name(path.name.replace("S1Hand", "LabelHand"))
        with open_source([path]) as source, open_source([labels]) as reference:
            window = Window(0, 0, source.grid.height, source.grid.width)
            values, valid = source.read(window)
            codes = reference.read(window)[0][0]
        known = valid & (codes >= 0)
        if known.any():
            vh = np.where(valid, values[1], np.float32(np.nan))
            found.append(FloodScene(path.name.split("_")[0], vh, codes == 1, known))
    return found


# Threshold


def filtered(vh: NDArray[np.float32], kind: str, size: int) -> NDArray[np.float64]:
    """Speckle-filtered backscatter in dB: a moving mean of power, or Lee's filter (1980)."""
    there = np.isfinite(vh)
    power = np.where(there, 10 ** (vh.astype(np.float64) / 10), 0)
    share = np.maximum(uniform_filter(there.astype(np.float64), size), 1e-9)
    mean = uniform_filter(power, size) / share
    if kind == "lee":
        spread = uniform_filter(power**2, size) / share - mean**2
        noise = mean**2 / LOOKS
        signal = np.maximum(spread - noise, 0) / (1 + 1 / LOOKS)
        mean = mean + signal / np.maximum(signal + noise, 1e-20) * (power - mean)
    return 10 * np.log10(np.maximum(mean, 1e-10))


def threshold_counts(scene: FloodScene) -> NDArray[np.int64]:
    """Intersection and union of water for each filter and threshold, (filters, thresholds, 2)."""
    counts = np.zeros((len(FILTERS), len(THRESHOLDS), 2), np.int64)
    water = scene.water & scene.known
    for f, (kind, size) in enumerate(FILTERS):
        level = filtered(scene.vh, kind, size)
        for t, threshold in enumerate(THRESHOLDS):
            dark = (level < threshold) & scene.known
            counts[f, t] = (dark & water).sum(), (dark | water).sum()
    return counts


def pooled(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of counts summed over scenes, shape (filters, thresholds)."""
    total = counts.sum(0)
    return np.asarray(total[..., 0] / np.maximum(total[..., 1], 1))


def by_threshold(every: list[FloodScene], only: set[str]) -> dict[str, Any]:
    """Pooled IoU of some folds, or all, and of the one threshold that is best on their pixels."""
    counts = np.stack([threshold_counts(scene) for scene in every])
    floods = np.array([scene.flood for scene in every])
    tested = sorted(only & set(floods.tolist()) or set(floods.tolist()))
    hits, chosen = {}, {}
    for flood in tested:
        scores = pooled(counts[floods != flood])
        f, t = np.unravel_index(int(scores.argmax()), scores.shape)
        hits[flood] = counts[floods == flood, f, t].sum(0)
        chosen[flood] = f"{FILTERS[f][0]} {FILTERS[f][1]}, {THRESHOLDS[t]:.2f} dB"
    inside, either = np.sum(list(hits.values()), 0)
    return {
        "iou": float(inside / either),
        "best_in_hindsight": float(pooled(counts[np.isin(floods, tested)]).max()),
        "folds": {flood: float(i / max(u, 1)) for flood, (i, u) in hits.items()},
        "chosen": chosen,
    }


# U-Net


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


def train_unet(data: RegionData, config: RegionConfig, seconds: float) -> NDArray[np.int64]:
    """Trains a U-Net for some seconds of processor time.

    Returns:
        The confusion matrix on the test tiles, of what it is at the end.
    """
    torch.manual_seed(config.recipe.seed)
    model = UNet(len(config.legend))
    loss = SegmentationLoss(config.recipe.loss, data.sets, [1.0] * len(config.legend))
    optimizer = torch.optim.AdamW(model.parameters(), lr=UNET_LR, weight_decay=0.01)
    size = config.recipe.batch_size or 8
    keys = EpochBatches(len(data.training), size, 1, Share())
    batches = batch_loader(data.training, keys, 0)
    assert data.test is not None
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
    return scored(model, data.test, data, size)


UNET_LR = 1e-3


def scored(model: nn.Module, tiles: Samples, data: RegionData, size: int) -> NDArray[np.int64]:
    """The model's confusion matrix on fixed tiles."""
    model.eval()
    batches = batch_loader(tiles, TileBatches(len(tiles), size, Share()), 0)
    return validation_matrix(model, batches, data.sets, torch.device("cpu"), None)


# Folds


def folds(
    every: list[FloodScene], data: Path, output: Path, settings: dict[str, Any], only: set[str]
) -> Iterator[dict[str, Any]]:
    """Trains and tests both models on each fold."""
    for flood in sorted({scene.flood for scene in every}):
        if only and flood not in only:
            continue
        kept, recipe = output / f"without_{flood.lower()}_fold.json", {**TRAIN, **settings}
        if kept.exists() and (old := json.loads(kept.read_text())).get("recipe") == recipe:
            yield old
            continue
        config = region(data, flood, settings)
        path = output / f"without_{flood.lower()}.safetensors"
        began, cpu = time.perf_counter(), time.process_time()
        result = finetune(config, path, FinetuneOptions(overwrite=True))
        wall, seconds = time.perf_counter() - began, time.process_time() - cpu
        report = json.loads(path.with_name(f"{path.stem}_metrics.json").read_text())
        with region_data(config) as tiles:
            rival = train_unet(tiles, config, seconds)
        fold = {
            "flood": flood,
            "recipe": recipe,
            "model": report["test"]["matrix"]["counts"],
            "unet": rival.tolist(),
            "epoch": result.epoch,
            "validation_miou": result.miou,
            "minutes": wall / 60,
            "cpu_minutes": seconds / 60,
        }
        click.echo(
            f"{flood}: model {water_iou(fold['model']):.3f}, U-Net {water_iou(fold['unet']):.3f} "
            f"(validation mIoU {result.miou:.3f}, {wall / 60:.1f} min, {seconds / 60:.1f} CPU min)",
            err=True,
        )
        kept.write_text(json.dumps(fold))
        yield fold


def water_iou(matrix: Any) -> float:
    """IoU of water in a confusion matrix."""
    return float(Scores.of(matrix).iou[WATER])


def percent(matrix: Any) -> float | None:
    """IoU of water in per cent, None where there is none and none was found."""
    iou = water_iou(matrix)
    return None if math.isnan(iou) else round(100 * iou, 1)


def total(found: list[dict[str, Any]], name: str) -> Any:
    """Sum of a model's confusion matrices."""
    return np.sum([fold[name] for fold in found], 0)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=shared_data, help="Data folder.")
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="Folder for the models."
)
@click.option("--threads", default=2, show_default=True)
@click.option("--only", multiple=True, help="Only this flood's fold; repeatable.")
@click.option("--train", "settings", default="{}", help="JSON that wins over the recipe.")
def main(data: Path, output: Path, threads: int, only: tuple[str, ...], settings: str) -> None:
    """Trains all and prints the pooled IoU of water."""
    torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    every = flood_scenes(data)
    threshold = by_threshold(every, set(only))
    click.echo(json.dumps(threshold), err=True)
    found = list(folds(every, data, output, json.loads(settings), set(only)))
    ours, unet = (100 * water_iou(total(found, name)) for name in ("model", "unet"))
    theirs = 100 * threshold["iou"]
    summary = {
        "model_iou": round(ours, 2),
        "threshold_iou": round(theirs, 2),
        "threshold_best_in_hindsight": round(100 * threshold["best_in_hindsight"], 2),
        "unet_iou": round(unet, 2),
        "unet_parameters": sum(p.numel() for p in UNet(len(CLASSES)).parameters()),
        "folds": [
            {
                "flood": f["flood"],
                "model": percent(f["model"]),
                "unet": percent(f["unet"]),
                "threshold": round(100 * threshold["folds"][f["flood"]], 1),
                "minutes": round(f["minutes"], 1),
                "cpu_minutes": round(f["cpu_minutes"], 1),
            }
            for f in found
        ],
        "threads": threads,
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "passed": ours >= theirs + POINTS and ours > unet,
    }
    click.echo(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
