"""The training loop: epochs of steps, each followed by validation and a checkpoint."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from cwsam_geo.model.tensors import tensors_sha256
from cwsam_geo.train.losses import SegmentationLoss
from cwsam_geo.train.optim import learning_rate, make_optimizer, set_learning_rate
from cwsam_geo.train.processes import Processes
from cwsam_geo.train.recipe import Recipe
from cwsam_geo.train.samples import EpochBatches, Samples, Share, TileBatches, batch_loader
from cwsam_geo.train.state import Best, EpochRecord, RunState, save_checkpoint
from cwsam_geo.train.validation import validation_matrix

AUTOCAST: Mapping[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}

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
    settings: Mapping[str, Any] | None = None


class Trainer:
    """Trains a model.

    Args:
        model: With everything frozen that is not to be trained.
        recipe: How.
        data: On what.
        place: Where.
        on_event: Called with mappings whose ``event`` is ``progress`` or ``epoch``.
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
        self._device = place.processes.device
        if place.precision == "fp16" and self._device.type != "cuda":
            raise UsageError(f"--precision fp16: training on {self._device} needs fp32 or bf16")
        self._model = model.to(self._device)
        self._model.encoder.checkpointing = recipe.checkpointing
        self._saved = saved_names(model, recipe)
        self._net = place.processes.wrap(self._model)
        self._optimizer = make_optimizer(self._model, recipe)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=place.precision == "fp16")
        loss = SegmentationLoss(recipe.loss, data.sets, data.class_weights)
        self._loss = loss.to(self._device)

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
        frozen = self._frozen_hash()
        if state.epochs_done:
            self._restore(state)
        place, recipe = self._place, self._recipe
        share = Share(place.processes.rank, place.processes.world)
        pin = self._device.type == "cuda"
        keys = EpochBatches(len(self._data.training), state.batch_size, recipe.accumulate, share)
        batches = batch_loader(self._data.training, keys, place.workers, pin)
        tiles = batch_loader(
            self._data.validation,
            TileBatches(len(self._data.validation), state.batch_size, share),
            place.workers,
            pin,
        )
        while state.epochs_done < recipe.epochs and not self._is_over(state):
            started = time.perf_counter()
            keys.epoch = state.epochs_done
            loss = self._train_epoch(state.epochs_done, batches)
            matrix = self._validate(tiles)
            self._record(state, loss, matrix, time.perf_counter() - started)
            self._keep(state)
        if self._frozen_hash() != frozen:
            raise AssertionError("training changed weights that are frozen")
        return state

    def _is_over(self, state: RunState) -> bool:
        patience = self._recipe.patience
        return patience > 0 and state.best is not None and state.epochs_since_best >= patience

    def _train_epoch(self, epoch: int, batches: Any) -> float:
        """One pass; returns the mean loss over all processes."""
        recipe, processes = self._recipe, self._place.processes
        steps = len(batches) // recipe.accumulate
        self._model.train()
        total = torch.zeros((), dtype=torch.float64)
        for i, (images, labels) in enumerate(batches):
            step, last = divmod(i, recipe.accumulate)
            closes = last + 1 == recipe.accumulate
            with processes.local_gradients(self._net, not closes):
                total += self._backward(images, labels, epoch)
            if closes:
                rate = learning_rate(epoch * steps + step, recipe.epochs * steps, recipe)
                self._step(rate)
                self._on_event(
                    {
                        "event": "progress",
                        "epoch": epoch + 1,
                        "step": step + 1,
                        "steps": steps,
                        "loss": round(float(total) / (i + 1), 6),
                    }
                )
        mean = processes.sum((total / len(batches)).to(self._device, torch.float32))
        return float(mean) / processes.world

    def _backward(self, images: Tensor, labels: Tensor, epoch: int) -> float:
        with self._autocast():
            logits = self._net(images.to(self._device, non_blocking=True))
        loss = self._loss(logits, labels.to(self._device, non_blocking=True))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(
                f"the loss is {value} in epoch {epoch + 1}; lower --lr, or use --precision fp32"
            )
        self._scaler.scale(loss / self._recipe.accumulate).backward()
        return value

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        dtype = AUTOCAST.get(self._place.precision)
        return torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not None)

    def _step(self, rate: float) -> None:
        set_learning_rate(self._optimizer, rate)
        if self._recipe.clip_norm:
            self._scaler.unscale_(self._optimizer)
            trained = [p for p in self._model.parameters() if p.requires_grad]
            torch.nn.utils.clip_grad_norm_(trained, self._recipe.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)

    def _validate(self, tiles: Any) -> NDArray[np.int64]:
        self._model.eval()
        autocast = AUTOCAST.get(self._place.precision)
        own = validation_matrix(self._model, tiles, self._data.sets, self._device, autocast)
        matrix = self._place.processes.sum(torch.from_numpy(own).to(self._device))
        counts: NDArray[np.int64] = matrix.cpu().numpy()
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
            lr=float(self._optimizer.param_groups[0]["lr"]),
            miou=_number(scores.miou),
            overall_accuracy=_number(scores.overall_accuracy),
            iou=[_number(v) for v in scores.iou],
            seconds=seconds,
        )
        state.history.append(record)
        better = state.best is None or scores.miou > state.best.miou
        tensors = self._tensors()
        if better:
            state.best = Best(record.epoch, scores.miou, matrix, tensors)
        state.tensors = tensors
        self._on_event(
            {"event": "epoch", "epochs": self._recipe.epochs, "best": better, **vars(record)}
        )

    def _tensors(self) -> dict[str, Tensor]:
        """What is saved of the model, copied to the CPU."""
        values = self._model.state_dict()
        return {n: values[n].detach().to("cpu", copy=True) for n in self._saved}

    def _keep(self, state: RunState) -> None:
        cuda = self._device.type == "cuda"
        state.machinery = {
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self._device) if cuda else None,
        }
        place = self._place
        if place.checkpoint is not None and place.processes.rank == 0:
            save_checkpoint(place.checkpoint, state, place.settings or {})
        place.processes.wait()

    def _restore(self, state: RunState) -> None:
        own = self._model.state_dict()
        if set(state.tensors) != set(self._saved):
            raise ModelError("the checkpoint is of another model; start anew")
        with torch.no_grad():
            for name, tensor in state.tensors.items():
                own[name].copy_(tensor)
        machinery = state.machinery
        self._optimizer.load_state_dict(machinery["optimizer"])
        self._scaler.load_state_dict(machinery["scaler"])
        torch.set_rng_state(machinery["random"])
        if machinery["random_cuda"] is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(machinery["random_cuda"], self._device)

    def _frozen_hash(self) -> str:
        values = self._model.state_dict()
        return tensors_sha256({n: t for n, t in values.items() if n not in self._saved})


def saved_names(model: Cwsam, recipe: Recipe) -> frozenset[str]:
    """Names of the tensors that training may change and that are saved.

    Args:
        model: With everything frozen that is not to be trained.
        recipe: Its scope says what must be trained.

    Raises:
        AssertionError: The model needs gradients for other parameters than the scope says.
    """
    needing = {name for name, p in model.named_parameters() if p.requires_grad}
    everything = {name for name, _ in model.named_parameters()}
    wanted = everything if recipe.scope == "full" else set(model.trainable_parameters())
    if needing != wanted:
        raise AssertionError(f"trains other parameters than its scope: {sorted(needing ^ wanted)}")
    return frozenset(model.state_dict()) if recipe.scope == "full" else frozenset(wanted)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
