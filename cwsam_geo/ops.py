"""What the pipeline asks of a predictor: logits, and arithmetic on them where they were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.preprocess import PreprocessSpec, SceneBands, TileStack


@dataclass(frozen=True)
class Decision:
    """What the logits of some pixels say.

    Attributes:
        channels: Winning channel, shape (H, W), uint8.
        confidence: Its probability in per cent, shape (H, W), uint8, or None.
        probabilities: Probability of every class in per cent, shape (K, H, W), uint8, or None.
    """

    channels: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None = None
    probabilities: NDArray[np.uint8] | None = None


PendingDecision = Callable[[], Decision]
"""Gives a decision; waits until the device that computes it has come to it."""


class Ops(Protocol):
    """Arithmetic on the predictor's own arrays, so that logits stay where they were made.

    The arrays support slicing, slice assignment, ``+=``, ``*`` and ``/`` as numpy's and torch's do.
    """

    def zeros(self, shape: Sequence[int]) -> Any:
        """Zeros, float32."""

    def constant(self, values: NDArray[np.float32]) -> Any:
        """The values as an array of this kind."""

    def upsample(self, logits: Any, stride: int) -> Any:
        """(K, h, w) to (K, h * stride, w * stride), bilinear between centres, edges clamped."""

    def decide(self, logits: Any, confidence: bool, probabilities: bool) -> PendingDecision:
        """Winning channels of (K, h, w) logits, and probabilities where asked for.

        What it returns may be called in another thread.
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
        """K."""

    @property
    def ops(self) -> Ops:
        """Arithmetic on the logits it returns."""

    def stack(self, spec: PreprocessSpec, scene: SceneBands, size: int) -> TileStack:
        """Room for the raw tiles of a batch, which the predictor preprocesses where it suits it."""

    def __call__(self, tiles: Any) -> Any:
        """Logits (B, K, T / stride, T / stride) of a part of a stack, B tiles.

        A device may still be computing them when this returns, and errors may come late.

        Raises:
            MemoryError: The batch is too large; a smaller one is tried.
            ModelError: This batch or an earlier one went wrong.
        """

    def finish(self) -> float:
        """Waits until all is computed.

        Returns:
            Seconds that computing took so far.

        Raises:
            ModelError: A batch went wrong: what was made of its logits must not be used.
        """


class NumpyOps:
    """``Ops`` on numpy arrays; the yardstick that other implementations are tested against."""

    def zeros(self, shape: Sequence[int]) -> NDArray[np.float32]:
        """Zeros, float32."""
        return np.zeros(shape, np.float32)

    def constant(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The values themselves."""
        return values

    def upsample(self, logits: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
        """Bilinear between centres, edges clamped (``align_corners=False``)."""
        return _stretch(_stretch(logits, stride, 1), stride, 2)

    def decide(
        self, logits: NDArray[np.float32], confidence: bool, probabilities: bool
    ) -> PendingDecision:
        """Argmax and softmax."""
        channels = logits.argmax(0).astype(np.uint8)
        if not (confidence or probabilities):
            return lambda: Decision(channels)
        shares = np.exp(logits - logits.max(0))
        percent = np.rint(100 * shares / shares.sum(0)).astype(np.uint8)
        decision = Decision(
            channels,
            percent.max(0) if confidence else None,
            percent if probabilities else None,
        )
        return lambda: decision


def _stretch(values: NDArray[np.float32], stride: int, axis: int) -> NDArray[np.float32]:
    length = values.shape[axis]
    at = ((np.arange(length * stride) + 0.5) / stride - 0.5).clip(0, length - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, length - 1)
    shape = [1, 1, 1]
    shape[axis] = -1
    share = (at - low).astype(np.float32).reshape(shape)
    mixed: NDArray[np.float32] = values.take(low, axis) * (1 - share)
    mixed += values.take(high, axis) * share
    return mixed
