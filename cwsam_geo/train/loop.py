"""The training loop: epochs of steps, each followed by validation and a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cwsam_geo.errors import ModelError, UsageError
from cwsam_geo.metrics import Scores
from cwsam_geo.model.build import Cwsam
from cwsam_geo.model.device import Precision
from cwsam_geo.train.losses import SegmentationLoss
from cwsam_geo.train.optim import learning_rate
from cwsam_geo.train.processes import Processes
from cwsam_geo.train.recipe import Recipe
from cwsam_geo.train.samples import EpochBatches, Samples, Share, TileBatches, batch_loader
from cwsam_geo.train.state import Best, EpochRecord, RunState, save_checkpoint
from cwsam_geo.train.steps import Stepper
from cwsam_geo.train.validation import validation_matrix

Event = Mapping[str, Any]


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained and validated on.

    Attributes:
        training: Samples that are drawn anew in every epoch.
        validation: Tiles that are the same in every epoch.
        sets: Which classes each label index allows, shape (S, K), bool.
        ignore: Channels that do not count in validation.
        class_weights: Weight of each class in the loss.
    """

    training: Samples
    validation: Samples
    sets: NDArray[np.bool_]
    ignore: tuple[int, ...]
    class_weights: Sequence[float]


@dataclass(frozen=True)
class Place:
    """Where and how it is computed.

    Attributes:
        processes: This process, and the others if there are any.
        precision: Number format of the arithmetic.
        workers: Processes that read samples ahead, for each process that trains.
        checkpoint: File to keep the run in after every epoch, or None.
        settings: What must be the same for a run to be resumed, for JSON.
    """

    processes: Processes
    precision: Precision = "fp32"
    workers: int = 0
    checkpoint: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class Trainer:
    """Trains a model.

    Args:
        model: With everything frozen that is not to be trained.
        recipe: How.
        data: On what.
        place: Where.
        on_event: Called with mappings whose ``event`` is ``progress`` or ``epoch``.

    Attributes:
        stepper: The model in training.
    """

    def __init__(
        self,
        model: Cwsam,
        recipe: Recipe,
        data: TrainingData,
        place: Place,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._recipe, self._data, self._place = recipe, data, place
        self._on_event = on_event
        loss = SegmentationLoss(recipe.loss, data.sets, data.class_weights)
        self.stepper = Stepper(model, loss, recipe, place.processes, place.precision)

    def run(self, state: RunState) -> RunState:
        """Trains until the recipe's epochs are done, or none has been better for its patience.

        Args:
            state: A new run, or one that was interrupted.

        Returns:
            The same state, at its end.

        Raises:
            ModelError: The loss is not a finite number.
            UsageError: The validation tiles hold no pixel with a label that counts.
        """
        frozen = self.stepper.frozen_hash()
        if state.epochs_done:
            self.stepper.load(state.tensors)
            self.stepper.restore(state.machinery)
        keys = EpochBatches(
            len(self._data.training), state.batch_size, self._recipe.accumulate, self._share
        )
        batches = self._loader(self._data.training, keys)
        tiles = self._loader(
            self._data.validation,
            TileBatches(len(self._data.validation), state.batch_size, self._share),
        )
        while state.epochs_done < self._recipe.epochs and not self._is_over(state):
            started = time.perf_counter()
            keys.epoch = state.epochs_done
            loss = self._train_epoch(state.epochs_done, batches)
            matrix = self._validate(tiles)
            self._record(state, loss, matrix, time.perf_counter() - started)
            self._keep(state)
        if self.stepper.frozen_hash() != frozen:
            raise AssertionError("training changed weights that are frozen")
        return state

    def score(self, tiles: Samples, tensors: Mapping[str, Tensor]) -> NDArray[np.int64]:
        """The confusion matrix of some tensors, such as the best epoch's, on other tiles.

        Args:
            tiles: Labelled tiles.
            tensors: What was saved of the model, by name.

        Returns:
            Shape (K, K), int64; rows are the labels.
        """
        self.stepper.load(tensors)
        return self._matrix(batch_loader(tiles, TileBatches(len(tiles), 1, self._share), 0))

    @property
    def _share(self) -> Share:
        return Share(self._place.processes.rank, self._place.processes.world)

    def _loader(self, samples: Samples, keys: Any) -> Any:
        pin = self.stepper.device.type == "cuda"
        return batch_loader(samples, keys, self._place.workers, pin)

    def _is_over(self, state: RunState) -> bool:
        patience = self._recipe.patience
        return patience > 0 and state.best is not None and state.epochs_since_best >= patience

    def _train_epoch(self, epoch: int, batches: Any) -> float:
        """One pass; returns the mean loss over all processes."""
        recipe, processes = self._recipe, self._place.processes
        steps = len(batches) // recipe.accumulate
        self.stepper.model.train()
        total = 0.0
        for i, (images, labels) in enumerate(batches):
            step, last = divmod(i, recipe.accumulate)
            closes = last + 1 == recipe.accumulate
            try:
                total += self.stepper.backward(images, labels, closes)
            except ModelError as error:
                raise ModelError(f"epoch {epoch + 1}, step {step + 1}: {error}") from None
            if closes:
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
        mean = torch.tensor(total / len(batches), device=self.stepper.device)
        return float(processes.sum(mean)) / processes.world

    def _matrix(self, tiles: Any) -> NDArray[np.int64]:
        stepper = self.stepper
        stepper.model.eval()
        own = validation_matrix(
            stepper.model, tiles, self._data.sets, stepper.device, stepper.autocast
        )
        matrix = self._place.processes.sum(torch.from_numpy(own).to(stepper.device))
        counts: NDArray[np.int64] = matrix.cpu().numpy()
        return counts

    def _validate(self, tiles: Any) -> NDArray[np.int64]:
        counts = self._matrix(tiles)
        if Scores.of(counts, self._data.ignore).total == 0:
            raise UsageError("the validation area has no pixel with a label that counts")
        return counts

    def _record(
        self, state: RunState, loss: float, matrix: NDArray[np.int64], seconds: float
    ) -> None:
        scores = Scores.of(matrix, self._data.ignore)
        record = EpochRecord(
            epoch=state.epochs_done + 1,
            loss=loss,
            lr=self.stepper.rate,
            miou=_number(scores.miou),
            overall_accuracy=_number(scores.overall_accuracy),
            iou=[_number(v) for v in scores.iou],
            seconds=seconds,
        )
        better = all(r.miou is None or scores.miou > r.miou for r in state.history)
        state.history.append(record)
        state.tensors = self.stepper.tensors()
        if better or self._recipe.keep == "last":
            state.best = Best(record.epoch, scores.miou, matrix, state.tensors)
        self._on_event(
            {"event": "epoch", "epochs": self._recipe.epochs, "best": better, **vars(record)}
        )

    def _keep(self, state: RunState) -> None:
        state.machinery = self.stepper.machinery()
        place = self._place
        if place.checkpoint is not None and place.processes.rank == 0:
            save_checkpoint(place.checkpoint, state, place.settings)
        place.processes.wait()


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
