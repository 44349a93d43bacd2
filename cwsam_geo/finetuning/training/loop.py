"""The training loop: epochs of steps, each followed by validation and a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cwsam_geo.core.metrics import Scores, confusion_matrix, number_or_none
from cwsam_geo.core.reliability import Reliability
from cwsam_geo.core.temperatures import Temperatures
from cwsam_geo.errors import ModelError, UsageError
from cwsam_geo.finetuning.region.config import Recipe
from cwsam_geo.finetuning.targets.class_sets import partial_rows, single_channels
from cwsam_geo.finetuning.targets.losses import SegmentationLoss, upsampled
from cwsam_geo.finetuning.training.batches import (
    EpochBatches,
    ProcessShare,
    Samples,
    TileBatches,
    batch_loader,
    worker_count,
)
from cwsam_geo.finetuning.training.calibration import (
    BandTiles,
    Calibration,
    LogitSample,
    calibrate,
    summed_reliability,
)
from cwsam_geo.finetuning.training.estimate import RunSize, TimeLeft, estimate_event
from cwsam_geo.finetuning.training.processes import Processes
from cwsam_geo.finetuning.training.state import Best, EpochRecord, RunState, save_checkpoint
from cwsam_geo.finetuning.training.step import Stepper, learning_rate
from cwsam_geo.finetuning.training.worst_tiles import WorstTile, worst_tiles
from cwsam_geo.model.device import Precision, autocast
from cwsam_geo.model.fast.cwsam import accelerate, has_fast_network
from cwsam_geo.model.network.cwsam import Cwsam

Event = Mapping[str, Any]
"""A message about the run; ``event`` is its kind, the other keys depend on the kind."""


@dataclass(frozen=True)
class TrainingData:
    """The data that a model is trained and validated on.

    Attributes:
        training: Samples that differ between epochs.
        validation: Tiles that are the same in every epoch.
        sets: Which classes each label index allows, shape (S, K), bool.
        ignore: Channels that do not count in validation.
        class_weights: Weight of each class in the loss, K values.
    """

    training: Samples
    validation: Samples
    sets: NDArray[np.bool_]
    ignore: tuple[int, ...]
    class_weights: Sequence[float]


@dataclass(frozen=True)
class ComputeSettings:
    """The compute environment of a run, and its checkpoint.

    Attributes:
        processes: The processes that train together.
        precision: Number format of the model's arithmetic.
        workers: Worker processes that load samples, for each training process; None to choose.
        checkpoint: File that stores the run after every epoch, or None.
        settings: Everything that must be unchanged for a run to be resumed, for JSON.
    """

    processes: Processes
    precision: Precision = "fp32"
    workers: int | None = 0
    checkpoint: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class Trainer:
    """Trains a model.

    Args:
        model: The model, with all parameters frozen that are not trained.
        data: The samples, and how their labels count.
        place: The compute environment and the checkpoint.
        on_event: Called with events ``progress`` (after each step), ``estimate`` (after the first
            steps: how long the run takes) and ``epoch``.

    Attributes:
        stepper: The model with its optimizer.
    """

    def __init__(
        self,
        model: Cwsam,
        recipe: Recipe,
        data: TrainingData,
        place: ComputeSettings,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._recipe, self._data, self._place = recipe, data, place
        self._on_event = on_event
        loss = SegmentationLoss(recipe.loss, data.sets, data.class_weights)
        self.stepper = Stepper(model, loss, recipe, place.processes, place.precision)

    def run(self, state: RunState) -> RunState:
        """Trains for the recipe's number of epochs, or until its patience ends.

        The patience ends after ``recipe.patience`` epochs without a better validation mIoU.

        Args:
            state: A new run, or an interrupted one to continue; it is changed in place.

        Returns:
            The same state after the last epoch.

        Raises:
            ModelError: The loss is not a finite number.
            UsageError: The validation tiles hold no pixel with a label that counts.
            MemoryError: A batch does not fit into the device's memory.
        """
        frozen = self.stepper.frozen_hash()
        if state.epochs_done:
            self.stepper.load(state.tensors)
            self.stepper.restore(state.machinery)
        keys = EpochBatches(
            len(self._data.training), state.batch_size, self._recipe.accumulate, self._share
        )
        pixels = state.batch_size * self.stepper.model.architecture.tile_size**2
        batches = self._loader(self._data.training, keys, pixels)
        tiles = self._loader(
            self._data.validation,
            TileBatches(len(self._data.validation), state.batch_size, self._share),
            pixels,
        )
        left = TimeLeft(self.size(state.batch_size), state.epochs_done)
        while state.epochs_done < self._recipe.epochs and not self._is_over(state):
            started = time.perf_counter()
            # Samples are a function of the epoch, so a resumed run sees those it would have seen.
            keys.epoch = state.epochs_done
            loss = self._train_epoch(state.epochs_done, batches, left)
            state.tensors = self.stepper.tensors()
            with self.stepper.kept_weights():
                matrix = self._validate(tiles)
                left.validation()
                self._record(state, loss, matrix, time.perf_counter() - started, left)
            self._keep(state)
        if self.stepper.frozen_hash() != frozen:
            raise AssertionError("training changed weights that are frozen")
        return state

    def size(self, batch_size: int) -> RunSize:
        """The amount of work of the whole run, for this process."""
        recipe, world = self._recipe, self._place.processes.world
        samples = len(self._data.training)
        batches = len(EpochBatches(samples, batch_size, recipe.accumulate, self._share))
        return RunSize(
            epochs=recipe.epochs,
            steps=batches // recipe.accumulate,
            step_tiles=batch_size * recipe.accumulate,
            validation_tiles=-(-len(self._data.validation) // world),
        )

    def score(self, tiles: Samples, tensors: Mapping[str, Tensor]) -> NDArray[np.int64]:
        """Computes the confusion matrix of a saved model on other tiles.

        The trainer's model has the saved tensors afterwards.

        Args:
            tiles: Labelled tiles, such as the test tiles.
            tensors: Saved tensors by name, such as those of the best epoch.

        Returns:
            Shape (K, K), int64; rows are the labels, columns the model.
        """
        self.stepper.load(tensors)
        return self._matrix(batch_loader(tiles, TileBatches(len(tiles), 1, self._share), 0))

    def calibrate(
        self, tensors: Mapping[str, Tensor], sets: Sequence[BandTiles], everything: BandTiles
    ) -> Calibration:
        """Fits the temperatures of a saved model; see ``calibration.calibrate``.

        The trainer's model has the saved tensors afterwards.

        Args:
            tensors: Saved tensors by name, such as those of the best epoch.
        """
        self.stepper.load(tensors)
        return calibrate(sets, everything, self._sampled, self._place.processes)

    def reliability(
        self, tensors: Mapping[str, Tensor], sets: Sequence[BandTiles], temperatures: Temperatures
    ) -> Reliability:
        """Confidence and accuracy of a saved model on other tiles.

        Args:
            sets: The tiles, by the bands that their scenes have.
        """
        self.stepper.load(tensors)
        parts = [self._sampled(part).reliability(temperatures.of(part.bands)) for part in sets]
        return summed_reliability(sum(parts[1:], parts[0]), self._place.processes)

    def worst_tiles(self, tensors: Mapping[str, Tensor]) -> list[WorstTile]:
        """The validation tiles that a saved model gets wrong most.

        Every process looks at all tiles: the results are few, but large.
        """
        self.stepper.load(tensors)
        data, arithmetic = self._data, (self.stepper.device, self.stepper.precision)
        return worst_tiles(self.stepper.model, data.validation, data.sets, data.ignore, arithmetic)

    def _sampled(self, part: BandTiles) -> LogitSample:
        stepper, data = self.stepper, self._data
        batches = batch_loader(part.tiles, TileBatches(len(part.tiles), 1, self._share), 0)
        arithmetic = stepper.device, stepper.precision
        network = self._predicting()
        return LogitSample.of(network, batches, data.sets, data.ignore, part.labelled, arithmetic)

    @property
    def _share(self) -> ProcessShare:
        return ProcessShare(self._place.processes.rank, self._place.processes.world)

    def _loader(self, samples: Samples, keys: Any, batch_pixels: int) -> Any:
        device = self.stepper.device
        workers = worker_count(self._place.workers, device, batch_pixels)
        return batch_loader(samples, keys, workers, device.type == "cuda")

    def _is_over(self, state: RunState) -> bool:
        patience = self._recipe.patience
        return patience > 0 and state.best is not None and state.epochs_since_best >= patience

    def _train_epoch(self, epoch: int, batches: Any, left: TimeLeft) -> float:
        """Trains on all batches of an epoch; returns the mean loss over all processes."""
        recipe, processes = self._recipe, self._place.processes
        steps = len(batches) // recipe.accumulate
        self.stepper.model.train()
        total = 0.0
        left.begin()
        for i, (images, labels) in enumerate(batches):
            # Gradients of recipe.accumulate batches add up before the optimizer steps.
            step, position = divmod(i, recipe.accumulate)
            completes_step = position + 1 == recipe.accumulate
            try:
                total += self.stepper.backward(images, labels, completes_step)
            except ModelError as error:
                raise ModelError(f"epoch {epoch + 1}, step {step + 1}: {error}") from None
            if completes_step:
                rate = learning_rate(epoch * steps + step, recipe.epochs * steps, recipe)
                self.stepper.step(rate)
                self._on_event(
                    {
                        "event": "progress",
                        "epoch": epoch + 1,
                        "epochs": recipe.epochs,
                        "step": step + 1,
                        "steps": steps,
                        "loss": round(total / (i + 1), 6),
                    }
                )
                if left.step():
                    self._on_event(estimate_event(left.seconds, left.step_seconds))
        mean = torch.tensor(total / len(batches), device=self.stepper.device)
        return float(processes.sum(mean)) / processes.world

    def _predicting(self) -> nn.Module:
        """The network with the current weights as ``predict`` computes it, which is faster."""
        model = self.stepper.model.eval()
        if not has_fast_network(self.stepper.device):
            return model
        return accelerate(model, self.stepper.precision)

    def _matrix(self, tiles: Any) -> NDArray[np.int64]:
        """The confusion matrix of the current weights, added up over all processes."""
        stepper, sets = self.stepper, self._data.sets
        own = validation_matrix(self._predicting(), tiles, sets, stepper.device, stepper.precision)
        matrix = self._place.processes.sum(torch.from_numpy(own).to(stepper.device))
        counts: NDArray[np.int64] = matrix.cpu().numpy()
        return counts

    def _validate(self, tiles: Any) -> NDArray[np.int64]:
        counts = self._matrix(tiles)
        if Scores.of(counts, self._data.ignore).total == 0:
            raise UsageError("the validation area has no pixel with a label that counts")
        return counts

    def _record(
        self,
        state: RunState,
        loss: float,
        matrix: NDArray[np.int64],
        seconds: float,
        left: TimeLeft,
    ) -> None:
        """Adds an epoch to the state, and keeps its weights if they are the best."""
        scores = Scores.of(matrix, self._data.ignore)
        record = EpochRecord(
            epoch=state.epochs_done + 1,
            loss=loss,
            lr=self.stepper.rate,
            miou=number_or_none(scores.miou),
            overall_accuracy=number_or_none(scores.overall_accuracy),
            iou=[number_or_none(v) for v in scores.iou],
            seconds=seconds,
        )
        # An undefined mIoU (NaN, recorded as None) loses against every number.
        better = all(r.miou is None or scores.miou > r.miou for r in state.history)
        state.history.append(record)
        if better or self._recipe.keep == "last":
            kept = self.stepper.tensors() if self._recipe.average else state.tensors
            state.best = Best(record.epoch, scores.miou, matrix, kept)
        self._on_event(
            {
                "event": "epoch",
                "epochs": self._recipe.epochs,
                "best": better,
                **vars(record),
                "seconds_left": round(left.seconds, 1),
            }
        )

    def _keep(self, state: RunState) -> None:
        """Saves the checkpoint, in the first process only; the others wait for it."""
        state.machinery = self.stepper.machinery()
        place = self._place
        if place.checkpoint is not None and place.processes.rank == 0:
            save_checkpoint(place.checkpoint, state, place.settings)
        place.processes.wait()


def validation_matrix(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    sets: NDArray[np.bool_],
    device: torch.device,
    precision: Precision,
) -> NDArray[np.int64]:
    """Counts labelled pixels by their label and by the model's class.

    A partial label, which allows several classes, counts only if the model's class is none of
    them, and so is certainly wrong. The pixel then counts as the allowed class that the model finds
    likeliest. For example, a pixel labelled "not water" but mapped as water is an error of water.
    Partial labels never count as correct, since their true class is not known.

    Args:
        model: Maps images (B, 3, T, T) to logits (B, K, t, t).
        batches: Images (B, 3, T, T), float32, and label rows (B, T, T), int64.
        sets: Which classes each label row allows, shape (S, K), bool.

    Returns:
        Shape (K, K), int64; rows are the labels, columns the model.
    """
    classes = sets.shape[1]
    # Lookup tables by label row: the single channel (S,) or -1, whether the label is partial (S,),
    # and the allowed classes (S, K).
    channels = torch.from_numpy(single_channels(sets)).to(device)
    partial_table = partial_rows(sets)
    partial = torch.from_numpy(partial_table).to(device) if partial_table.any() else None
    allowed = torch.from_numpy(np.ascontiguousarray(sets)).to(device)
    matrix = np.zeros((classes, classes), np.int64)
    for images, labels in batches:
        with torch.inference_mode(), autocast(device, precision):
            logits = model(images.to(device, non_blocking=True))
        with torch.inference_mode():
            rows = labels.to(device, non_blocking=True)
            fine = upsampled(logits, labels.shape[-2:])
            # On a CPU, max is several times faster than argmax.
            mapped = fine.max(1).indices  # (B, T, T)
            reference = channels[rows]  # (B, T, T); -1 does not count
            if partial is not None:
                pixel_allows = allowed[rows].permute(0, 3, 1, 2)  # (B, K, T, T)
                wrong = partial[rows] & ~pixel_allows.gather(1, mapped[:, None])[:, 0]
                likeliest = fine.masked_fill(~pixel_allows, float("-inf")).max(1).indices
                reference = torch.where(wrong, likeliest, reference)
        counted_reference = reference.cpu().numpy()
        matrix += confusion_matrix(
            counted_reference, mapped.cpu().numpy(), classes, counted_reference >= 0
        )
    return matrix
