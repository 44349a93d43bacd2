"""What ``predict --despeckle`` does to the water model, on floods that it has not seen.

    python experiments/floods.py --no-unet --output FOLDER     # trains one model for each flood
    python experiments/despeckle_floods.py --output FOLDER

Each flood is mapped twice by the model that has not seen it, with and without the filter, in VV and
VH and in VV alone. The model was trained on scenes that are not filtered.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from recipe import CLASSES, WATER, shared_data

from cwsam_geo.model.runtime.predictor import LoadedModel, load_model
from cwsam_geo.prediction.options import PredictOptions
from cwsam_geo.prediction.predict_scene import predict_scene

BANDS = {"both": None, "vv": (1,)}
"""Bands of the scenes that the model reads, by the name of the mode."""


def mapped(scene: Path, model: LoadedModel, options: PredictOptions) -> tuple[NDArray[Any], str]:
    """Codes of the map of a scene, and what was said of its speckle."""
    said: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.tif"
        predict_scene(
            scene, path, options, on_event=lambda e: said.append(str(e.get("text"))), model=model
        )
        with rasterio.open(path) as raster:
            return raster.read(1), next((t for t in said if t.startswith("speckle")), "")


def flood_counts(scenes: Iterator[Path], model: LoadedModel, mode: str) -> dict[str, Any]:
    """Intersection and union of water without and with the filter, and pixels that change."""
    water = int(CLASSES[WATER]["code"])
    hits = np.zeros((2, 2), np.int64)  # without, with; intersection, union
    changed = pixels = 0
    looks: list[str] = []
    for path in scenes:
        labels = path.with_name(path.name.replace("S1Hand", "LabelHand"))
        with rasterio.open(labels) as raster:
            codes = raster.read(1)
        maps = []
        for despeckle in (False, True):
            options = PredictOptions(bidx=BANDS[mode], despeckle=despeckle)
            found, words = mapped(path, model, options)
            maps.append(found)
            looks += [words] if words else []
        data = maps[0] != 255
        if not (data & (codes >= 0)).any():
            continue
        changed += int((maps[0] != maps[1])[data].sum())
        pixels += int(data.sum())
        known, truth = data & (codes >= 0), codes == 1
        for counts, found in zip(hits, maps, strict=True):
            wet = found == water
            counts += (wet & truth & known).sum(), ((wet | truth) & known).sum()
    return {"hits": hits.tolist(), "changed": changed, "pixels": pixels, "looks": looks}


def figures(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """IoU of water in per cent, and the share of pixels that change, by flood and pooled."""
    total = {
        "hits": np.sum([f["hits"] for f in found.values()], 0).tolist(),
        "changed": sum(f["changed"] for f in found.values()),
        "pixels": sum(f["pixels"] for f in found.values()),
    }
    return {
        name: {
            "iou": [round(100 * i / max(u, 1), 2) for i, u in f["hits"]],
            "union": [u for _, u in f["hits"]],
            "changed": round(100 * f["changed"] / max(f["pixels"], 1), 2),
            **({"looks": f["looks"]} if "looks" in f else {}),
        }
        for name, f in {**found, "pooled": total}.items()
    }


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=shared_data, help="Data folder.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="floods.py's.")
@click.option("--threads", default=1, show_default=True)
def main(data: Path, output: Path, threads: int) -> None:
    """Prints the IoU of water of the models in OUTPUT, without and with the filter."""
    torch.set_num_threads(threads)
    summary = {}
    for mode in BANDS:
        found = {}
        for note in sorted(output.glob("without_*_fold.json")):
            name = json.loads(note.read_text())["flood"]
            bundle = note.with_name(note.name.replace("_fold.json", ".safetensors"))
            scenes = sorted((data / "sen1floods11").glob(f"{name}_*_S1Hand.tif"))
            found[name] = flood_counts(iter(scenes), load_model(bundle, network="fast"), mode)
        summary[mode] = figures(found)
    click.echo(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
