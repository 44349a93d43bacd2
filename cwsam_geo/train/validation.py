"""Validation: the confusion matrix of a model on labelled tiles."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cwsam_geo.metrics import confusion_matrix
from cwsam_geo.train.losses import upsampled


def single_channels(sets: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The channel of each row that allows one class, else -1.

    Args:
        sets: Which classes each label index allows, shape (S, K), bool.
    """
    return np.where(sets.sum(1) == 1, sets.argmax(1), -1).astype(np.int64)


def validation_matrix(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    sets: NDArray[np.bool_],
    device: torch.device,
    autocast: torch.dtype | None,
) -> NDArray[np.int64]:
    """Counts the pixels whose label is one class by that class and by the model's.

    Args:
        model: Images (B, 3, T, T) to logits (B, K, t, t).
        batches: Images, and label rows (B, T, T).
        sets: Which classes each label row allows, shape (S, K), bool.
        device: Where the model is.
        autocast: Number format of the model's arithmetic; None for float32.

    Returns:
        Shape (K, K), int64; rows are the labels, columns the model.
    """
    classes = sets.shape[1]
    channels = single_channels(sets)
    matrix = np.zeros((classes, classes), np.int64)
    for images, labels in batches:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
        ):
            logits = model(images.to(device, non_blocking=True))
        with torch.inference_mode():
            # max is several times faster than argmax on a CPU.
            mapped = upsampled(logits, labels.shape[-2:]).max(1).indices.cpu().numpy()
        reference = channels[labels.numpy()]
        matrix += confusion_matrix(reference, mapped, classes, reference >= 0)
    return matrix
