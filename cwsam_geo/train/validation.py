"""Validation: the confusion matrix of a model on labelled tiles."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cwsam_geo.metrics import confusion_matrix
from cwsam_geo.train.losses import partial_rows, single_channels, upsampled


def validation_matrix(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    sets: NDArray[np.bool_],
    device: torch.device,
    autocast: torch.dtype | None,
) -> NDArray[np.int64]:
    """Counts labelled pixels by their label and by the model's class.

    A pixel whose label is one of several classes counts only where the model gives none of them,
    which is wrong for certain: as the one of them that the model finds likeliest. So a "not water"
    that is taken for water is an error of water, and no class is praised for what nobody knows.

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
    channels = torch.from_numpy(single_channels(sets)).to(device)
    several = partial_rows(sets)
    partial = torch.from_numpy(several).to(device) if several.any() else None
    allowed = torch.from_numpy(np.ascontiguousarray(sets)).to(device)
    matrix = np.zeros((classes, classes), np.int64)
    for images, labels in batches:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
        ):
            logits = model(images.to(device, non_blocking=True))
        with torch.inference_mode():
            rows = labels.to(device, non_blocking=True)
            fine = upsampled(logits, labels.shape[-2:])
            # max is several times faster than argmax on a CPU.
            mapped = fine.max(1).indices
            reference = channels[rows]
            if partial is not None:
                sets_of = allowed[rows].permute(0, 3, 1, 2)
                wrong = partial[rows] & ~sets_of.gather(1, mapped[:, None])[:, 0]
                guess = fine.masked_fill(~sets_of, float("-inf")).max(1).indices
                reference = torch.where(wrong, guess, reference)
        found = reference.cpu().numpy()
        matrix += confusion_matrix(found, mapped.cpu().numpy(), classes, found >= 0)
    return matrix
