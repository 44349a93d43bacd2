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

    A partial label, which allows several classes, counts only if the model's class is none of
    them, and so is certainly wrong. The pixel then counts as the allowed class that the model finds
    likeliest. For example, a pixel labelled "not water" but mapped as water is an error of water.
    Partial labels never count as correct, since their true class is not known.

    Args:
        model: Maps images (B, 3, T, T) to logits (B, K, t, t).
        batches: Images (B, 3, T, T), float32, and label rows (B, T, T), int64.
        sets: Which classes each label row allows, shape (S, K), bool.
        device: Device of the model.
        autocast: dtype of the model's arithmetic; None for float32.

    Returns:
        Shape (K, K), int64; rows are the labels, columns the model.
    """
    classes = sets.shape[1]
    # Lookup tables by label row: the single channel (S,) or -1, whether the label is partial (S,),
    # and the allowed classes (S, K).
    channels = torch.from_numpy(single_channels(sets)).to(device)
    partial_table = partial_rows(sets)
    partial = torch.from_numpy(partial_table).to(device) if partial_table.any() else None
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
            # On a CPU, max is several times faster than argmax.
            mapped = fine.max(1).indices  # (B, T, T)
            reference = channels[rows]  # (B, T, T); -1 does not count
            if partial is not None:
                pixel_allows = allowed[rows].permute(0, 3, 1, 2)  # (B, K, T, T)
                wrong = partial[rows] & ~pixel_allows.gather(1, mapped[:, None])[:, 0]
                likeliest = fine.masked_fill(~pixel_allows, float("-inf")).max(1).indices
                reference = torch.where(wrong, likeliest, reference)
        counted_reference = reference.cpu().numpy()
        matrix += confusion_matrix(
            counted_reference, mapped.cpu().numpy(), classes, counted_reference >= 0
        )
    return matrix
