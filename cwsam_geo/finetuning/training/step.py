"""Steps of training: a model with its loss, optimizer and precision."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cwsam_geo.core.counting import how_many
from cwsam_geo.errors import ModelError, UsageError, is_out_of_memory
from cwsam_geo.finetuning.region.config import Recipe
from cwsam_geo.finetuning.targets.losses import SegmentationLoss
from cwsam_geo.finetuning.training.processes import Processes
from cwsam_geo.finetuning.training.weight_mean import WeightMean
from cwsam_geo.model.bundles.tensors import tensors_sha256
from cwsam_geo.model.device import Precision, autocast, tune_allocator
from cwsam_geo.model.network.cwsam import Cwsam

# Modules whose ``weight`` decays.
_KERNELS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class Stepper:
    """A model in training, with its optimizer and loss scaler.

    Args:
        model: The model, with all parameters frozen that are not trained.
        loss: The loss of logits and label rows.
        processes: The processes that train together.
        precision: Number format of the model's arithmetic.

    Attributes:
        model: The model, on its device.
        precision: Number format of the arithmetic.
        names: Names of the tensors that training may change and that are saved.
        loss: The loss, on the device.

    Raises:
        UsageError: The device cannot train with this precision.
    """

    def __init__(
        self,
        model: Cwsam,
        loss: SegmentationLoss,
        recipe: Recipe,
        processes: Processes,
        precision: Precision,
    ) -> None:
        self.device = processes.device
        if precision == "fp16" and self.device.type != "cuda":
            raise UsageError(f"--precision fp16: training on {self.device} needs fp32 or bf16")
        self.precision = precision
        if self.device.type == "cpu":
            tune_allocator()
        self.model = model.to(self.device)
        self.model.encoder.checkpointing = recipe.checkpointing
        self.names = saved_names(model, recipe)
        self._recipe, self._processes = recipe, processes
        self.loss = loss.to(self.device)
        self._net = processes.wrap(self.model)
        self._optimizer = make_optimizer(self.model, recipe)
        # Scales the loss so that small gradients do not vanish in fp16; does nothing otherwise.
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self._mean = WeightMean(self.model, recipe.average) if recipe.average else None

    @property
    def rate(self) -> float:
        """Learning rate of the last step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def backward(self, images: Tensor, labels: Tensor, shared: bool) -> float:
        """Computes the loss of a batch and adds its gradients to those of earlier batches.

        Args:
            images: Shape (B, 3, T, T), float32.
            labels: Label rows, shape (B, T, T), int64.
            shared: Whether the processes exchange gradients; True for the last batch of a step.

        Returns:
            The loss.

        Raises:
            ModelError: The loss is not a finite number.
            MemoryError: The device runs out of memory.
        """
        try:
            return self._backward(images, labels, shared)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Raised outside of ``except``: the caught error's traceback would keep the tensors alive.
        raise MemoryError(
            f"out of memory on {self.device} with {how_many(len(images), 'tile')} at once"
        )

    def _backward(self, images: Tensor, labels: Tensor, shared: bool) -> float:
        with self._processes.local_gradients(self._net, not shared):
            with self._arithmetic():
                logits = self._net(images.to(self.device, non_blocking=True))
            loss = self.loss(logits, labels.to(self.device, non_blocking=True))
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ModelError(f"the loss is {value}; lower --lr, or use --precision fp32")
            # The division makes the sum of a step's gradients the mean over its batches.
            self._scaler.scale(loss / self._recipe.accumulate).backward()
        return value

    def step(self, rate: float) -> None:
        """Updates the weights with learning rate ``rate``, and clears the gradients."""
        set_learning_rate(self._optimizer, rate)
        # The norm to clip is that of the gradients without the scaler's factor.
        if self._recipe.clip_norm:
            self._scaler.unscale_(self._optimizer)
            trained = [p for p in self.model.parameters() if p.requires_grad]
            torch.nn.utils.clip_grad_norm_(trained, self._recipe.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self._mean is not None:
            self._mean.update(self.model)

    @contextlib.contextmanager
    def kept_weights(self) -> Iterator[None]:
        """The model has the weights that are validated and kept: their running mean, if any."""
        with self._mean.shown(self.model) if self._mean else contextlib.nullcontext():
            yield

    def attempt(self, batch_size: int, precision: Precision | None = None) -> None:
        """Runs a forward and backward pass on blank tiles: to time it, or to see whether it fits.

        No weight changes, and no random number is drawn.

        Args:
            batch_size: Number of tiles.
            precision: Another number format than that of the run, or None.
        """
        size = self.model.architecture.tile_size
        images = torch.zeros(batch_size, 3, size, size, device=self.device)
        labels = torch.ones(batch_size, size, size, dtype=torch.int64, device=self.device)
        self.model.train()
        # Not the wrapped model, which waits for the other processes: they may try other sizes.
        with autocast(self.device, precision or self.precision):
            logits = self.model(images)
        self._scaler.scale(self.loss(logits, labels)).backward()
        self._optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Copies the tensors to save to the CPU, by name."""
        values = self.model.state_dict()
        return {n: values[n].detach().to("cpu", copy=True) for n in self.names}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts saved tensors back into the model.

        Args:
            tensors: A result of ``tensors``.

        Raises:
            ModelError: The tensors belong to another model.
        """
        if set(tensors) != self.names:
            raise ModelError("the checkpoint belongs to another model; start anew")
        own = self.model.state_dict()
        with torch.no_grad():
            for name, tensor in tensors.items():
                own[name].copy_(tensor)

    def machinery(self) -> dict[str, Any]:
        """States of the optimizer, the loss scaler and the random generators."""
        cuda = self.device.type == "cuda"
        return {
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if cuda else None,
            "mean": self._mean.state() if self._mean else None,
        }

    def restore(self, machinery: Mapping[str, Any]) -> None:
        """Restores the states that ``machinery`` returned."""
        self._optimizer.load_state_dict(machinery["optimizer"])
        self._scaler.load_state_dict(machinery["scaler"])
        torch.set_rng_state(machinery["random"])
        if machinery["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(machinery["random_cuda"], self.device)
        if self._mean is not None:
            self._mean.restore(machinery["mean"])

    def frozen_hash(self) -> str:
        """SHA-256 of the tensors that training must not change."""
        values = self.model.state_dict()
        return tensors_sha256({n: t for n, t in values.items() if n not in self.names})

    def _arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        return autocast(self.device, self.precision)


def saved_names(model: Cwsam, recipe: Recipe) -> frozenset[str]:
    """Names of the tensors that training may change and that are saved.

    Args:
        model: The model, with all parameters frozen that are not trained.
        recipe: Its scope defines which parameters must be trained.

    Raises:
        AssertionError: The parameters with gradients are not those of the scope.
    """
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    everything = {name for name, _ in model.named_parameters()}
    scope = everything if recipe.scope == "full" else set(model.trainable_parameters())
    if trained != scope:
        raise AssertionError(f"trains other parameters than its scope: {sorted(trained ^ scope)}")
    # The state dict also has the buffers.
    return frozenset(model.state_dict()) if recipe.scope == "full" else frozenset(scope)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Makes an AdamW optimizer for all parameters that need a gradient.

    Args:
        model: The model, with all parameters frozen that are not trained.
        recipe: Learning rate and weight decay.
    """
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    decayed = kernels(model) & set(trained)
    # Sorted names: the optimizer's state in a checkpoint goes by the order of the parameters.
    groups: list[dict[str, Any]] = [
        {"params": [trained[n] for n in sorted(names)], "weight_decay": decay}
        for names, decay in ((decayed, recipe.weight_decay), (set(trained) - decayed, 0.0))
        if names
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr)


def kernels(model: nn.Module) -> set[str]:
    """Names of the weights with weight decay: those of linear layers and convolutions.

    Biases, norms, embeddings and position tables do not decay.
    """
    return {
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, _KERNELS)
    }


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate of a step: a linear warm-up, then a cosine from ``lr`` to ``lr_end``.

    The rate depends on the step alone, so that a resumed run needs no state of a scheduler.

    Args:
        step: Number of the step, from 0 to ``steps - 1``.
        steps: Number of steps of the whole run.
        recipe: Its ``lr``, ``lr_end`` and ``warmup`` define the schedule.
    """
    warmup_steps = round(recipe.warmup * steps)
    if step < warmup_steps:
        return recipe.lr * (step + 1) / (warmup_steps + 1)
    phase = (step - warmup_steps) / max(steps - 1 - warmup_steps, 1)  # 0 to 1
    return recipe.lr_end + (recipe.lr - recipe.lr_end) * (1 + math.cos(math.pi * phase)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate
