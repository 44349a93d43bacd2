"""Trains the bundled model ``s1-water``, and says how good it is in places it has never seen.

    python experiments/water.py --output FOLDER tiles     # leave one TerraMind tile out
    python experiments/water.py --output FOLDER train     # on everything: the bundled model
    python experiments/water.py --output FOLDER pretrain  # on simulated scenes, for --simulated

``tiles`` prints IoU and mIoU pooled over the folds; experiments/floods.py leaves one flood out with
the same recipe. DATA holds ``sen1floods11`` (10 scenes, water drawn by hand) and ``terramind``
(4 tiles of 224 px with ESRI's land cover), both Sentinel-1 VV and VH in dB at 10 m; by default it
is CWSAM_GEO_TEST_DATA or ``../shared/data`` beside the repository.

LOG.md says why the recipe is what it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from recipe import CLASSES, SNOW, TERRAMIND, WITH_TREES, Recipe, pretrained, scenes, shared_data

from cwsam_geo.core.metrics import Scores
from cwsam_geo.finetuning.finetune import finetune
from cwsam_geo.finetuning.options import FinetuneOptions

NAME = "s1-water"


def folds(recipe: Recipe, output: Path) -> Iterator[tuple[str, Any]]:
    """Leaves one TerraMind tile out after the other: its name and the confusion matrix there."""
    for scene in scenes(recipe.data):
        if scene["map"] is not TERRAMIND or scene["place"] == SNOW:
            continue
        place = scene["place"]
        path = output / f"without_{place.lower()}.safetensors"
        finetune(recipe.region(place), path, FinetuneOptions(overwrite=True))
        report = json.loads(path.with_name(f"{path.stem}_metrics.json").read_text())
        yield place, np.array(report["test"]["matrix"]["counts"])


def scores(matrix: Any, classes: list[dict[str, Any]]) -> dict[str, Any]:
    """IoU of each class in per cent and their mean, of the classes that occur; overall accuracy."""
    found = Scores.of(matrix)
    there = np.asarray(matrix).sum(1) > 0
    iou = {
        str(c["name"]): round(100 * float(i), 1)
        for c, i, t in zip(classes, found.iou, there, strict=True)
        if t
    }
    return {
        "iou": iou,
        "miou": round(float(np.mean(list(iou.values()))), 1),
        "accuracy": round(100 * float(np.trace(matrix) / np.sum(matrix)), 1),
    }


@click.command()
@click.argument("what", type=click.Choice(["tiles", "train", "pretrain"]))
@click.option("--data", type=click.Path(path_type=Path), default=shared_data, help="Data folder.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for models.")
@click.option("--threads", default=2, show_default=True)
@click.option("--trees", is_flag=True, help="With tiles: tell trees and open land apart.")
@click.option("--simulated", is_flag=True, help="Pre-train on simulated scenes.")
@click.option("--train", "settings", default="{}", help="JSON that wins over the recipe.")
def main(what: str, data: Path, output: Path, threads: int, settings: str, **how: bool) -> None:
    """Trains the bundled model, measures its recipe, or trains on simulated scenes alone."""
    if how["trees"] and how["simulated"]:
        raise click.UsageError("--trees and --simulated: nothing simulated tells trees apart")
    if what == "pretrain" and (any(how.values()) or settings != "{}"):
        raise click.UsageError("pretrain takes no --trees, --simulated or --train: see PRETRAIN")
    torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(data, output, json.loads(settings), **how)
    if what == "pretrain":
        click.echo(pretrained(output))
        return
    if what == "train":
        path = output / f"{NAME}.safetensors"
        result = finetune(recipe.region(None), path, FinetuneOptions(overwrite=True))
        click.echo(f"{path}: validation mIoU {result.miou:.4f} at epoch {result.epoch}")
        return
    found, classes = [], WITH_TREES if how["trees"] else CLASSES
    for place, matrix in folds(recipe, output):
        found.append(matrix)
        click.echo(
            json.dumps({"tile": place, **scores(matrix, classes), "matrix": matrix.tolist()})
        )
    click.echo(
        json.dumps(
            {"pooled": scores(np.sum(found, 0), classes), "matrix": np.sum(found, 0).tolist()}
        )
    )


if __name__ == "__main__":
    main()
