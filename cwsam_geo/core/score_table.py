"""The tables of scores that evaluate's report, a model card and the metrics of a training share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.legend import Legend
from cwsam_geo.core.metrics import Scores, number_or_none

OVERALL = {
    "miou": "mIoU",
    "mean_f1": "mean F1",
    "overall_accuracy": "overall accuracy",
    "kappa": "kappa",
    "fwiou": "FWIoU",
}
"""Scores over all classes: their names in ``Scores`` and JSON, and their names in print."""

SCORES = {"iou": "IoU", "precision": "precision", "recall": "recall", "f1": "F1"}
"""Scores of each class: their names in ``Scores`` and JSON, and their names in print."""

COUNTS = {"support": "support", "mapped": "mapped"}
"""Counts of each class, in the reference and in the map, likewise."""


def score_report(scores: Scores, legend: Legend, counts: NDArray[np.int64]) -> dict[str, Any]:
    """Scores over all classes (``overall``) and of each class (``classes``), for JSON.

    Args:
        scores: Scores of ``counts``, or of proportions estimated from them.
        legend: The classes, K of them.
        counts: Confusion matrix, shape (K, K); rows are the reference, columns the map.
    """
    support, mapped = counts.sum(1), counts.sum(0)
    names = [name for name, c in zip(legend.names, scores.counted, strict=True) if c]
    values = {key: getattr(scores, key) for key in SCORES}
    classes = [
        {
            **entry,
            "ignored": bool(scores.ignored[i]),
            "counted": bool(scores.counted[i]),
            **{key: number_or_none(values[key][i]) for key in SCORES},
            "support": int(support[i]),
            "mapped": int(mapped[i]),
        }
        for i, entry in enumerate(legend.to_list())
    ]
    overall = {key: number_or_none(getattr(scores, key)) for key in OVERALL}
    return {"overall": {**overall, "classes_in_means": names}, "classes": classes}


def overall_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Name and value in print of each score over all classes; see ``score_report``."""
    return [[name, score_text(report["overall"][key])] for key, name in OVERALL.items()]


def class_head(counts: Mapping[str, str] = COUNTS) -> list[str]:
    """Heads of the columns of ``class_rows``."""
    return ["class", *SCORES.values(), *counts.values()]


def class_rows(
    classes: Iterable[Mapping[str, Any]], counts: Mapping[str, str] = COUNTS
) -> list[list[str]]:
    """The table of scores of each class; see ``score_report``.

    Args:
        classes: The classes of the report, or some of them.
    """
    return [
        [
            f"{c['code']} {c['name']}{' (ignored)' if c['ignored'] else ''}",
            *(score_text(c[key]) for key in SCORES),
            *(f"{c[key]}" for key in counts),
        ]
        for c in classes
    ]


def score_text(value: float | None) -> str:
    """A score with four decimals; ``-`` if it is undefined."""
    return "-" if value is None else f"{value:.4f}"
