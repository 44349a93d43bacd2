"""How far a map's confidence can be trusted, and the temperature that corrects it.

A confidence is calibrated if, of all pixels with a confidence of 80 %, 80 % are right. Dividing
logits by a *temperature* before the softmax brings confidence nearer to that and changes no class
(Guo et al. 2017, arXiv 1706.04599).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cwsam_geo.core.metrics import number_or_none

Floats = NDArray[np.float64]

BINS = 20
"""Number of bins of confidence, each 5 percentage points wide: confidence rasters hold whole per
cents, and these bins hold equally many of them."""

TEMPERATURE_LIMITS = (0.01, 100.0)
"""Temperatures that a model may have. Beyond them, every confidence would be 100 % or 1 / K."""

_TRIED = 1.05 ** np.arange(-18, 51)
"""Temperatures that are compared, 5 % apart: 0.42 to 11.5, with 1. The lowest is not near 0, where
areas that a model maps without an error would lead to."""

_STAY = 0.005
"""Calibration error that a temperature must save for each e-fold of its distance from 1: less is
chance."""

_PART = 1 << 16
"""Pixels whose softmax is computed at a time, which bounds the memory."""


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy of pixels or points, by bins of confidence.

    Bin i holds confidences from i / ``BINS`` up to, but not including, (i + 1) / ``BINS``; the last
    one includes 1.

    Attributes:
        counts: Pixels of each bin, shape (BINS,).
        weights: Sum of their weights, shape (BINS,); equal to ``counts`` without weights.
        right: Sum of the weights of those whose class is right, shape (BINS,).
        confidence: Weighted sum of their confidence, shape (BINS,).
    """

    counts: NDArray[np.int64]
    weights: Floats
    right: Floats
    confidence: Floats

    @classmethod
    def of(
        cls, confidence: ArrayLike, right: ArrayLike, weights: ArrayLike | None = None
    ) -> Reliability:
        """Counts pixels.

        Args:
            confidence: Probability of the pixel's class, 0 to 1, shape (N,).
            right: Whether the class is right, shape (N,).
            weights: What each pixel counts, shape (N,); None for 1.
        """
        stated = np.asarray(confidence, np.float64).reshape(-1)
        weight = np.ones_like(stated) if weights is None else np.asarray(weights, np.float64)
        # Rounding keeps 0.15 in the bin that begins there, though 0.15 * 20 is a little below 3.
        bins = np.minimum((stated * BINS + 1e-9).astype(np.int64), BINS - 1)
        return cls(
            counts=np.bincount(bins, minlength=BINS).astype(np.int64),
            weights=_sums(bins, weight),
            right=_sums(bins, weight * np.asarray(right, np.float64)),
            confidence=_sums(bins, weight * stated),
        )

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            self.counts + other.counts,
            self.weights + other.weights,
            self.right + other.right,
            self.confidence + other.confidence,
        )

    @property
    def accuracy(self) -> float:
        """Share that is right; NaN without pixels."""
        return _share(self.right.sum(), self.weights.sum())

    @property
    def mean_confidence(self) -> float:
        """Mean confidence; above ``accuracy`` if the map is too sure. NaN without pixels."""
        return _share(self.confidence.sum(), self.weights.sum())

    @property
    def error(self) -> float:
        """Expected calibration error, 0 to 1; NaN without pixels.

        The mean over all pixels of the gap between accuracy and mean confidence of their bin
        (Naeini et al. 2015, AAAI 29, 2901-2907).
        """
        return _share(np.abs(self.right - self.confidence).sum(), self.weights.sum())

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values, for JSON; undefined ones are None."""
        bins = [
            {
                "from": i / BINS,
                "to": (i + 1) / BINS,
                "count": int(self.counts[i]),
                "accuracy": number_or_none(_share(self.right[i], self.weights[i])),
                "mean_confidence": number_or_none(_share(self.confidence[i], self.weights[i])),
            }
            for i in range(BINS)
        ]
        return {
            "count": int(self.counts.sum()),
            "accuracy": number_or_none(self.accuracy),
            "mean_confidence": number_or_none(self.mean_confidence),
            "expected_calibration_error": number_or_none(self.error),
            "bins": bins,
        }


def reliability_text(report: Mapping[str, Any]) -> str:
    """A sentence on a ``Reliability.to_dict()``, in print."""
    error = report["expected_calibration_error"]
    if error is None:
        return "confidence: no pixel to judge it by"
    return (
        f"confidence {100 * report['mean_confidence']:.1f} % on average, "
        f"{100 * report['accuracy']:.1f} % right; expected calibration error {100 * error:.1f} %"
    )


def log_probabilities(logits: NDArray[np.floating], temperature: float) -> Floats:
    """Logarithm of the softmax of logits divided by the temperature, shape (N, K)."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(1, keepdims=True)))


def reliability_by_temperature(
    logits: NDArray[np.floating], channels: NDArray[np.integer], weights: ArrayLike | None = None
) -> Floats:
    """Reliability with each temperature that is compared.

    Results for several parts can be added before ``best_temperature``.

    Args:
        logits: Raw values, shape (N, K).
        channels: Channel of each pixel's label, shape (N,).
        weights: What each pixel counts, shape (N,); None for 1.

    Returns:
        ``weights``, ``right`` and ``confidence`` of ``Reliability`` for each temperature, shape
        (M, 3, BINS).
    """
    weight = np.ones(len(logits)) if weights is None else np.asarray(weights, np.float64)
    sums = np.zeros((len(_TRIED), 3, BINS))
    for start in range(0, len(logits), _PART):
        part = slice(start, start + _PART)
        right = logits[part].argmax(1) == channels[part]
        for i, temperature in enumerate(_TRIED):
            confidence = np.exp(log_probabilities(logits[part], temperature).max(1))
            found = Reliability.of(confidence, right, weight[part])
            sums[i] += found.weights, found.right, found.confidence
    return sums


def best_temperature(sums: Floats) -> float:
    """The temperature with the smallest expected calibration error.

    The error itself is minimised, not the likelihood of the labels as in Guo et al.: where some
    areas are mapped well and others are not, the likeliest temperature follows the few worst
    pixels. ``experiments/LOG.md`` compares the two.

    Args:
        sums: Result of ``reliability_by_temperature``.

    Returns:
        One of the temperatures that are compared; 1 without pixels.
    """
    total = sums[0, 0].sum()
    if not total:
        return 1.0
    errors = np.abs(sums[:, 1] - sums[:, 2]).sum(1) / total  # (M,)
    return float(_TRIED[int(np.argmin(errors + _STAY * np.abs(np.log(_TRIED))))])


def fit_temperature(
    logits: NDArray[np.floating], channels: NDArray[np.integer], weights: ArrayLike | None = None
) -> float:
    """The temperature that suits labelled pixels best; see ``best_temperature``."""
    return best_temperature(reliability_by_temperature(logits, channels, weights))


def _sums(bins: NDArray[np.int64], values: Floats) -> Floats:
    return np.bincount(bins, values, BINS).astype(np.float64)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
