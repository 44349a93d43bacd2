"""Trains the bundled model ``s1-landcover``, and says how good it is in places it has never seen.

    python benchmarks/landcover.py --output FOLDER tiles     # leave one TerraMind tile out
    python benchmarks/landcover.py --output FOLDER train     # on everything: the bundled model

``tiles`` prints IoU and mIoU pooled over the folds; benchmarks/floods.py leaves one flood out with
the same recipe. DATA holds ``sen1floods11`` (10 scenes, water drawn by hand), ``terramind``
(4 tiles of 224 px with ESRI's land cover), both Sentinel-1 VV and VH in dB at 10 m, and
``sen12_pairs`` (110 pairs of Sentinel-1 VV and Sentinel-2 pictures from SEN1-2); by default it is
CWSAM_GEO_TEST_DATA or ``../shared/data`` beside the repository.

Why the recipe is what it is:

- Three classes. Built-up and bare land occur in one place each, so nothing could be said about
  them elsewhere: they are in ``open land``. Sen1Floods11 says only "not water", which is a partial
  label: one of the other two. Snow is left out: one tile, in which there is nothing else.
- Mosaics, because with a dozen scenes a network learns which one it sees; ``gce``, because
  hand-drawn flood masks follow optical images of another hour, and in one scene most of the
  "water" is not dark at all.
- SEN1-2 shows dark land: harvested fields, heath, shadows. All of it is "not water" (a partial
  label) but for what is dark in both pictures, which is left out. Every fourth pair is used, since
  they overlap.
- VH may be missing, and is left out of a quarter of the training tiles.
- Clips wider than the data's quantiles: the darkest percent is calm water, and must stay apart.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from cwsam_geo.finetuning import finetune
from cwsam_geo.metrics import Scores
from cwsam_geo.train.config import RegionConfig
from cwsam_geo.train.job import FinetuneOptions
from cwsam_geo.train.region_file import parse_region

NAME = "s1-landcover"
CLASSES = [
    {"code": 1, "name": "water", "color": "#419bdf"},
    {"code": 2, "name": "trees", "color": "#397d49"},
    {"code": 3, "name": "open land", "color": "#e3c567"},
]
WATER = 0
"""Channel of water."""

NOT_WATER = ["trees", "open land"]
FLOODS = {-1: "ignore", 0: NOT_WATER, 1: "water"}
SEN12 = {0: "ignore", 1: NOT_WATER}
TERRAMIND = {
    0: "ignore",
    1: "water",
    2: "trees",
    3: "ignore",  # flooded vegetation: 90 pixels
    4: "open land",  # crops
    5: "open land",  # built-up
    6: "open land",  # bare
    7: "ignore",  # snow and ice
    8: "ignore",  # cloud
    9: "open land",  # rangeland
}
TRAIN: dict[str, Any] = {
    "scope": "full",
    "epochs": 24,
    "samples": 160,
    "batch_size": 8,
    "lr": 2e-3,
    "warmup": 0.1,
    "weight_decay": 0.05,
    "tile_size": 128,
    "loss": "gce",
    "class_weights": "none",
    "balance": 0.5,
    "augment": ["flip", "rot90", "speckle", "gain", "mosaic"],
    "device": "cpu",
}
INPUT = {"bands": ["VV", "VH"], "optional": ["VH"], "clip": [[-32, 5], [-40, 0]]}
LICENCE = (
    "CC BY-SA 4.0, as TerraMesh (labels: ESRI land cover) asks of what is derived from it; "
    "Sen1Floods11 is CC BY 4.0 by a third party's card"
)


def shared_data() -> Path:
    """Where the data lies unless told otherwise."""
    named = os.environ.get("CWSAM_GEO_TEST_DATA")
    return Path(named) if named else Path(__file__).parents[2] / "shared" / "data"


DARKEST = -25.0
"""VV in dB that is 0 in SEN1-2's 8-bit pictures; 255 is 0 dB (Schmitt et al. 2018)."""
WATERLIKE = -16.0, 60.0
"""Water is possible where 7 x 7 pixels have lower means of VV in dB and of red, green and blue."""


def dark_land(data: Path, folder: Path) -> list[dict[str, Any]]:
    """SEN1-2's pairs as scenes of VV in dB with labels "not water", written to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for path in sorted((data / "sen12_pairs").glob("*A/*.png"))[::4]:
        beside = path.parent.with_name(path.parent.name[:-1] + "B")
        light = _picture(beside / path.name.replace("_s1_", "_s2_"))
        vv = _picture(path) / 255 * -DARKEST + DARKEST
        level = 10 * np.log10(uniform_filter(10 ** (vv / 10), 7))
        water = (level < WATERLIKE[0]) & (uniform_filter(light, 7) < WATERLIKE[1])
        scene, labels = folder / f"{path.stem}_vv.tif", folder / f"{path.stem}_labels.tif"
        if not labels.exists():  # Another run may be reading them.
            _write(scene, vv, "VV")
            _write(labels, (~water).astype(np.uint8), "labels")
        place = path.stem.rsplit("_p", 1)[0]
        found.append(
            {"scene": scene, "labels": labels, "map": SEN12, "place": place, "split": "train"}
        )
    return found


def _picture(path: Path) -> NDArray[np.float32]:
    """Mean of a picture's bands."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as source:
            return np.asarray(source.read().mean(0), np.float32)


