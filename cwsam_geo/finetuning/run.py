"""One training run, from prepared data to the files that it writes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cwsam_geo.atomic import atomic_output
from cwsam_geo.finetuning.data.prepare import RegionData
from cwsam_geo.finetuning.forecast import Forecast
from cwsam_geo.finetuning.options import FinetuneOptions
from cwsam_geo.finetuning.region.config import RegionConfig
from cwsam_geo.finetuning.report.data_summary import data_summary, write_split
from cwsam_geo.finetuning.report.files import OutputPaths, TensorBoard, write_reports
from cwsam_geo.finetuning.report.page import training_page
from cwsam_geo.finetuning.report.results import HeldOutScores, TrainingResult
from cwsam_geo.finetuning.start import InitialModel
from cwsam_geo.finetuning.targets.losses import auto_weights
from cwsam_geo.finetuning.training.batches import cpu_batch_size, largest_batch
from cwsam_geo.finetuning.training.calibration import BandCalibration, BandTiles, Calibration
from cwsam_geo.finetuning.training.loop import ComputeSettings, Event, Trainer, TrainingData
from cwsam_geo.finetuning.training.processes import Processes
from cwsam_geo.finetuning.training.state import (
    Best,
    EpochRecord,
    RunState,
    epochs_kept,
    load_checkpoint,
    save_checkpoint,
)
from cwsam_geo.model.bundles.bundle import BundleHeader, BundleKind, ModelBundle
from cwsam_geo.model.device import Precision
from cwsam_geo.model.network.cwsam import Cwsam

Tell = Callable[[Event], None]
"""Receives the events of a run."""


@dataclass(frozen=True)
class TrainingRun:
    """A training run whose settings and data are complete.

    Attributes:
        config: The region's configuration.
        start: The weights that training starts from.
        data: The region's tiles.
        processes: The processes that train together.
        precision: Number format of the model's arithmetic.
        paths: Paths of all outputs.
        options: How outputs are treated.
    """

    config: RegionConfig
    start: InitialModel
    data: RegionData
    processes: Processes
    precision: Precision
    paths: OutputPaths
    options: FinetuneOptions

    @property
    def kind(self) -> BundleKind:
        """Whether the bundle holds all weights or adapters only."""
        return "full" if self.config.recipe.scope == "full" else "adapters"

    @property
    def class_weights(self) -> tuple[float, ...]:
        """Weight of each class in the loss, K values."""
        requested_weights = self.config.recipe.class_weights
        if requested_weights == "auto":
            return auto_weights([int(n) for n in self.data.class_pixels])
        if isinstance(requested_weights, str):
            return (1.0,) * len(self.config.legend)
        return requested_weights

    def train(self, model: Cwsam, tell: Tell) -> tuple[TrainingResult, Mapping[str, Tensor]]:
        """Trains a model from its first epoch, or from the checkpoint.

        Args:
            model: The model that ``start.build`` made.
            tell: Called with ``start``, ``estimate``, ``progress``, ``epoch`` and ``warning``
                events.

        Returns:
            The finished run, and the tensors of the epoch that is kept.

        Raises:
            CwsamGeoError: The checkpoint cannot be used, or training failed.
            MemoryError: A batch does not fit into memory.
        """
        data, first = self.data, self.processes.rank == 0
        loop_data = TrainingData(
            data.training, data.validation, data.sets, data.ignore, self.class_weights
        )
        settings = self._settings()
        place = ComputeSettings(
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
                    # Save before the first step, so that a run killed in its first epoch can be
                    # resumed.
                    save_checkpoint(self.paths.checkpoint, state, settings)
            if first:
                replaces = self.options.overwrite or self.options.resume
                write_split(data.split, data.locations, self.paths.split, replaces)
            tell(self._start_event(state))
            if first:
                size = trainer.size(state.batch_size)
                Forecast(self.config, trainer.stepper, size, state.epochs_done).announce(tell)
            try:
                trainer.run(state)
            except (KeyboardInterrupt, SystemExit):
                if first:
                    tell({"event": "warning", "text": self._kept()})
                raise
        best = state.best
        if best is None:
            raise AssertionError("no epoch was trained")
        whole = BandTiles(data.spec.bands, data.validation, data.validation.labelled)
        sets = data.by_bands(data.validation, others=True)
        calibration = trainer.calibrate(best.tensors, sets, whole)
        for part in calibration.parts:
            tell({"event": "decision", "text": _calibrated(part, len(calibration.parts) > 1)})
        test = None
        if data.test is not None:
            matrix = trainer.score(data.test, best.tensors)
            sets = data.by_bands(data.test, others=False)
            test = HeldOutScores(
                matrix, trainer.reliability(best.tensors, sets, calibration.temperatures)
            )
        training = self._account(state, best, calibration, test)
        if self.options.report is not None:
            training = replace(training, worst=tuple(trainer.worst_tiles(best.tensors)))
        return training, best.tensors

    def _kept(self) -> str:
        """Message after an interruption: which epoch the checkpoint on the disk holds."""
        epochs = epochs_kept(self.paths.checkpoint)
        if epochs is None:
            return f"{self.paths.checkpoint}: cannot be read; start anew with --overwrite"
        if not epochs:
            return (
                f"{self.paths.checkpoint}: the first epoch is not finished; start it again with "
                "--resume"
            )
        return f"{self.paths.checkpoint}: keeps the run up to epoch {epochs}; go on with --resume"

    def _batch_size(self, trainer: Trainer) -> int:
        """The recipe's batch size, or the largest that suits the device."""
        requested_size, device = self.config.recipe.batch_size, self.processes.device
        if requested_size is not None:
            return requested_size
        if device.type != "cuda":
            return cpu_batch_size(self.config.tiles.tile_size)
        samples = len(self.data.training) // self.processes.world
        own = largest_batch(trainer.stepper.attempt, device, samples)
        # All processes use the smallest of their sizes. Each writes its own into one element; the
        # sum over the processes then has all of them.
        sizes = torch.zeros(self.processes.world, device=device)
        sizes[self.processes.rank] = own
        return int(self.processes.sum(sizes).min())

    def _settings(self) -> dict[str, Any]:
        """Everything that must be unchanged for a run to be resumed, by name."""
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

    def _account(
        self, state: RunState, best: Best, calibration: Calibration, test: HeldOutScores | None
    ) -> TrainingResult:
        """The record of the finished run."""
        config, start = self.config, self.start
        return TrainingResult(
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
            calibration=calibration,
            test=test,
            data=data_summary(config, self.data),
            run={
                "device": str(self.processes.device),
                "precision": self.precision,
                "processes": self.processes.world,
                "torch": torch.__version__,
            },
            licence=config.licence or _licence(start),
        )

    def write(self, training: TrainingResult, tensors: Mapping[str, Tensor]) -> list[Path]:
        """Writes the reports and then the bundle, and deletes the checkpoint.

        Args:
            training: The finished run.
            tensors: The tensors for the bundle, by name.

        Returns:
            The files that were written beside the bundle.

        Raises:
            UsageError: A file exists and the options do not allow to replace it.
            OutputError: A file cannot be written.
        """
        paths, options = self.paths, self.options
        replaces = options.overwrite or options.resume
        files = write_reports(training, paths, replaces)
        if options.report is not None:
            page = training_page(training, self.data)
            with atomic_output(options.report, replaces) as temporary:
                temporary.write_text(page, encoding="utf-8", newline="")
            files.append(Path(options.report))
        header = BundleHeader(
            kind=self.kind,
            architecture=training.architecture,
            preprocess=training.preprocess,
            legend=training.legend,
            provenance=training.provenance(),
            base=training.base,
            temperatures=training.calibration.temperatures,
        )
        ModelBundle(header, tensors).save(paths.bundle, options.overwrite)
        # Only a complete bundle makes the checkpoint superfluous.
        paths.checkpoint.unlink(missing_ok=True)
        return [paths.split, *files]


def _calibrated(part: BandCalibration, of_several: bool) -> str:
    before, after = (100 * r.error for r in (part.before, part.after))
    which = f" for {', '.join(part.bands)}" if of_several else ""
    text = f"confidence: temperature {part.temperature:.3f}{which}"
    if math.isnan(before):
        return text
    return (
        f"{text}; expected calibration error on the validation areas {before:.1f} % before, "
        f"{after:.1f} % after"
    )


def _licence(start: InitialModel) -> str:
    data = "the licences of the training data apply too"
    return f"{start.licence}; {data}" if start.licence else f"not stated; {data}"


def _also(tell: Tell, board: TensorBoard) -> Tell:
    """Returns a function that passes events on, and the epochs to TensorBoard as well."""
    names = {f.name for f in fields(EpochRecord)}

    def both(event: Event) -> None:
        if event["event"] == "epoch":
            board.add(EpochRecord(**{k: v for k, v in event.items() if k in names}))
        tell(event)

    return both
