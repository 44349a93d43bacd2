"""Whether the labels for training and validation serve, before hours of work."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.errors import LegendError, UsageError
from cwsam_geo.legend import Legend
from cwsam_geo.train.class_sets import CellCounts
from cwsam_geo.train.dataset import TrainingLabels

_OTHER_BLOCKS = "draw other blocks (validation.block_size_m, train.seed)"


def check_labels(
    labels: TrainingLabels,
    validation: Sequence[CellCounts],
    legend: Legend,
    tell: Callable[[str], None],
) -> None:
    """Remarks on classes without labels; no training without two classes.

    Args:
        labels: The labels to train on.
        validation: Of each scene, its labels of validation pixels.
        legend: The classes.
        tell: Called with remarks.

    Raises:
        LegendError: All labels to train on are of one class.
        UsageError: There is nothing to train or to validate on.
    """
    trained = _classes(labels.sets, labels.per_set)
    if not trained.any():
        raise UsageError(
            "no labelled pixel is left for training between the blocks and their gaps; set a "
            "smaller gap_px, tile_size or block size, or give scenes their `split:`"
        )
    if trained.sum() < 2:
        raise LegendError(
            f"all labels to train on are {legend.names[int(trained.argmax())]}: two classes are "
            f"the least; add scenes, or {_OTHER_BLOCKS}"
        )
    checked = np.zeros(len(labels.sets), np.int64)
    for cells in validation:
        checked += cells.per_set(len(labels.sets))
    single = labels.sets.sum(1) == 1
    validated = _classes(labels.sets, checked * single)
    counting = single & ~_ignored(labels.sets, legend)
    if not checked[counting].any():
        anywhere = bool(labels.per_set[counting].any())
        raise UsageError(_nothing_counts(checked, single, legend, anywhere))
    for found, purpose in ((trained, "training"), (validated, "validation")):
        missing = [name for name, there in zip(legend.names, found, strict=True) if not there]
        if missing:
            tell(f"no label for {purpose} is {', '.join(missing)}")


def _classes(sets: NDArray[np.bool_], pixels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Classes that some labels allow, shape (K,)."""
    return np.asarray(np.logical_or.reduce(sets[pixels > 0], axis=0), np.bool_)


def _ignored(sets: NDArray[np.bool_], legend: Legend) -> NDArray[np.bool_]:
    """Label rows that allow the class which does not count, shape (S,)."""
    if legend.ignore is None:
        return np.zeros(len(sets), np.bool_)
    column: NDArray[np.bool_] = sets[:, legend.channel(legend.ignore)]
    return column


def _nothing_counts(
    checked: NDArray[np.int64], single: NDArray[np.bool_], legend: Legend, anywhere: bool
) -> str:
    """Why no label for validation counts, and what to do."""
    if not checked.any():
        return (
            f"no labelled pixel is left for validation; {_OTHER_BLOCKS}, or give scenes their "
            "`split:`"
        )
    kinds = ["one of several classes"] if checked[~single].any() else []
    if checked[single].any() and legend.ignore is not None:
        kinds.append(f"{legend.names[legend.channel(legend.ignore)]}, which is ignored")
    what = f"is {', or '.join(kinds)}, so nothing can be found right"
    wanted = "labels that name one class, and one that counts"
    if not anywhere:
        return f"every label {what}; add {wanted}"
    return (
        f"every label for validation {what}; {_OTHER_BLOCKS}, or give `split: val` to a scene with "
        f"{wanted}"
    )
