"""Checks before training that the labels for training and validation suffice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.legend import Legend
from cwsam_geo.errors import LegendError, UsageError
from cwsam_geo.finetuning.data.tiles import TrainingLabels
from cwsam_geo.finetuning.targets.class_sets import CellCounts

_OTHER_BLOCKS = "draw other blocks (validation.block_size_m, train.seed)"


def check_labels(
    labels: TrainingLabels,
    validation: Sequence[CellCounts],
    legend: Legend,
    tell: Callable[[str], None],
) -> None:
    """Refuses labels that cannot train or validate a model, and reports missing classes.

    Args:
        labels: The labels to train on.
        validation: Labels of the validation pixels, one entry for each scene.
        tell: Called with a remark if classes have no label.

    Raises:
        LegendError: All labels to train on are of one class.
        UsageError: There is no label to train on, or none that counts in validation.
    """
    training_classes = _classes(labels.sets, labels.per_set)
    if not training_classes.any():
        raise UsageError(
            "no labelled pixel is left for training between the blocks and their gaps; set a "
            "smaller gap_px, tile_size or block size, or give scenes their `split:`"
        )
    if training_classes.sum() < 2:
        raise LegendError(
            f"all labels to train on are {legend.names[int(training_classes.argmax())]}, and "
            f"training needs at least two classes; add scenes, or {_OTHER_BLOCKS}"
        )
    validation_pixels = np.zeros(len(labels.sets), np.int64)  # of each label row, (S,)
    for cells in validation:
        validation_pixels += cells.per_set(len(labels.sets))
    # Partial labels can count only as errors (see validation_matrix), the ignored class never.
    single = labels.sets.sum(1) == 1
    validation_classes = _classes(labels.sets, validation_pixels * single)
    counting = single & ~_ignored(labels.sets, legend)
    if not validation_pixels[counting].any():
        in_training = bool(labels.per_set[counting].any())
        raise UsageError(_nothing_counts(validation_pixels, single, legend, in_training))
    for present, purpose in ((training_classes, "training"), (validation_classes, "validation")):
        missing = [name for name, there in zip(legend.names, present, strict=True) if not there]
        if missing:
            tell(f"no label for {purpose} is {', '.join(missing)}")


def _classes(sets: NDArray[np.bool_], pixels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which classes the labels that occur allow, shape (K,)."""
    return np.asarray(np.logical_or.reduce(sets[pixels > 0], axis=0), np.bool_)


def _ignored(sets: NDArray[np.bool_], legend: Legend) -> NDArray[np.bool_]:
    """Which label rows allow the ignored class, shape (S,)."""
    if legend.ignore is None:
        return np.zeros(len(sets), np.bool_)
    column: NDArray[np.bool_] = sets[:, legend.channel(legend.ignore)]
    return column


def _nothing_counts(
    validation_pixels: NDArray[np.int64],
    single: NDArray[np.bool_],
    legend: Legend,
    in_training: bool,
) -> str:
    """Message that says why no label for validation counts, and what to do.

    Args:
        validation_pixels: Validation pixels of each label row, shape (S,).
        single: Which label rows allow one class, shape (S,).
        in_training: Whether training pixels have labels that would count.
    """
    if not validation_pixels.any():
        return (
            f"no labelled pixel is left for validation; {_OTHER_BLOCKS}, or give scenes their "
            "`split:`"
        )
    kinds = ["one of several classes"] if validation_pixels[~single].any() else []
    if validation_pixels[single].any() and legend.ignore is not None:
        kinds.append(f"{legend.names[legend.channel(legend.ignore)]}, which is ignored")
    what = f"is {', or '.join(kinds)}, so no pixel can count as correct"
    useful = "labels that name one class, and one that counts"
    if not in_training:
        return f"every label {what}; add {useful}"
    return (
        f"every label for validation {what}; {_OTHER_BLOCKS}, or give `split: val` to a scene with "
        f"{useful}"
    )
