"""How long a run takes: estimated from a trial before it starts, then from its own steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from cwsam_geo.errors import is_out_of_memory

FIRST_STEPS = 5
"""Steps after which the first estimate from measured steps is given."""

_FORWARD_SHARE = 0.3
"""Time of a validation tile divided by that of a training tile, until a validation was measured.

Validation is a forward pass without gradients; a training step is about three times as much work.
"""

_SHORT_TRIAL = 5.0
"""Seconds. A trial that takes less is repeated, because the first one also prepares libraries."""


@dataclass(frozen=True)
class RunSize:
    """The amount of work of a run, for one process.

    Attributes:
        epochs: Epochs of the run, at most.
        steps: Steps of an epoch.
        step_tiles: Tiles of a step.
        validation_tiles: Tiles of a validation.
    """

    epochs: int
    steps: int
    step_tiles: int
    validation_tiles: int

    def epoch_seconds(self, tile_seconds: float) -> float:
        """Estimates the duration of an epoch with its validation.

        Args:
            tile_seconds: Duration of a step divided by its tiles.
        """
        tiles = self.steps * self.step_tiles + _FORWARD_SHARE * self.validation_tiles
        return tiles * tile_seconds


class TimeLeft:
    """Estimates the time left of a run from the steps and validations that it has measured.

    Args:
        epochs_done: Epochs that were finished before, in a run that was interrupted.
        now: Clock in seconds.
    """

    def __init__(
        self, size: RunSize, epochs_done: int, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._size, self._now = size, now
        self._epochs_left = size.epochs - epochs_done
        self._steps_left = size.steps
        self._measured, self._seconds = 0, 0.0
        self._validation: float | None = None
        self._since = now()
        # The first step also prepares libraries and workers. It counts only until there are others.
        self._first: float | None = None

    def begin(self) -> None:
        """Starts the clock of an epoch's first step."""
        self._since = self._now()

    def step(self) -> bool:
        """Counts a finished step; returns whether this is the time of the first estimate."""
        now = self._now()
        seconds, self._since = now - self._since, now
        self._steps_left -= 1
        if self._first is None:
            self._first = seconds
        else:
            self._measured += 1
            self._seconds += seconds
        return 1 + self._measured == FIRST_STEPS

    def validation(self) -> None:
        """Counts the validation that ends an epoch."""
        self._validation = self._now() - self._since
        self._epochs_left -= 1
        self._steps_left = self._size.steps

    @property
    def step_seconds(self) -> float:
        """Mean duration of a step; NaN before the first."""
        if self._measured:
            return self._seconds / self._measured
        return math.nan if self._first is None else self._first

    @property
    def seconds(self) -> float:
        """Seconds to the end of the last epoch; NaN before the first step."""
        if self._epochs_left <= 0:
            return 0.0
        size, step = self._size, self.step_seconds
        validation = self._validation
        if validation is None:
            validation = _FORWARD_SHARE * size.validation_tiles * step / size.step_tiles
        steps = (self._epochs_left - 1) * size.steps + self._steps_left
        return steps * step + self._epochs_left * validation


def trial_seconds(attempt: Callable[[int], None], device: torch.device) -> float | None:
    """Times the forward and backward pass of one tile.

    Args:
        attempt: Runs them with a number of tiles, and changes no weight.
        device: Where they run.

    Returns:
        Seconds; None if a tile does not fit into memory, which training itself reports.
    """

    def timed() -> float:
        began = time.perf_counter()
        attempt(1)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    try:
        first = timed()
        return first if first > _SHORT_TRIAL else timed()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None


def duration(seconds: float) -> str:
    """A duration in words of two units at most: ``40 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``.

    Args:
        seconds: 0 or more; the result is rounded, since estimates are.
    """
    if seconds < 60:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 10 * 60:
        hours, rest = divmod(round(minutes, -1), 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    hours = round(minutes / 60)
    if hours < 48:
        return f"{hours} h"
    days, rest = divmod(hours, 24)
    return f"{days} d {rest} h" if rest else f"{days} d"


def estimate_event(seconds_left: float, step_seconds: float) -> dict[str, Any]:
    """The event that says how long a run takes.

    Args:
        seconds_left: Until the end of the last epoch.
        step_seconds: Duration of a step.
    """
    return {
        "event": "estimate",
        "seconds_left": round(seconds_left, 1),
        "step_seconds": round(step_seconds, 3),
    }
