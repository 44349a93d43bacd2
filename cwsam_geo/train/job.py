"""One training run, from prepared data to the files it leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cwsam_geo.model.build import Cwsam
from cwsam_geo.model.bundle import ModelBundle
from cwsam_geo.model.device import Precision
from cwsam_geo.model.header import BundleHeader, Kind
from cwsam_geo.train.batch_size import cpu_batch_size, largest_batch
from cwsam_geo.train.config import RegionConfig
from cwsam_geo.train.loop import Event, Place, Trainer, TrainingData
from cwsam_geo.train.losses import auto_weights
from cwsam_geo.train.outputs import OutputPaths, TensorBoard, write_reports
from cwsam_geo.train.prepare import RegionData
from cwsam_geo.train.processes import Processes
from cwsam_geo.train.report import Training
from cwsam_geo.train.split_file import write_split
from cwsam_geo.train.start import Start
from cwsam_geo.train.state import (
    Best,
    EpochRecord,
    RunState,
    epochs_kept,
    load_checkpoint,
    save_checkpoint,
)
from cwsam_geo.train.summary import data_summary

Tell = Callable[[Event], None]
Matrix = NDArray[np.int64]


@dataclass(frozen=True)
class FinetuneOptions:
    """How ``finetune`` treats its outputs.

    Attributes:
        overwrite: Replace outputs that are there.
        resume: Go on with the interrupted run whose checkpoint is there.
        tensorboard: Write events for TensorBoard.
    """

    overwrite: bool = False
    resume: bool = False
    tensorboard: bool = False


@dataclass(frozen=True)
class Job:
    """All that is decided before the first step.

    Attributes:
        config: The region.
        start: What training starts from.
        data: The region's tiles.
        processes: This process, and the others if there are any.
        precision: Number format of the arithmetic.
        paths: Where everything goes.
        options: How outputs are treated.
    """

    config: RegionConfig
    start: Start
    data: RegionData
    processes: Processes
    precision: Precision
    paths: OutputPaths
    options: FinetuneOptions

    @property
    def kind(self) -> Kind:
        """What the bundle holds."""
        return "full" if self.config.recipe.scope == "full" else "adapters"

    @property
    def class_weights(self) -> tuple[float, ...]:
        """Weight of each class in the loss."""
        wanted = self.config.recipe.class_weights
        if wanted == "auto":
            return auto_weights([int(n) for n in self.data.class_pixels])
        return (1.0,) * len(self.config.legend) if isinstance(wanted, str) else wanted

    def train(self, model: Cwsam, tell: Tell) -> tuple[Training, Mapping[str, Tensor]]:
        """Trains, from the start or from a checkpoint.

        Args:
            model: The model of ``start``.
            tell: Called with events.

        Returns:
            The run, and the best epoch's tensors.

        Raises:
            CwsamGeoError: The checkpoint does not serve, or training failed.
        """
        data, first = self.data, self.processes.rank == 0
        loop_data = TrainingData(
            data.training, data.validation, data.sets, data.ignore, self.class_weights
        )
        settings = self._settings()
        place = Place(
            self.processes,
            self.precision,
            self.config.machine.workers,
            self.paths.checkpoint,
            settings,
        )
        with contextlib.ExitStack() as stack:
            if self.options.tensorboard and first:
                board = TensorBoard(self.paths.events, self.config.legend.names)
                stack.callback(board.close)
                tell = _also(tell, board)
            trainer = Trainer(model, self.config.recipe, loop_data, place, tell)
            if self.options.resume:
                state = load_checkpoint(self.paths.checkpoint, settings)
            else:
                state = RunState(self._batch_size(trainer))
                if first:
                    # A run that is killed in its first epoch can be resumed like any other.
                    save_checkpoint(self.paths.checkpoint, state, settings)
            if first:
                again = self.options.overwrite or self.options.resume
                write_split(data.split, data.locations, self.paths.split, again)
            tell(self._start_event(state))
            try:
                trainer.run(state)
            except (KeyboardInterrupt, SystemExit):
                if first:
                    tell({"event": "warning", "text": self._kept()})
                raise
        best = state.best
        if best is None:
            raise AssertionError("no epoch was trained")
        tested = None if data.test is None else trainer.score(data.test, best.tensors)
        return self._account(state, best, tested), best.tensors

    def _kept(self) -> str:
        """What is left of a run that is interrupted: what is on the disk, not in memory."""
        epochs = epochs_kept(self.paths.checkpoint)
        if epochs is None:
            return f"{self.paths.checkpoint}: cannot be read; start anew with --overwrite"
        if not epochs:
            return (
                f"{self.paths.checkpoint}: its first epoch is not done; begin it again with "
                "--resume"
            )
        return f"{self.paths.checkpoint}: keeps the run up to epoch {epochs}; go on with --resume"

    def _batch_size(self, trainer: Trainer) -> int:
        wanted, device = self.config.recipe.batch_size, self.processes.device
        if wanted is not None:
            return wanted
        if device.type != "cuda":
            return cpu_batch_size(self.config.tiles.tile_size)
        samples = len(self.data.training) // self.processes.world
        own = largest_batch(trainer.stepper.attempt, device, samples)
        # All processes go by the smallest: a slot for each, added up.
        sizes = torch.zeros(self.processes.world, device=device)
        sizes[self.processes.rank] = own
        return int(self.processes.sum(sizes).min())

    def _settings(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed."""
        config, start = self.config, self.start
        return {
            **{f"train.{k}": v for k, v in asdict(config.recipe).items()},
            **{f"train.{k}": v for k, v in asdict(config.tiles).items()},
            "validation": asdict(config.blocks),
            "classes": config.legend.to_list(),
            "ignore": config.legend.ignore,
            "scenes": list(self.data.split.whole),
            "init": [start.name, start.base.sha256 if start.base else None],
            "architecture": start.architecture.to_dict(),
            "preprocess": self.data.spec.to_dict(),
            "labels": self.data.class_pixels.tolist(),
            "partial_labels": self.data.partial,
            "processes": self.processes.world,
            "precision": self.precision,
        }

    def _start_event(self, state: RunState) -> Event:
        return {
            "event": "start",
            "device": str(self.processes.device),
            "precision": self.precision,
            "processes": self.processes.world,
            "scope": self.config.recipe.scope,
            "tile_size": self.config.tiles.tile_size,
            "batch_size": state.batch_size,
            "epochs": self.config.recipe.epochs,
            "epochs_done": state.epochs_done,
            "training_samples": len(self.data.training),
            "validation_tiles": len(self.data.validation),
            "class_weights": [round(w, 4) for w in self.class_weights],
        }

    def _account(self, state: RunState, best: Best, tested: Matrix | None) -> Training:
        config, start = self.config, self.start
        return Training(
            name=self.paths.bundle.stem,
            legend=config.legend,
            ignore=self.data.ignore,
            architecture=start.architecture,
            preprocess=self.data.spec,
            recipe=replace(config.recipe, batch_size=state.batch_size),
            class_weights=self.class_weights,
            start="; ".join(start.remarks),
            base=start.base if self.kind == "adapters" else None,
            history=tuple(state.history),
            best=best,
            test_matrix=tested,
            data=data_summary(config, self.data),
            run={
                "device": str(self.processes.device),
                "precision": self.precision,
                "processes": self.processes.world,
                "torch": torch.__version__,
            },
            licence=config.licence or _licence(start),
        )

    def write(self, training: Training, tensors: Mapping[str, Tensor]) -> list[Path]:
        """Writes the report and, last, the bundle; then the checkpoint has served.

        Args:
            training: The run.
            tensors: What the bundle holds.

        Returns:
            What was written beside the bundle.
        """
        paths, options = self.paths, self.options
        files = write_reports(training, paths, options.overwrite or options.resume)
        header = BundleHeader(
            kind=self.kind,
            architecture=training.architecture,
            preprocess=training.preprocess,
            legend=training.legend,
            provenance=training.provenance(),
            base=training.base,
        )
        ModelBundle(header, tensors).save(paths.bundle, options.overwrite)
        paths.checkpoint.unlink(missing_ok=True)
        return [paths.split, *files]


def _licence(start: Start) -> str:
    data = "the licences of the training data apply too"
    return f"{start.licence}; {data}" if start.licence else f"not stated; {data}"


def _also(tell: Tell, board: TensorBoard) -> Tell:
    names = {f.name for f in fields(EpochRecord)}

    def both(event: Event) -> None:
        if event["event"] == "epoch":
            board.add(EpochRecord(**{k: v for k, v in event.items() if k in names}))
        tell(event)

    return both
