"""Says before the first step how long a run takes on this machine, and what would shorten it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from cwsam_geo.core.counting import how_many
from cwsam_geo.finetuning.region.config import RegionConfig
from cwsam_geo.finetuning.training.estimate import (
    RunSize,
    duration,
    estimate_event,
    trial_seconds,
)
from cwsam_geo.finetuning.training.loop import Event
from cwsam_geo.finetuning.training.processes import OneProcess
from cwsam_geo.finetuning.training.step import Stepper
from cwsam_geo.model.device import cpu_multiplies_bf16
from cwsam_geo.model.network.architecture import BACKBONES, Architecture
from cwsam_geo.model.network.cwsam import Cwsam

LONG = 3 * 3600.0
"""Seconds. Who waits longer for a run should know it, and what would shorten it, before it starts:
three hours are half a working day."""

_SMALL = "small"
"""Backbone that is proposed instead of a large one."""

_LEAST_SAVED = 0.8
"""A setting is proposed if the run would take less than this share of its time."""


@dataclass(frozen=True)
class Forecast:
    """Measures how long a run takes, by a trial that changes no weight.

    Attributes:
        config: The region's configuration.
        stepper: The model to train.
        size: The amount of work of a whole run.
        epochs_done: Epochs that an interrupted run has finished.
    """

    config: RegionConfig
    stepper: Stepper
    size: RunSize
    epochs_done: int

    def announce(self, tell: Callable[[Event], None]) -> None:
        """Gives an ``estimate`` event, and a ``warning`` if the run takes longer than ``LONG``."""
        device = self.stepper.device
        tile = trial_seconds(self.stepper.attempt, device)
        if tile is None:
            return
        seconds = self._seconds(tile)
        tell(estimate_event(seconds, tile * self.size.step_tiles))
        if seconds > LONG:
            tell({"event": "warning", "text": self._warning(seconds, tile)})

    def _seconds(self, tile_seconds: float) -> float:
        """Duration of the epochs that are left."""
        return (self.size.epochs - self.epochs_done) * self.size.epoch_seconds(tile_seconds)

    def _warning(self, seconds: float, tile_seconds: float) -> str:
        size, device = self.size, self.stepper.device
        at_most = "at most " if self.config.recipe.patience else ""
        epochs = size.epochs - self.epochs_done
        ways = "; ".join(self._ways(seconds))
        return (
            f"on this machine ({device}) the run takes {at_most}about {duration(seconds)}: "
            f"{how_many(epochs, 'epoch')} of {how_many(size.steps, 'step')}, "
            f"{duration(tile_seconds * size.step_tiles)} each. What would shorten it: {ways}. It "
            "may also be interrupted (Ctrl-C) and continued with --resume"
        )

    def _ways(self, seconds: float) -> Iterator[str]:
        """Settings that shorten the run, with the time that it would take."""
        epochs = int(self.config.recipe.epochs * LONG / seconds)
        if not self.epochs_done and epochs > 0:
            yield f"--epochs {epochs} (about {duration(seconds * epochs / self.size.epochs)})"
        for setting, tile in self._trials():
            if tile is not None and self._seconds(tile) < _LEAST_SAVED * seconds:
                yield f"{setting} (about {duration(self._seconds(tile))})"
        if self.stepper.device.type == "cpu":
            yield "a machine with a GPU"

    def _trials(self) -> Iterator[tuple[str, float | None]]:
        """Settings that change the time of a tile, and that time in seconds."""
        stepper = self.stepper
        if stepper.device.type == "cpu" and stepper.precision == "fp32" and cpu_multiplies_bf16():
            yield (
                "--precision bf16",
                trial_seconds(lambda n: stepper.attempt(n, "bf16"), stepper.device),
            )
        architecture = stepper.model.architecture
        backbone, tile_size = BACKBONES[_SMALL], architecture.tile_size
        if architecture.backbone.dim > backbone.dim and tile_size % backbone.patch_size == 0:
            small = self._other(Architecture(backbone, architecture.num_classes, tile_size))
            yield f"--init {_SMALL} --scope full", trial_seconds(small.attempt, stepper.device)
        if self.config.recipe.checkpointing:
            encoder = stepper.model.encoder
            encoder.checkpointing = False
            plain = trial_seconds(stepper.attempt, stepper.device)
            encoder.checkpointing = True
            yield "checkpointing: false in train:, with more memory", plain

    def _other(self, architecture: Architecture) -> Stepper:
        """A network of other sizes with random weights, trained whole."""
        with torch.random.fork_rng():  # the run's own random numbers stay the same
            model = Cwsam(architecture)
        recipe = replace(self.config.recipe, scope="full", checkpointing=False)
        processes = OneProcess(self.stepper.device)
        return Stepper(model, self.stepper.loss, recipe, processes, self.stepper.precision)
