"""The files that training writes beside the model."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cwsam_geo.atomic import atomic_output, check_output
from cwsam_geo.core.legend import Legend
from cwsam_geo.errors import UsageError
from cwsam_geo.finetuning.report.card import model_card
from cwsam_geo.finetuning.report.results import TrainingResult
from cwsam_geo.finetuning.training.state import EpochRecord
from cwsam_geo.io.figures import new_figure, write_confusion_png

SUFFIX = ".safetensors"
"""File name suffix of model bundles."""


@dataclass(frozen=True)
class OutputPaths:
    """Paths of all outputs. Their names begin with the bundle's name.

    Attributes:
        bundle: The model bundle, ``region.safetensors``; it is written last.
        card: Model card, ``region.md``.
        metrics: Scores and history, ``region_metrics.json``.
        curves: Learning curves, ``region_curves.png``.
        confusion: Confusion matrix, ``region_confusion.png``.
        split: Training and validation areas, ``region_split.geojson``.
        checkpoint: The run so far, ``region_checkpoint.pt``; it exists from the first step until
            the bundle is written.
        events: Folder of TensorBoard events, ``region_events``.
    """

    bundle: Path
    card: Path
    metrics: Path
    curves: Path
    confusion: Path
    split: Path
    checkpoint: Path
    events: Path

    @classmethod
    def beside(cls, output: str | os.PathLike[str]) -> OutputPaths:
        """The paths of the outputs that belong to a bundle.

        Raises:
            UsageError: The bundle's name does not end in ``.safetensors``.
        """
        bundle = Path(output)
        if bundle.suffix != SUFFIX:
            raise UsageError(f"{bundle}: name the model *{SUFFIX}")

        def named(ending: str) -> Path:
            return bundle.with_name(f"{bundle.stem}{ending}")

        return cls(
            bundle=bundle,
            card=named(".md"),
            metrics=named("_metrics.json"),
            curves=named("_curves.png"),
            confusion=named("_confusion.png"),
            split=named("_split.geojson"),
            checkpoint=named("_checkpoint.pt"),
            events=named("_events"),
        )

    def check(self, overwrite: bool, resume: bool, tensorboard: bool) -> None:
        """Checks before training that all outputs can be written.

        With ``overwrite`` and ``tensorboard`` it also deletes the events of an earlier run.

        Args:
            overwrite: Whether existing files are replaced.
            resume: Whether an interrupted run is continued.
            tensorboard: Whether events will be written.

        Raises:
            UsageError: A file exists and is neither overwritten nor part of the run to resume, or
                there is no checkpoint to resume from.
            OutputError: The folder is missing or cannot be written to.
        """
        check_output(self.bundle, overwrite)
        # An interrupted run may have written everything except the bundle.
        replaces = overwrite or resume
        reports = (self.card, self.metrics, self.curves, self.confusion, self.split)
        if resume and not self.checkpoint.is_file():
            existing = [path for path in reports if path.exists() and not overwrite]
            hint = f", with --overwrite, since {existing[0]} is there" if existing else ""
            raise UsageError(
                f"{self.checkpoint}: no checkpoint to resume from; leave out --resume to start"
                f"{hint}"
            )
        if self.checkpoint.exists() and not replaces:
            raise UsageError(
                f"{self.checkpoint}: a run was interrupted here; pass --resume to go on with it, "
                "or --overwrite to start anew"
            )
        for path in reports:
            check_output(path, replaces)
        if tensorboard and not replaces and self.events.exists():
            raise UsageError(f"{self.events}: exists already; pass --overwrite to replace it")
        # TensorBoard shows all event files of a folder as one run, so old ones must go.
        if tensorboard and overwrite and not resume:
            for old_events in self.events.glob("events.out.tfevents.*"):
                old_events.unlink()


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def write_reports(training: TrainingResult, paths: OutputPaths, overwrite: bool) -> list[Path]:
    """Writes the model card, the metrics and, if matplotlib is installed, the pictures.

    Returns:
        The paths of the files that were written.

    Raises:
        UsageError: A file exists and ``overwrite`` is False.
        OutputError: A file cannot be written.
    """
    _write(paths.card, model_card(training), overwrite)
    metrics = json.dumps(training.to_dict(), indent=2, ensure_ascii=False)
    _write(paths.metrics, metrics + "\n", overwrite)
    if not can_draw():
        return [paths.card, paths.metrics]
    title = (
        f"{training.name}: mIoU {training.scores.miou:.4f}, epoch {training.best.epoch}, validation"
    )
    names, matrix = training.legend.names, training.best.matrix
    write_confusion_png(paths.confusion, names, matrix, title, overwrite)
    draw_curves(paths.curves, training.history, training.legend, overwrite)
    return [paths.card, paths.metrics, paths.confusion, paths.curves]


def draw_curves(
    path: str | os.PathLike[str],
    history: Sequence[EpochRecord],
    legend: Legend,
    overwrite: bool = False,
) -> None:
    """Draws the training loss, and validation mIoU and IoU of each class, over the epochs.

    Args:
        path: The PNG to write.
        history: One record for each epoch.
        legend: The classes; each line has the colour of its class.
        overwrite: Replace an existing file.

    Raises:
        UsageError: matplotlib is not installed, or the file exists.
        OutputError: The file cannot be written.
    """
    figure = new_figure(9.0, 4.0)
    left, right = figure.subplots(1, 2)
    epochs = [r.epoch for r in history]
    # Short histories get markers: a single epoch would not be visible as a line.
    style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(epochs) < 30 else {}
    left.plot(epochs, [r.loss for r in history], color="black", **style)
    left.set(xlabel="epoch", ylabel="training loss")
    for i, entry in enumerate(legend.entries):
        values = [_plotted(r.iou[i]) for r in history]
        name = entry.name.replace("$", r"\$")  # matplotlib reads $...$ as mathematics
        right.plot(epochs, values, color=entry.color, linewidth=1, label=name, **style)
    miou = [_plotted(r.miou) for r in history]
    right.plot(epochs, miou, color="black", linewidth=2, label="mIoU", **style)
    right.set(xlabel="epoch", ylabel="validation IoU", ylim=(0, 1))
    right.legend(fontsize=7, loc="lower right")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    with atomic_output(path, overwrite) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _plotted(value: float | None) -> float:
    return float("nan") if value is None else value


def _write(path: Path, text: str, overwrite: bool) -> None:
    with atomic_output(path, overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


class TensorBoard:
    """Writes events for TensorBoard.

    Args:
        folder: Folder of the event files; it is created if it does not exist.
        names: Names of the classes.

    Raises:
        UsageError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError(
                "--tensorboard needs tensorboard, which is not installed: "
                "pip install 'cwsam-geo[tensorboard]'"
            ) from None
        self._names = list(names)
        self._writer: Any = SummaryWriter(str(folder))

    def add(self, record: EpochRecord) -> None:
        """Writes the loss, the learning rate and the scores of an epoch."""
        values = {"train/loss": record.loss, "train/lr": record.lr}
        if record.miou is not None:
            values["validation/miou"] = record.miou
        if record.overall_accuracy is not None:
            values["validation/overall_accuracy"] = record.overall_accuracy
        for name, iou in zip(self._names, record.iou, strict=True):
            if iou is not None:
                values[f"validation_iou/{name}"] = iou
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, record.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()
