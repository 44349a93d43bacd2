"""Water of floods that were never seen: the bundled model's recipe, a threshold, and a U-Net.

    python experiments/floods.py --data DATA --output FOLDER

Leave one flood out: of the hand-labelled scenes of Sen1Floods11 all but one flood's train, that
flood's test. Test pixels of all folds are pooled before the IoU of water is taken. Compared are

- the bundled model's recipe (experiments/recipe.py) from random weights, trained with
  ``finetune`` on the other floods and TerraMind's tiles; with ``--simulated`` it is pre-trained on
  simulated scenes, which know of no flood;
- a global threshold on speckle-filtered VH: filter, size and threshold are those with the best
  pooled IoU on the training floods of the fold. Also printed: the one threshold that is best on
  all test pixels together, which nobody can know beforehand;
- a U-Net of about 1 million parameters, on the same tiles, with the same augmentation, split and
  loss, for as much processor time as the model took in the fold (``--unet-minutes`` on simulated
  ones before).

It passes where the model is 5 points above the threshold or more, and above the U-Net.

A fold that is done is kept in FOLDER and, with the same recipe, not computed again, so folds can be
shared out among processes with ``--only``; a last run without it pools them. With ``--simulated``,
let ``water.py pretrain`` come first, or each process pre-trains; so does the U-Net, unless the
first fold with ``--unet-minutes`` is done.

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
from numpy.typing import NDArray
from recipe import CLASSES, WATER, Recipe, shared_data
from scipy.ndimage import uniform_filter
from unet import UNet, pretrained_unet, scored, train_unet

from cwsam_geo.core.grid import Window
from cwsam_geo.core.metrics import Scores
from cwsam_geo.finetuning.data.prepare import region_data
from cwsam_geo.finetuning.finetune import finetune
from cwsam_geo.finetuning.options import FinetuneOptions
from cwsam_geo.finetuning.region.config import RegionConfig
from cwsam_geo.scene.source import open_source

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
    return np.asarray(10 * np.log10(np.maximum(mean, 1e-10)))


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


# Folds


def folds(
    floods: list[str], recipe: Recipe, output: Path, unet_minutes: float | None
) -> Iterator[dict[str, Any]]:
    """Trains and tests both models on each fold.

    Args:
        floods: Those to leave out in turn.
        recipe: How our model is trained.
        output: Folder for what is kept.
        unet_minutes: Processor time of the U-Net on simulated scenes; None: no U-Net.
    """
    for flood in floods:
        config = recipe.region(flood)
        fold = model_fold(flood, config, recipe, output)
        text = f"{flood}: model {water_iou(fold['model']):.3f} in {fold['cpu_minutes']:.1f} CPU min"
        if unet_minutes is not None:
            fold |= unet_fold(config, fold, output, unet_minutes)
            text += f", U-Net {water_iou(fold['unet']):.3f}"
        click.echo(text, err=True)
        yield fold


def kept(path: Path, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """What was measured before with the same recipe."""
    old: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return old if old.get("recipe") == recipe else None


def model_fold(flood: str, config: RegionConfig, recipe: Recipe, output: Path) -> dict[str, Any]:
    """Our model, trained without one flood, and its confusion matrix there."""
    note = output / f"without_{flood.lower()}_fold.json"
    if old := kept(note, recipe.said):
        return old
    path = output / f"without_{flood.lower()}.safetensors"
    began, cpu = time.perf_counter(), time.process_time()
    finetune(config, path, FinetuneOptions(overwrite=True))
    wall, seconds = time.perf_counter() - began, time.process_time() - cpu
    report = json.loads(path.with_name(f"{path.stem}_metrics.json").read_text())
    fold = {
        "flood": flood,
        "recipe": recipe.said,
        "model": report["test"]["matrix"]["counts"],
        "minutes": wall / 60,
        "cpu_minutes": seconds / 60,
    }
    note.write_text(json.dumps(fold))
    return fold


def unet_fold(
    config: RegionConfig, fold: dict[str, Any], output: Path, minutes: float
) -> dict[str, Any]:
    """A U-Net, trained as long as the model was, and its confusion matrix there."""
    said = {**fold["recipe"], "pretraining": minutes}
    note = output / f"without_{fold['flood'].lower()}_unet.json"
    if old := kept(note, said):
        return {"unet": old["unet"]}
    start = pretrained_unet(output, minutes)
    with region_data(config) as tiles:
        model = train_unet(tiles, config, 60 * fold["cpu_minutes"], start)
        assert tiles.test is not None
        matrix = scored(model, tiles.test, tiles, config.recipe.batch_size or 8).tolist()
    note.write_text(json.dumps({"recipe": said, "unet": matrix}))
    return {"unet": matrix}


def water_iou(matrix: Any) -> float:
    """IoU of water in a confusion matrix."""
    return float(Scores.of(matrix).iou[WATER])


def percent(iou: float, digits: int = 1) -> float | None:
    """IoU in per cent, None where there is no water and none was found."""
    return None if math.isnan(iou) else round(100 * iou, digits)


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
@click.option("--simulated", is_flag=True, help="Pre-train on simulated scenes.")
@click.option("--unet/--no-unet", default=True, help="Train a U-Net too.")
@click.option(
    "--unet-minutes",
    default=0.0,
    show_default=True,
    help="Processor time of the U-Net on simulated scenes; with --simulated the model takes 60.",
)
def main(data: Path, output: Path, threads: int, only: tuple[str, ...], **options: Any) -> None:
    """Trains all and prints the pooled IoU of water."""
    torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    every = flood_scenes(data)
    threshold = by_threshold(every, set(only))
    click.echo(json.dumps(threshold), err=True)
    train = json.loads(options["settings"])
    recipe = Recipe(data, output, train, simulated=options["simulated"])
    minutes = options["unet_minutes"] if options["unet"] else None
    wanted = sorted({scene.flood for scene in every if not only or scene.flood in only})
    found = list(folds(wanted, recipe, output, minutes))
    summary = {
        **compared(found, threshold),
        "unet_parameters": sum(p.numel() for p in UNet(len(CLASSES)).parameters()),
        "threads": threads,
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    click.echo(json.dumps(summary, indent=2))


def compared(found: list[dict[str, Any]], threshold: dict[str, Any]) -> dict[str, Any]:
    """Pooled figures and those of each fold, in per cent."""
    ours, theirs = water_iou(total(found, "model")), threshold["iou"]
    unet = water_iou(total(found, "unet")) if "unet" in found[0] else None
    return {
        "model_iou": percent(ours, 2),
        "threshold_iou": percent(theirs, 2),
        "threshold_best_in_hindsight": percent(threshold["best_in_hindsight"], 2),
        "unet_iou": None if unet is None else percent(unet, 2),
        "folds": [
            {
                "flood": f["flood"],
                "model": percent(water_iou(f["model"])),
                "unet": percent(water_iou(f["unet"])) if "unet" in f else None,
                "threshold": percent(threshold["folds"][f["flood"]]),
                "minutes": round(f["minutes"], 1),
                "cpu_minutes": round(f["cpu_minutes"], 1),
            }
            for f in found
        ],
        "passed": 100 * ours >= 100 * theirs + POINTS and (None if unet is None else ours > unet),
    }


if __name__ == "__main__":
    main()
