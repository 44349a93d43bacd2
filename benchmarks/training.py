"""Speed and memory of training SAM ViT-B's adapters, with and without gradient checkpointing.

    python benchmarks/training.py --tile-size 1024 --device cuda

Random weights of ViT-B's shapes and blank tiles; a step is forward, backward and AdamW on what
the paper trains. Memory is CUDA's peak of allocated tensors, or the process's peak resident size on
a CPU, where each line is measured in a process of its own.
"""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
from typing import Any

import click
import numpy as np
import torch

from cwsam_geo.finetuning.region.config import Recipe
from cwsam_geo.finetuning.targets.losses import SegmentationLoss
from cwsam_geo.finetuning.training.processes import OneProcess
from cwsam_geo.finetuning.training.step import Stepper
from cwsam_geo.model.device import resolve_device, resolve_precision
from cwsam_geo.model.network.architecture import BACKBONES, Architecture
from cwsam_geo.model.network.cwsam import Cwsam

CLASSES = 10


def measured(settings: dict[str, Any]) -> dict[str, Any]:
    """Tiles a second and peak memory of one setting."""
    device = resolve_device(settings["device"])
    precision = resolve_precision(settings["precision"], device)
    tile, batch = settings["tile_size"], settings["batch_size"]
    torch.manual_seed(0)
    model = Cwsam(Architecture(BACKBONES[settings["backbone"]], CLASSES, tile))
    model.freeze()
    sets = np.vstack([np.zeros((1, CLASSES), bool), np.eye(CLASSES, dtype=bool)])
    loss = SegmentationLoss("ce", sets, [1.0] * CLASSES)
    recipe = Recipe(checkpointing=settings["checkpointing"])
    stepper = Stepper(model, loss, recipe, OneProcess(device), precision)
    images = torch.randn(batch, 3, tile, tile)
    labels = torch.randint(1, CLASSES + 1, (batch, tile, tile))

    def step() -> None:
        stepper.backward(images, labels, shared=True)
        stepper.step(1e-4)

    step()
    began = time.perf_counter()
    for _ in range(settings["steps"]):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        peak = float(torch.cuda.max_memory_allocated(device))
        name = torch.cuda.get_device_name(device)
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
        name = platform.processor() or platform.machine()
    seconds = time.perf_counter() - began
    return {
        **settings,
        "device": f"{device} ({name})",
        "precision": precision,
        "tiles_per_second": round(settings["steps"] * batch / seconds, 4),
        "peak_gb": round(peak / 1e9, 2),
        "torch": torch.__version__,
    }


@click.command()
@click.option("--backbone", default="vit_b", show_default=True)
@click.option("--tile-size", default=1024, show_default=True)
@click.option("--batch-size", default=1, show_default=True)
@click.option("--steps", default=3, show_default=True, help="Measured steps, after one more.")
@click.option("--device", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True)
@click.option("--one", hidden=True, help="Measure one setting, given as JSON.")
def main(one: str | None, **settings: Any) -> None:
    """Measures both settings, each in a process of its own."""
    if one is not None:
        click.echo(json.dumps(measured(json.loads(one))))
        return
    for checkpointing in (False, True):
        setting = json.dumps({**settings, "checkpointing": checkpointing})
        command = [sys.executable, __file__, "--one", setting]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        failed = json.dumps({**json.loads(setting), "failed": done.returncode})
        click.echo(done.stdout.strip() if done.returncode == 0 else failed)


if __name__ == "__main__":
    main()
