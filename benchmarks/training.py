"""Speed and memory of training steps, beside another checkout in the same run.

    python benchmarks/training.py --backbone small --tile-size 512 --batch-size 2
    python benchmarks/training.py --backbone vit_b --tile-size 1024 --against ../before
    python benchmarks/training.py --tile-size 1024 --device cuda

Random weights and blank tiles; a step is forward, backward and AdamW. ViT's adapters are trained as
in the paper, small networks whole. Memory is CUDA's peak of allocated tensors, or the process's
peak resident size on a CPU. Each line is measured in a process of its own. ``--against`` runs the
same steps with the package of another checkout, in turn with this one, and prints the ratios.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

CLASSES = 10
HERE = Path(__file__).resolve().parents[1]


def measured(settings: dict[str, Any]) -> dict[str, Any]:
    """Steps a second, peak memory and share of system time of one setting."""
    import numpy as np
    import torch

    try:
        from cwsam_geo.finetuning.region.config import Recipe
        from cwsam_geo.finetuning.targets.losses import SegmentationLoss
        from cwsam_geo.finetuning.training.processes import OneProcess
        from cwsam_geo.finetuning.training.step import Stepper
        from cwsam_geo.model.network.architecture import BACKBONES, Architecture
        from cwsam_geo.model.network.cwsam import Cwsam
    except ImportError:  # the layout before 2026-11-27, for --against
        from cwsam_geo.model.build import BACKBONES, Architecture, Cwsam  # type: ignore
        from cwsam_geo.train.losses import SegmentationLoss  # type: ignore
        from cwsam_geo.train.processes import OneProcess  # type: ignore
        from cwsam_geo.train.recipe import Recipe  # type: ignore
        from cwsam_geo.train.steps import Stepper  # type: ignore
    from cwsam_geo.model.device import resolve_device, resolve_precision

    device = resolve_device(settings["device"])
    precision = resolve_precision(settings["precision"], device)
    tile, batch = settings["tile_size"], settings["batch_size"]
    torch.manual_seed(0)
    model = Cwsam(Architecture(BACKBONES[settings["backbone"]], CLASSES, tile))
    scope = "adapters" if settings["backbone"].startswith("vit") else "full"
    if scope == "adapters":
        model.freeze()
    sets = np.vstack([np.zeros((1, CLASSES), bool), np.eye(CLASSES, dtype=bool)])
    loss = SegmentationLoss("ce", sets, [1.0] * CLASSES)
    recipe = Recipe(checkpointing=settings["checkpointing"], scope=scope)
    stepper = Stepper(model, loss, recipe, OneProcess(device), precision)
    images = torch.randn(batch, 3, tile, tile)
    labels = torch.randint(1, CLASSES + 1, (batch, tile, tile))

    def step() -> None:
        stepper.backward(images, labels, shared=True)
        stepper.step(1e-4)

    step()
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
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
    after = resource.getrusage(resource.RUSAGE_SELF)
    system = after.ru_stime - before.ru_stime
    cpu = system + after.ru_utime - before.ru_utime
    return {
        **settings,
        "device": f"{device} ({name})",
        "precision": precision,
        "steps_per_second": round(settings["steps"] / seconds, 4),
        "tiles_per_second": round(settings["steps"] * batch / seconds, 4),
        "peak_gb": round(peak / 1e9, 2),
        "system_share": round(system / cpu, 3),
        "torch": torch.__version__,
    }


def run(checkout: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Measures in a process of its own, with the package of a checkout."""
    command = [sys.executable, __file__, "--one", json.dumps(settings)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        return {**settings, "failed": done.returncode}
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def ratios(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, float]:
    """Medians of this checkout's figures divided by the other's."""
    return {
        key: round(statistics.median(ours[key] / theirs[key] for ours, theirs in pairs), 3)
        for key in ("steps_per_second", "peak_gb")
    }


@click.command()
@click.option("--backbone", default="vit_b", show_default=True)
@click.option("--tile-size", default=1024, show_default=True)
@click.option("--batch-size", default=1, show_default=True)
@click.option("--steps", default=3, show_default=True, help="Measured steps, after one more.")
@click.option("--device", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True)
@click.option("--against", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Another checkout, whose figures this one's are divided by.")  # fmt: skip
@click.option("--repeats", default=3, show_default=True, help="Pairs of runs with --against.")
@click.option("--one", hidden=True, help="Measure one setting, given as JSON.")
def main(one: str | None, against: Path | None, repeats: int, **settings: Any) -> None:
    """Measures training steps with and without gradient checkpointing."""
    if one is not None:
        click.echo(json.dumps(measured(json.loads(one))))
        return
    for checkpointing in (False,) if against else (False, True):
        setting = {**settings, "checkpointing": checkpointing}
        if against is None:
            click.echo(json.dumps(run(HERE, setting)))
            continue
        pairs = []
        for _ in range(repeats):
            pair = (run(HERE, setting), run(against.resolve(), setting))
            click.echo(json.dumps({"this": pair[0], "against": pair[1]}))
            if not any("failed" in line for line in pair):
                pairs.append(pair)
        if pairs:
            click.echo(json.dumps({"ratio": ratios(pairs), "pairs": len(pairs)}))


if __name__ == "__main__":
    main()
