"""The arithmetic on logits in numpy: the reference that torch's is tested against."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.predictor import Decision, PendingDecision


class NumpyOps:
    """``Ops`` on numpy arrays: the reference that other implementations are tested against."""

    def zeros(self, shape: Sequence[int]) -> NDArray[np.float32]:
        """A new array of zeros, float32."""
        return np.zeros(shape, np.float32)

    def constant(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The values themselves."""
        return values

    def upsample(self, logits: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
        """Bilinear interpolation along both axes, one after the other."""
        return _stretch(_stretch(logits, stride, 1), stride, 2)

    def decide(
        self,
        logits: NDArray[np.float32],
        confidence: bool,
        probabilities: bool,
        scale: NDArray[np.float32] | None = None,
    ) -> PendingDecision:
        """Argmax, and softmax if probabilities are requested."""
        channels = logits.argmax(0).astype(np.uint8)
        if not (confidence or probabilities):
            return lambda: Decision(channels)
        # Subtracting the maximum keeps exp from overflowing.
        exponentials = np.exp((logits - logits.max(0)) * (1 if scale is None else scale))
        percent = np.rint(100 * exponentials / exponentials.sum(0)).astype(np.uint8)
        decision = Decision(
            channels,
            percent.max(0) if confidence else None,
            percent if probabilities else None,
        )
        return lambda: decision


def _stretch(values: NDArray[np.float32], stride: int, axis: int) -> NDArray[np.float32]:
    """Interpolates linearly along one axis of an array with three."""
    length = values.shape[axis]
    # Position of each output centre in input coordinates, clamped to the outermost centres.
    at = ((np.arange(length * stride) + 0.5) / stride - 0.5).clip(0, length - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, length - 1)
    shape = [1, 1, 1]
    shape[axis] = -1
    share = (at - low).astype(np.float32).reshape(shape)
    mixed: NDArray[np.float32] = values.take(low, axis) * (1 - share)
    mixed += values.take(high, axis) * share
    return mixed
