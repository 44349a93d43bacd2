"""Figures of a judge: confusion, IoU, precision, recall, calibration, on sparse labels.

Labels and maps are codes: 1 water, 2 trees, 3 open, 4 built-up, and 9 for what is known only not to
be water (a flood's "not water", a water model's "land"); 0 is no label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.reliability import Reliability

CODES = (1, 2, 3, 4, 9)
CLASS_CODES = {"water": 1, "trees": 2, "open": 3, "built-up": 4}
WATER, LAND = 1, 9
CAPPED = 3000
"""Pixels per class and place, at most, of the figures that are called capped."""

SAME = {
    "water": 1,
    "trees": 2,
    "open": 3,
    "open land": 3,
    "crops/grass": 3,
    "low vegetation": 3,
    "bare": 3,
    "built-up": 4,
    "land": 9,
}
"""What a model's class is to the judge, by its name."""


@dataclass(frozen=True)
class Pixels:
    """Labelled pixels of one site, with what a model says of them.

    Attributes:
        labels: Codes, shape (N,).
        mapped: Codes, shape (N,).
        confidence: Probability of the class that was mapped, shape (N,), or None.
        water: Probability of water, shape (N,), or None.
    """

    labels: NDArray[np.uint8]
    mapped: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None = None
    water: NDArray[np.float32] | None = None

    def take(self, which: NDArray[Any]) -> Pixels:
        """Some of the pixels."""
        parts = (self.labels, self.mapped, self.confidence, self.water)
        return Pixels(*(None if p is None else p[which] for p in parts))  # type: ignore[arg-type]

    @staticmethod
    def joined(parts: Iterable[Pixels]) -> Pixels:
        """All pixels of several."""
        every = list(parts)

        def joined(name: str) -> Any:
            values = [getattr(p, name) for p in every]
            return None if any(v is None for v in values) else np.concatenate(values)

        return Pixels(*(joined(n) for n in ("labels", "mapped", "confidence", "water")))


def capped(labels: NDArray[np.uint8], most: int, seed: int = 0) -> NDArray[np.int64]:
    """Indices of at most ``most`` pixels of each label, drawn at random, ascending."""
    rng = np.random.default_rng(seed)
    kept = []
    for code in np.unique(labels[labels > 0]):
        there = np.flatnonzero(labels == code)
        kept.append(rng.choice(there, most, replace=False) if len(there) > most else there)
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)


def confusion(labels: NDArray[np.uint8], mapped: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Counts by label and by map, both in the order of ``CODES``; pixels without label left out."""
    place = np.full(256, -1)
    place[list(CODES)] = np.arange(len(CODES))
    rows, columns = place[labels], place[mapped]
    known = (rows >= 0) & (columns >= 0)
    keys = rows[known] * len(CODES) + columns[known]
    counts = np.bincount(keys, minlength=len(CODES) ** 2)
    return counts.reshape(len(CODES), len(CODES)).astype(np.int64)


def class_scores(matrix: NDArray[np.int64]) -> dict[str, dict[str, float | None]]:
    """IoU, precision and recall of each class that is labelled; shares of 1.

    A pixel that is only known not to be water counts against water alone, and never for or against
    another class. Of a map that says "land", the other classes have no figures.
    """
    m = np.asarray(matrix, np.float64)
    water_or_land = bool(m[:, -1].sum())
    found: dict[str, dict[str, float | None]] = {}
    for name, code in CLASS_CODES.items():
        i = CODES.index(code)
        labelled = m[i].sum()
        if not labelled or (water_or_land and code != WATER):
            continue
        hits = m[i, i]
        # Row 9 is for water alone to be wrong about.
        called = m[:, i].sum() if code == WATER else m[:-1, i].sum()
        union = labelled + called - hits
        found[name] = {
            "iou": float(hits / union) if union else None,
            "precision": float(hits / called) if called else None,
            "recall": float(hits / labelled),
            "pixels": float(labelled),
        }
    return found


def mean_iou(scores: Mapping[str, Mapping[str, float | None]]) -> float | None:
    """Mean IoU of the classes that are labelled."""
    values = [s["iou"] for s in scores.values() if s["iou"] is not None]
    return float(np.mean(values)) if values else None


def is_right(pixels: Pixels) -> NDArray[np.bool_]:
    """Where the map is right, as far as the label and the map's classes tell."""
    coarse = (pixels.labels == LAND) | (pixels.mapped == LAND)
    water_right = (pixels.labels == WATER) == (pixels.mapped == WATER)
    return np.asarray(np.where(coarse, water_right, pixels.labels == pixels.mapped))


def stated(pixels: Pixels) -> NDArray[np.float32]:
    """The confidence that answers to ``is_right``.

    Where only water or not is known, it is that of water or not.
    """
    assert pixels.confidence is not None
    assert pixels.water is not None
    coarse = (pixels.labels == LAND) | (pixels.mapped == LAND)
    side = np.where(pixels.mapped == WATER, pixels.water, 1 - pixels.water)
    return np.asarray(np.where(coarse, side, pixels.confidence), np.float32)


def calibration_error(confidence: NDArray[Any], right: NDArray[Any]) -> float:
    """Expected calibration error, as ``Reliability`` has it; 0 without pixels.

    Args:
        confidence: Stated, 0 to 1, shape (N,).
        right: Whether it was right, shape (N,).
    """
    return Reliability.of(confidence, right).error if len(confidence) else 0.0


@dataclass(frozen=True)
class Verdict:
    """Figures of some pixels.

    Attributes:
        classes: IoU, precision, recall and labelled pixels by class.
        mean_iou: Of the classes that are labelled.
        ece: Expected calibration error, or None where no confidence is known.
        open_as_water: Share of open land that is mapped as water, or None.
        matrix: Counts by label and map in the order of ``CODES``.
    """

    classes: dict[str, dict[str, float | None]]
    mean_iou: float | None
    ece: float | None
    open_as_water: float | None
    matrix: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, pixels: Pixels) -> Verdict:
        """The figures of labelled pixels."""
        matrix = confusion(pixels.labels, pixels.mapped)
        classes = class_scores(matrix)
        ece = None
        if pixels.confidence is not None:
            ece = calibration_error(stated(pixels), is_right(pixels))
        land = matrix[CODES.index(3)]
        share = float(land[0] / land.sum()) if land.sum() else None
        return cls(classes, mean_iou(classes), ece, share, matrix.tolist())