def _write(path: Path, values: NDArray[Any], name: str) -> None:
    height, width = values.shape
    shape = {"height": height, "width": width, "count": 1, "dtype": values.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape) as target:
            target.write(values, 1)
            target.set_band_description(1, name)


def scenes(data: Path, folder: Path) -> list[dict[str, Any]]:
    """All labelled scenes, as a region's file lists them, and their ``place``."""
    found: list[dict[str, Any]] = []
    for path in sorted((data / "sen1floods11").glob("*_S1Hand.tif")):
        labels = path.with_name(path.name.replace("S1Hand", "LabelHand"))
        place = path.name.split("_")[0]
        found.append({"scene": path, "labels": labels, "map": FLOODS, "place": place})
    for path in sorted((data / "terramind").glob("*_S1RTC.tif")):
        labels = path.with_name(path.name.replace("S1RTC", "LULC"))
        place = path.name.removesuffix("_S1RTC.tif")
        found.append({"scene": path, "labels": labels, "map": TERRAMIND, "place": place})
    found += dark_land(data, folder)
    return [
        {**s, "scene": str(s["scene"]), "labels": str(s["labels"]), "units": "db"} for s in found
    ]


def region(data: Path, output: Path, test: str | None, train: dict[str, Any]) -> RegionConfig:
    """The recipe; one place is left for the test.

    Args:
        data: Folder of the data.
        output: Folder for what is made of it.
        test: The place, or None to train on all.
        train: What wins over the recipe.
    """
    listed = []
    for scene in scenes(data, output / "sen12"):
        place = scene.pop("place")
        listed.append({**scene, "split": "test"} if place == test else scene)
    content = {
        "classes": CLASSES,
        "scenes": listed,
        "init": "tiny",
        "train": {**TRAIN, **train},
        "preprocess": INPUT,
        "validation": {"block_size_px": 128, "fraction": 0.2},
        "licence": LICENCE,
    }
    return parse_region(content, Path.cwd(), f"land cover without {test}" if test else "land cover")


def folds(data: Path, output: Path, train: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Leaves one TerraMind tile out after the other: its name and the confusion matrix there."""
    for scene in scenes(data, output / "sen12"):
        if scene["map"] is not TERRAMIND:
            continue
        place = scene["place"]
        path = output / f"without_{place.lower()}.safetensors"
        finetune(region(data, output, place, train), path, FinetuneOptions(overwrite=True))
        report = json.loads(path.with_name(f"{path.stem}_metrics.json").read_text())
        if report["test"] is not None:
            yield place, np.array(report["test"]["matrix"]["counts"])


def scores(matrix: Any) -> dict[str, Any]:
    """IoU of each class in per cent and their mean, of the classes that occur; overall accuracy."""
    found = Scores.of(matrix)
    there = np.asarray(matrix).sum(1) > 0
    iou = {
        str(c["name"]): round(100 * float(i), 1)
        for c, i, t in zip(CLASSES, found.iou, there, strict=True)
        if t
    }
    return {
        "iou": iou,
        "miou": round(float(np.mean(list(iou.values()))), 1),
        "accuracy": round(100 * float(np.trace(matrix) / np.sum(matrix)), 1),
    }


@click.command()
@click.argument("what", type=click.Choice(["tiles", "train"]))
@click.option("--data", type=click.Path(path_type=Path), default=shared_data, help="Data folder.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for models.")
@click.option("--threads", default=2, show_default=True)
@click.option("--train", "settings", default="{}", help="JSON that wins over the recipe.")
def main(what: str, data: Path, output: Path, threads: int, settings: str) -> None:
    """Trains the bundled model, or measures its recipe."""
    torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    train = json.loads(settings)
    if what == "train":
        path = output / f"{NAME}.safetensors"
        result = finetune(region(data, output, None, train), path, FinetuneOptions(overwrite=True))
        click.echo(f"{path}: validation mIoU {result.miou:.4f} at epoch {result.epoch}")
        return
    found = []
    for place, matrix in folds(data, output, train):
        found.append(matrix)
        click.echo(json.dumps({"tile": place, **scores(matrix), "matrix": matrix.tolist()}))
    click.echo(
        json.dumps({"pooled": scores(np.sum(found, 0)), "matrix": np.sum(found, 0).tolist()})
    )


if __name__ == "__main__":
    main()
