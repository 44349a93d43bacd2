"""Protocols of a predictor and of the arithmetic on its logits, on the device that made them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.preprocess import (
    PreprocessSpec,
    SceneBands,
)


@dataclass(frozen=True)
class Decision:
    """The classes of some pixels, and their probabilities.

    Attributes:
        channels: Winning channel, shape (H, W), uint8.
        confidence: Probability of the winning channel in per cent, shape (H, W), uint8, or None.
        probabilities: Probability of every class in per cent, shape (K, H, W), uint8, or None.
    """

    channels: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None = None
    probabilities: NDArray[np.uint8] | None = None


PendingDecision = Callable[[], Decision]
"""Returns a decision; waits until the device has computed it."""


class Ops(Protocol):
    """Arithmetic on the predictor's own arrays, so that logits stay on their device.

    The arrays support slicing, slice assignment, ``+=``, ``*`` and ``/`` as numpy's and torch's do.
    """

    def zeros(self, shape: Sequence[int]) -> Any:
        """A new array of zeros, float32."""

    def constant(self, values: NDArray[np.float32]) -> Any:
        """The values as an array on the predictor's device."""

    def upsample(self, logits: Any, stride: int) -> Any:
        """Bilinear interpolation, (K, h, w) to (K, h * stride, w * stride), with clamped edges.

        Pixel centres are aligned, as with ``align_corners=False`` of torch.
        """

    def decide(
        self, logits: Any, confidence: bool, probabilities: bool, scale: Any | None = None
    ) -> PendingDecision:
        """Winning channels of logits (K, h, w), and probabilities if requested.

        The returned callable may be called in another thread.

        Args:
            logits: Raw values, shape (K, h, w).
            confidence: Also give the probability of the winning class.
            probabilities: Also give the probability of every class.
            scale: Positive factors of the logits in the softmax, shape (1, h, w); None for 1. They
                change no winner.
        """


class Predictor(Protocol):
    """A model that maps a batch of tiles to logits."""

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels."""

    @property
    def stride(self) -> int:
        """Pixels per logit."""

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""

    @property
    def ops(self) -> Ops:
        """Arithmetic on the predictor's logits."""

    def stack(self, spec: PreprocessSpec, scene: SceneBands, size: int) -> TileStack:
        """A new stack for ``size`` tiles, which preprocesses them where it suits the predictor."""

    def __call__(self, tiles: Any) -> Any:
        """Logits of a part of a stack with B tiles, shape (B, K, T / stride, T / stride).

        The device may still be computing them when this returns, and errors may come late.

        Raises:
            MemoryError: The batch is too large; the caller tries a smaller one.
            ModelError: The logits of this batch or an earlier one are not finite.
        """

    def finish(self) -> float:
        """Waits until all batches are computed.

        Returns:
            Time spent computing so far, in seconds.

        Raises:
            ModelError: The logits of a batch are not finite; its results must not be used.
        """


class TileStack(Protocol):
    """Tiles collected for a predictor, in the order in which they were added."""

    def __len__(self) -> int:
        """Number of tiles added."""

    def add(self, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Adds a copy of a tile: raw values, shape (N, T, T), and valid, shape (T, T)."""

    def part(self, start: int, count: int) -> Any:
        """At most ``count`` tiles from ``start`` on, in the form that the predictor takes."""
