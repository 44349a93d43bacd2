"""What s1-water is trained on and how; with or without simulated scenes before.

Why it is so: LOG.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import simulated_water

from cwsam_geo.finetuning.finetune import finetune
from cwsam_geo.finetuning.options import FinetuneOptions
from cwsam_geo.finetuning.region.config import RegionConfig
from cwsam_geo.finetuning.region.region_file import parse_region

CLASSES = [
    {"code": 1, "name": "water", "color": "#419bdf"},
    {"code": 2, "name": "land", "color": "#e3c567"},
]
WITH_TREES = [
    CLASSES[0],
    {"code": 2, "name": "trees", "color": "#397d49"},
    {"code": 3, "name": "open land", "color": "#e3c567"},
]
WATER = 0
"""Channel of water."""

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
SNOW = "609U_541L_3_0"
"""The tile that holds nothing but snow, which is ignored."""

FLOODS = {-1: "ignore", 0: ["trees", "open land"], 1: "water"}
TRAIN: dict[str, Any] = {
    "scope": "full",
    "epochs": 6,
    "samples": 160,
    "batch_size": 8,
    "keep": "last",
    "lr": 1e-3,
    "warmup": 0.1,
    "weight_decay": 0.05,
    "tile_size": 128,
    "loss": "ce",
    "class_weights": "none",
    "balance": 0.5,
    "augment": ["flip", "rot90", "speckle", "gain", "mosaic"],
    "device": "cpu",
}
AFTER_SIMULATION: dict[str, Any] = {
    "epochs": 3,
    "samples": 320,
    "lr": 7e-4,
    "loss": "gce",
    "precision": "bf16",
}
"""What wins over TRAIN after simulated scenes."""

PRETRAIN: dict[str, dict[str, Any]] = {
    "wide": {"epochs": 12, "samples": 1600, "lr": 1e-3},
    "usual": {"epochs": 3, "samples": 1200, "lr": 5e-4},
}
"""What wins over TRAIN on simulated scenes: first of wide levels, then of usual ones."""

SEEDS = {"wide": 7, "usual": 11}
SIMULATED = 168
"""Scenes a stage; the last 8 are for validation."""

BESIDE = 24
"""Simulated scenes that stay among the real ones."""

INPUT = {"bands": ["VV", "VH"], "optional": ["VH"], "clip": [[-32, 5], [-40, 0]]}
LICENCE = (
    "CC BY-SA 4.0, as TerraMesh (labels: ESRI land cover) asks of what is derived from it; "
    "Sen1Floods11 is CC BY 4.0 by a third party's card"
)


def shared_data() -> Path:
    """Where the data lies unless told otherwise."""
    named = os.environ.get("CWSAM_GEO_TEST_DATA")
    return Path(named) if named else Path(__file__).parents[2] / "shared" / "data"


def scenes(data: Path) -> list[dict[str, Any]]:
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
    return [
        {**s, "scene": str(s["scene"]), "labels": str(s["labels"]), "units": "db"} for s in found
    ]


def joined(mapping: dict[int, Any]) -> dict[int, str]:
    """What labels mean where trees are land."""
    return {c: v if v in ("ignore", "water") else "land" for c, v in mapping.items()}


def simulation() -> str:
    """A name that changes with all that simulated scenes and the trainings on them depend on."""
    settings = json.dumps([CLASSES, TRAIN, PRETRAIN, SEEDS, SIMULATED, INPUT])
    made_by = Path(simulated_water.__file__).read_text(encoding="utf-8")
    return "simulation-" + hashlib.sha256((settings + made_by).encode()).hexdigest()[:8]


def simulated(folder: Path, levels: str, count: int) -> list[dict[str, Any]]:
    """Simulated scenes as a region's file lists them; they are made where they are not there."""
    pairs = simulated_water.write_scenes(
        folder / simulation() / levels, levels, count, SEEDS[levels]
    )
    return [
        {
            "scene": str(path),
            "labels": str(truth),
            "map": {0: "land", 1: "water"},
            "units": "db",
            "split": "val" if number >= SIMULATED - 8 else "train",
        }
        for number, (path, truth) in enumerate(pairs)
    ]


def simulated_region(folder: Path, levels: str, init: str) -> RegionConfig:
    """What ``finetune`` is told of a stage of simulated scenes."""
    content: dict[str, Any] = {
        "classes": CLASSES,
        "scenes": simulated(folder, levels, SIMULATED),
        "init": init,
        "train": {**TRAIN, "precision": "bf16", **PRETRAIN[levels]},
        "licence": "-",
    }
    if init == "small":
        content["preprocess"] = INPUT
    return parse_region(content, Path.cwd(), f"simulated scenes, {levels}")


def pretrained(folder: Path) -> Path:
    """The model that has seen simulated scenes alone; it is trained where it is not there."""
    init = "small"
    for levels in PRETRAIN:
        path = folder / simulation() / f"{levels}.safetensors"
        if not path.exists():
            finetune(simulated_region(folder, levels, init), path, FinetuneOptions(overwrite=True))
        init = str(path.resolve())
    return Path(init)


@dataclass(frozen=True)
class Recipe:
    """How a model is made.

    Attributes:
        data: Folder of the real scenes.
        folder: Of the simulated ones and of what was trained on them.
        train: What wins over TRAIN.
        trees: Tell trees and open land apart.
        simulated: Begin with what simulated scenes teach, not with random weights; not with trees.
    """

    data: Path
    folder: Path
    train: dict[str, Any]
    trees: bool = False
    simulated: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the training on real scenes."""
        return {**TRAIN, **(AFTER_SIMULATION if self.simulated else {}), **self.train}

    @property
    def said(self) -> dict[str, Any]:
        """All that a result depends on but the real scenes."""
        return self.settings | {"simulated": simulation() if self.simulated else None}

    def region(self, test: str | None) -> RegionConfig:
        """What ``finetune`` is told, with one place left for the test, or none."""
        listed = []
        for scene in scenes(self.data):
            place = scene.pop("place")
            if not self.trees:
                scene["map"] = joined(scene["map"])
            listed.append({**scene, "split": "test"} if place == test else scene)
        content: dict[str, Any] = {
            "classes": WITH_TREES if self.trees else CLASSES,
            "scenes": listed,
            "train": self.settings,
            "validation": {"block_size_px": 128, "fraction": 0.2},
            "licence": LICENCE,
        }
        if self.simulated:
            content["init"] = str(pretrained(self.folder))
            content["validation"] = {"block_size_px": 128, "fraction": 0.05}
            listed += simulated(self.folder, "usual", BESIDE)
        else:
            content |= {"init": "small", "preprocess": INPUT}
        where = f"land cover without {test}" if test else "land cover"
        return parse_region(content, Path.cwd(), where)
