"""How much of a map depends on where its tiles begin.

    python experiments/tile_grid.py MODEL [MODEL ...] [--tta] [--only SITE ...]

Each scene of 200 px or more is mapped twice, the second time with a tile grid that begins 30 px
before the scene. Told are the share of pixels whose class changes and the IoU of each class between
the two maps, pooled over the scenes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from judge_maps import BANDS, map_scene
from places_data import decibels, floods, places, shared_data

from cwsam_geo import load_model
from cwsam_geo.model.runtime.predictor import LoadedModel
from cwsam_geo.model.runtime.views import mean_logits

LEAST = 200


class InViews:
    """A model that is asked in several views, as ``predict --tta`` does it."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of preprocessed images."""
        return mean_logits(self._model, images, self._model.architecture.stride)


def moved(path: str, scenes: list[Path], shift: int, tta: bool) -> dict[str, Any]:
    """What changes in a model's maps when its tile grid is moved.

    Args:
        path: The bundle's name or path.
        scenes: With VV and VH, or VV alone.
        shift: By how many pixels.
        tta: Average over views of each tile.
    """
    model: Any = load_model(path, network="fast")
    model = InViews(model) if tta else model
    names = model.legend.names
    both, either = np.zeros(len(names)), np.zeros(len(names))
    changed = total = 0
    for scene in scenes:
        bands, valid = decibels(scene)
        mode = "both" if set(BANDS["both"]) <= set(bands) else "vv"
        first, second = (map_scene(model, bands, valid, mode, s).argmax(0) for s in (0, shift))
        changed += int(((first != second) & valid).sum())
        total += int(valid.sum())
        for k in range(len(names)):
            a, b = (first == k) & valid, (second == k) & valid
            both[k] += (a & b).sum()
            either[k] += (a | b).sum()
    iou = {n: round(float(b / max(e, 1)), 4) for n, b, e in zip(names, both, either, strict=True)}
    return {
        "model": path,
        "tta": tta,
        "pixels": total,
        "changed": round(changed / total, 4),
        "iou": iou,
    }


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--data", type=click.Path(path_type=Path), default=shared_data, help="Data folder.")
@click.option("--only", multiple=True, help="Sites to map; all where none is named.")
@click.option("--shift", default=30, show_default=True, help="Pixels.")
@click.option("--tta", is_flag=True, help="Average over views of each tile, as predict does.")
@click.option("--threads", default=1, show_default=True)
def main(
    models: tuple[str, ...], data: Path, only: tuple[str, ...], shift: int, tta: bool, threads: int
) -> None:
    """Tells what changes in the maps of MODELS when their tiles begin elsewhere."""
    torch.set_num_threads(threads)
    listed = places(data / "places") + floods(data / "sen1floods11")
    scenes = [
        p.scene
        for p in listed
        if (not only or p.site in only)
        and "volkov" not in p.place
        and min(p.codes().shape) >= LEAST
    ]
    for model in models:
        click.echo(json.dumps(moved(model, scenes, shift, tta)))


if __name__ == "__main__":
    main()
