"""Five land-cover classes from AIRSAR San Francisco: the small model against a random forest.

    python experiments/airsar.py --data DATA --output FOLDER

The small model starts from random weights and trains on spatial blocks, drawn as ``finetune``
draws them by default (one tile wide, a gap between them); a random forest sees the same three
bands of the same training pixels, one pixel at a time. Both are scored on the same validation
pixels. It passes where the model's mIoU is 10 points above the forest's or more and
training took less than 30 minutes.

The forest is the best of several settings by its own validation score, so that it is not held
back by a poor choice. The model's score is that of its best epoch on the same pixels; the last
epoch's, which nobody chose, is printed too.

DATA holds ``sf_airsar`` (NASA-JPL AIRSAR, 900 x 1024, HH HV VV in linear power, and labels); by
default it is CWSAM_GEO_TEST_DATA or ``../shared/data`` beside the repository.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from cwsam_geo.core.grid import Window
from cwsam_geo.core.metrics import Scores, confusion_matrix
from cwsam_geo.core.preprocess import to_db
from cwsam_geo.finetuning.data.prepare import region_data
from cwsam_geo.finetuning.finetune import finetune
from cwsam_geo.finetuning.options import FinetuneOptions
from cwsam_geo.finetuning.region.config import RegionConfig
from cwsam_geo.finetuning.region.region_file import parse_region
from cwsam_geo.finetuning.split.roles import TRAIN, VAL
from cwsam_geo.scene.source import open_source

POINTS = 10.0
"""How far above the forest the model must be, in points of mIoU."""

MINUTES = 30.0

CLASSES = [
    {"code": 1, "name": "bare soil or beach", "color": "#c8a064"},
    {"code": 2, "name": "mountain", "color": "#787850"},
    {"code": 3, "name": "water", "color": "#0000ff"},
    {"code": 4, "name": "urban", "color": "#ff0000"},
    {"code": 5, "name": "vegetation", "color": "#00a000"},
]
FORESTS = list(itertools.product((5, 20, 100), (None, "balanced_subsample")))
"""Least samples of a leaf, and class weights."""

FOREST_PIXELS = 150_000


def shared_data() -> Path:
    """Where the data lies unless told otherwise."""
    named = os.environ.get("CWSAM_GEO_TEST_DATA")
    return Path(named) if named else Path(__file__).parents[2] / "shared" / "data"


def region(data: Path, train: dict[str, Any]) -> RegionConfig:
    """The scene, its labels and how to train."""
    folder = data / "sf_airsar"
    scene = {
        "scene": "sf_airsar_hh_hv_vv_linear.tif",
        "labels": "sf_airsar_labels.tif",
        "map": {0: "ignore", **{c["code"]: c["name"] for c in CLASSES}},
        "units": "power",
    }
    content = {
        "classes": CLASSES,
        "scenes": [scene],
        "init": "small",
        "train": {"scope": "full", **train},
        "validation": {"fraction": 0.25},
    }
    return parse_region(content, folder, "AIRSAR San Francisco")


def forest(config: RegionConfig) -> tuple[Scores, dict[str, Any]]:
    """The best random forest on the training pixels: its scores on the validation pixels."""
    scene = config.scenes[0]
    with open_source(scene.pair.scene) as source, region_data(config) as data:
        grid = source.grid
        window = Window(0, 0, grid.height, grid.width)
        values, valid = source.read(window)
        roles = data.split.scenes[0].of(window)
    with open_source([scene.pair.labels]) as labels:
        codes = labels.read(window)[0][0].astype(int)
    bands = to_db(values, "power")

    def pixels(role: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
        chosen = valid & (roles == role) & (codes > 0)
        return bands[:, chosen].T, codes[chosen] - 1

    x, y = pixels(TRAIN)
    x_val, y_val = pixels(VAL)
    picked = np.random.default_rng(0).permutation(len(y))[:FOREST_PIXELS]
    best: tuple[Scores, dict[str, Any]] | None = None
    for leaf, weight in FORESTS:
        model = RandomForestClassifier(
            200, min_samples_leaf=leaf, class_weight=weight, n_jobs=-1, random_state=0
        )
        model.fit(x[picked], y[picked])
        matrix = confusion_matrix(y_val, model.predict(x_val), len(CLASSES))
        scores = Scores.of(matrix)
        if best is None or scores.miou > best[0].miou:
            best = scores, {"min_samples_leaf": leaf, "class_weight": weight}
    assert best is not None
    return best


def epochs_told(event: Any) -> None:
    """Prints every epoch."""
    if event["event"] == "epoch":
        click.echo(
            f"epoch {event['epoch']:3d}  loss {event['loss']:.4f}  mIoU {event['miou']:.4f}  "
            + " ".join("-" if v is None else f"{v:.3f}" for v in event["iou"]),
            err=True,
        )
    elif event["event"] == "warning":
        click.echo(event["text"], err=True)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=shared_data, help="Data folder.")
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="Folder for the model."
)
@click.option("--threads", default=2, show_default=True)
@click.option("--train", "settings", default="{}", help="JSON that wins over the recipe.")
def main(data: Path, output: Path, threads: int, settings: str) -> None:
    """Trains both and prints their scores."""
    torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    config = region(data, {**RECIPE, **json.loads(settings)})
    began, cpu = time.perf_counter(), time.process_time()
    result = finetune(
        config, output / "airsar.safetensors", FinetuneOptions(overwrite=True), epochs_told
    )
    minutes = (time.perf_counter() - began) / 60
    cpu_minutes = (time.process_time() - cpu) / 60
    report = json.loads((output / "airsar_metrics.json").read_text())
    rival, chosen = forest(config)
    ours = 100 * result.miou
    theirs = 100 * rival.miou
    classes = report["validation"]["classes"]
    summary = {
        "model_miou": round(ours, 2),
        "model_last_epoch_miou": round(100 * report["history"][-1]["miou"], 2),
        "forest_miou": round(theirs, 2),
        "points": round(ours - theirs, 2),
        "model_iou": {c["name"]: round(100 * c["iou"], 1) for c in classes},
        "forest_iou": {
            c["name"]: round(100 * float(v), 1) for c, v in zip(CLASSES, rival.iou, strict=True)
        },
        "forest": chosen,
        "best_epoch": result.epoch,
        "minutes": round(minutes, 1),
        "cpu_minutes": round(cpu_minutes, 1),
        "threads": threads,
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "passed": ours >= theirs + POINTS and minutes < MINUTES,
    }
    click.echo(json.dumps(summary, indent=2))


RECIPE: dict[str, Any] = {
    "epochs": 60,
    "samples": 128,
    "lr": 1e-3,
    "warmup": 0.1,
    "weight_decay": 0.05,
    "tile_size": 128,
    "batch_size": 8,
    "class_weights": "none",
    "device": "cpu",
}

if __name__ == "__main__":
    main()
