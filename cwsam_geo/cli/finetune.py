"""``cwsam-geo finetune``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cwsam_geo.cli.options import json_option, output_option, overwrite_option, quiet_option
from cwsam_geo.cli.reporting import Reporter

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


@click.command("finetune")
@click.argument("region", required=False, metavar="[REGION.yaml]")
@output_option("Model bundle to write, *.safetensors; its report goes beside it.")
@click.option("--scene", metavar="PATH", help="Without REGION.yaml: the scene to train on.")
@click.option("--labels", metavar="PATH", help="Its labels: a raster, picture or polygons.")
@click.option("--column", metavar="NAME", help="Column of polygons with the class.")
@click.option("--legend", metavar="FILE", help="The classes, a YAML file with `classes:`.")
@click.option(
    "--init",
    metavar="NAME|PATH",
    help="What to start from: sam_vit_b, a model bundle, or small (random weights).",
)
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Passes over the samples.")
@click.option("--lr", type=float, metavar="RATE", help="Learning rate of AdamW.")
@click.option("--batch-size", metavar="auto|N", help="Tiles of a step.")
@click.option("--tile-size", type=click.IntRange(min=16), metavar="PX", help="Side of a tile.")
@click.option(
    "--loss", metavar="NAME", help="ce, focal, gce, dice, lovasz, or a sum such as ce+dice."
)
@click.option(
    "--scope",
    type=click.Choice(["adapters", "full"]),
    help="Train what CWSAM adds to SAM, or everything.",
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Decides all that is random.")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), help="Arithmetic."
)
@click.option(
    "--workers", type=click.IntRange(min=0), metavar="N", help="Processes that read samples ahead."
)
@click.option("--resume", is_flag=True, help="Go on with the run that was interrupted.")
@click.option("--tensorboard", is_flag=True, help="Write events for TensorBoard.")
@overwrite_option
@json_option
@quiet_option
def command(region: str | None, output: str, as_json: bool, quiet: bool, **given: Any) -> None:
    """Train a model for a region on labelled scenes.

    REGION.yaml names classes, scenes, labels and settings; options win over it. Without it, give
    --scene, --labels and --legend.

    Several GPUs: torchrun --nproc-per-node N -m cwsam_geo.cli.main finetune ...
    """
    from cwsam_geo.errors import UsageError
    from cwsam_geo.finetuning import finetune
    from cwsam_geo.train.job import FinetuneOptions
    from cwsam_geo.train.region_file import load_region, parse_region

    train = {key: given[key] for key in _TRAIN if given[key] is not None}
    if str(train.get("batch_size", "")).isdecimal():
        train["batch_size"] = int(train["batch_size"])
    if region is not None:
        extra = [f"--{k}" for k in ("scene", "labels", "column", "legend") if given[k]]
        if extra:
            raise UsageError(f"{', '.join(extra)}: give these or {region}, not both")
        overrides: dict[str, Any] = {"train": train} if train else {}
        if given["init"]:
            overrides["init"] = _absolute(given["init"])
        config = load_region(region, overrides)
    else:
        config = parse_region(_region_of(given, train), Path.cwd(), "options")
    options = FinetuneOptions(
        overwrite=given["overwrite"], resume=given["resume"], tensorboard=given["tensorboard"]
    )
    with FinetuneReporter(as_json, quiet) as report:
        finetune(config, output, options, report)


def _absolute(init: str) -> str:
    """A path given on the command line starts at the current folder, not at the region's."""
    return str(Path(init).absolute()) if Path(init).is_file() else init


def _region_of(given: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    from cwsam_geo.errors import UsageError
    from cwsam_geo.io.legend_file import read_legend

    missing = [f"--{k}" for k in ("scene", "labels", "legend") if not given[k]]
    if missing:
        raise UsageError(f"give REGION.yaml, or {', '.join(missing)} too")
    legend = read_legend(given["legend"])
    scene = {k: given[k] for k in ("scene", "labels", "column") if given[k]}
    region: dict[str, Any] = {"classes": legend.to_list(), "scenes": [scene], "train": dict(train)}
    if legend.ignore is not None:
        region["ignore"] = legend.ignore
    if given["init"]:
        region["init"] = given["init"]
    return region


class FinetuneReporter(Reporter):
    """Prints what ``finetune`` tells."""

    unit = "step"

    def on_start(self, event: Mapping[str, Any]) -> None:
        """What is about to be done."""
        done = event["epochs_done"]
        several = f", {event['processes']} processes" if event["processes"] > 1 else ""
        self.say(
            f"{f'Goes on after epoch {done} of' if done else 'Trains'} {event['epochs']} epochs "
            f"({event['scope']}) on {event['device']} ({event['precision']}{several}): "
            f"{event['training_samples']} tiles of {event['tile_size']} px an epoch, "
            f"{event['batch_size']} a step; {event['validation_tiles']} to validate"
        )

    def on_progress(self, event: Mapping[str, Any]) -> None:
        """A step of the run."""
        steps, epoch = event["steps"], event["epoch"]
        self.advance(
            (epoch - 1) * steps + event["step"],
            event["epochs"] * steps,
            f"epoch {epoch}/{event['epochs']}, loss {event['loss']:.4f}",
        )

    def on_epoch(self, event: Mapping[str, Any]) -> None:
        """What an epoch came to."""
        miou = "-" if event["miou"] is None else f"{event['miou']:.4f}"
        self.say(
            f"epoch {event['epoch']}/{event['epochs']}: loss {event['loss']:.4f}, "
            f"validation mIoU {miou}{' (best)' if event['best'] else ''}, "
            f"{event['seconds']:.1f} s"
        )

    def on_done(self, event: Mapping[str, Any]) -> None:
        """What the run came to."""
        self.close_bar()
        test = event["test_miou"]
        tested = "" if test is None else f", test mIoU {test:.4f}"
        self.say(
            f"{event['bundle']}: {event['kind']}, epoch {event['epoch']}, validation mIoU "
            f"{event['miou']:.4f}{tested} ({event['seconds']:.1f} s)"
        )
