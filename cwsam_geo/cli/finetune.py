"""``cwsam-geo finetune``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cwsam_geo.cli.options import json_option, output_option, overwrite_option, quiet_option
from cwsam_geo.cli.reporting import Reporter
from cwsam_geo.core.counting import how_many

# Options that override an entry of `train:` in region.yaml.
_TRAIN = (
    "epochs",
    "lr",
    "batch_size",
    "tile_size",
    "loss",
    "scope",
    "seed",
    "device",
    "precision",
    "workers",
)

_WORTH_TELLING = 60
"""Seconds. Shorter times left are not printed; the bar shows them."""


@click.command("finetune")
@click.argument("region", required=False, metavar="[REGION.yaml]")
@output_option("Model bundle to write (.safetensors), with its report beside it.")
@click.option("--scene", metavar="PATH", help="Scene to train on, if there is no REGION.yaml.")
@click.option(
    "--labels",
    metavar="PATH",
    help="Labels of --scene: a class raster, an RGB picture or polygons.",
)
@click.option("--column", metavar="NAME", help="Column of polygon labels that holds the classes.")
@click.option("--legend", metavar="FILE", help="YAML file whose `classes:` lists the classes.")
@click.option(
    "--init",
    metavar="NAME|PATH",
    help="Initial weights: sam_vit_b, a model bundle, or small (random).",
)
@click.option(
    "--epochs", type=click.IntRange(min=1), metavar="N", help="Number of training epochs."
)
@click.option("--lr", type=float, metavar="RATE", help="Learning rate of AdamW.")
@click.option("--batch-size", metavar="auto|N", help="Number of tiles per training step.")
@click.option(
    "--tile-size", type=click.IntRange(min=16), metavar="PX", help="Side of a tile in pixels."
)
@click.option(
    "--loss",
    metavar="NAME",
    help="Loss function: ce, focal, gce, dice, lovasz, or a sum such as ce+dice.",
)
@click.option(
    "--scope",
    type=click.Choice(["adapters", "full"]),
    help="Train only the layers that CWSAM adds to SAM (adapters), or all layers (full).",
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Seed of all random numbers.")
@click.option(
    "--device", metavar="NAME", help="Device to train on: auto, cpu, cuda, cuda:N or mps."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    help="Floating-point precision of training.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    help="Number of processes that load tiles in advance.  [default: 0; for a GPU up to 4]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue an interrupted run from the checkpoint beside the output.",
)
@click.option(
    "--report",
    metavar="PATH",
    help="Also write an HTML page: learning curves, accuracy, worst tiles, map of the split.",
)
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard events beside the output.")
@overwrite_option
@json_option
@quiet_option
def command(region: str | None, output: str, as_json: bool, quiet: bool, **values: Any) -> None:
    """Train a model for a region on labelled scenes.

    REGION.yaml lists classes, scenes, labels and settings; options override its settings. Without
    REGION.yaml, give --scene, --labels and --legend.

    On several GPUs: torchrun --nproc-per-node N -m cwsam_geo.cli.main finetune ...
    """
    from cwsam_geo.errors import UsageError
    from cwsam_geo.finetuning.finetune import finetune
    from cwsam_geo.finetuning.options import FinetuneOptions
    from cwsam_geo.finetuning.region.region_file import load_region, parse_region
    from cwsam_geo.finetuning.region.wording import OPTIONS

    train = {key: values[key] for key in _TRAIN if values[key] is not None}
    # The value is "auto" or a number; region.yaml has a string or an integer here.
    if str(train.get("batch_size", "")).isdecimal():
        train["batch_size"] = int(train["batch_size"])
    if region is not None:
        extra = [f"--{k}" for k in ("scene", "labels", "column", "legend") if values[k]]
        if extra:
            raise UsageError(f"{', '.join(extra)}: give either these or {region}, not both")
        overrides: dict[str, Any] = {"train": train} if train else {}
        if values["init"]:
            overrides["init"] = _absolute(values["init"])
        config = load_region(region, overrides)
    else:
        config = parse_region(_region_of(values, train), Path.cwd(), OPTIONS)
    options = FinetuneOptions(
        overwrite=values["overwrite"],
        resume=values["resume"],
        tensorboard=values["tensorboard"],
        report=values["report"],
    )
    with FinetuneReporter(as_json, quiet) as report:
        finetune(config, output, options, report)


def _absolute(init: str) -> str:
    """Resolves a path against the current folder; region.yaml resolves against its own folder."""
    return str(Path(init).absolute()) if Path(init).is_file() else init


def _region_of(values: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    from cwsam_geo.errors import UsageError
    from cwsam_geo.io.legend_file import read_legend

    missing = [f"--{k}" for k in ("scene", "labels", "legend") if not values[k]]
    if missing:
        raise UsageError(f"give REGION.yaml, or also {', '.join(missing)}")
    legend = read_legend(values["legend"])
    scene = {k: values[k] for k in ("scene", "labels", "column") if values[k]}
    region: dict[str, Any] = {"classes": legend.to_list(), "scenes": [scene], "train": dict(train)}
    if legend.ignore is not None:
        region["ignore"] = legend.ignore
    if values["init"]:
        region["init"] = values["init"]
    return region


class FinetuneReporter(Reporter):
    """Prints the events of ``finetune``."""

    unit = "step"

    def on_start(self, event: Mapping[str, Any]) -> None:
        """Prints the settings of the run."""
        done = event["epochs_done"]  # above 0 after --resume
        several = f", {event['processes']} processes" if event["processes"] > 1 else ""
        begins = f"Resumes after epoch {done} of" if done else "Trains"
        self.say(
            f"{begins} {how_many(event['epochs'], 'epoch')} "
            f"({event['scope']}) on {event['device']} ({event['precision']}{several}): "
            f"{how_many(event['training_samples'], 'tile')} of {event['tile_size']} px per epoch, "
            f"{event['batch_size']} per step; "
            f"{how_many(event['validation_tiles'], 'validation tile')}"
        )

    def on_estimate(self, event: Mapping[str, Any]) -> None:
        """Prints how long the run takes, unless that is a moment."""
        from cwsam_geo.finetuning.training.estimate import duration

        if event["seconds_left"] >= _WORTH_TELLING:
            self.say(
                f"about {duration(event['seconds_left'])} left "
                f"({event['step_seconds']:.2g} s per step)"
            )

    def on_progress(self, event: Mapping[str, Any]) -> None:
        """Moves the bar, which counts the steps of all epochs."""
        steps, epoch = event["steps"], event["epoch"]
        self.advance(
            (epoch - 1) * steps + event["step"],
            event["epochs"] * steps,
            f"epoch {epoch}/{event['epochs']}, loss {event['loss']:.4f}",
        )

    def on_epoch(self, event: Mapping[str, Any]) -> None:
        """Prints the loss and the validation score of an epoch."""
        # No score: this epoch was not validated, or no validation pixel has a label.
        miou = "-" if event["miou"] is None else f"{event['miou']:.4f}"
        self.say(
            f"epoch {event['epoch']}/{event['epochs']}: loss {event['loss']:.4f}, "
            f"validation mIoU {miou}{' (best)' if event['best'] else ''}, "
            f"{event['seconds']:.1f} s{self._left(event['seconds_left'])}"
        )

    @staticmethod
    def _left(seconds: float) -> str:
        from cwsam_geo.finetuning.training.estimate import duration

        return f"; about {duration(seconds)} left" if seconds >= _WORTH_TELLING else ""

    def on_done(self, event: Mapping[str, Any]) -> None:
        """Prints the bundle and its scores."""
        self.close_bar()
        test = event["test_miou"]
        tested = "" if test is None else f", test mIoU {test:.4f}"
        self.say(
            f"{event['bundle']}: {event['kind']}, epoch {event['epoch']}, validation mIoU "
            f"{event['miou']:.4f}{tested} ({event['seconds']:.1f} s)"
        )
