"""Compares a map's confidence with how often the map is right."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.class_values import Value
from cwsam_geo.core.reliability import BINS, Reliability
from cwsam_geo.evaluation.class_match import ComparedClasses

_DENSE = 1 << 22
"""Counters that are allocated for the pairs of a window before they are sorted instead."""

_CODES = 256
"""Number of possible map codes (uint8)."""


class ConfidenceTally:
    """Reliability of the pixels of each pair of reference value and map code.

    Which pairs are right is known only after all pixels are read: classes are matched then.
    """

    def __init__(self) -> None:
        self._pairs: dict[tuple[int, int], Reliability] = {}

    def add(
        self,
        values: NDArray[np.integer],
        codes: NDArray[np.uint8],
        confidence: NDArray[np.float64],
        counted: NDArray[np.bool_],
    ) -> None:
        """Adds the pixels of a window.

        Args:
            values: Values of the reference, any shape.
            codes: Codes of the map, same shape.
            confidence: Probability of the map's class, same shape; NaN where none is stated, so
                that the pixel does not count.
            counted: True where a pixel counts, same shape.
        """
        counted = counted & np.isfinite(confidence)
        if not counted.any():
            return
        values, stated = values[counted].astype(np.int64), confidence[counted]
        least = int(values.min())
        # One number per pair, shape (N,), then its position in ``keys``.
        joint = (values - least) * _CODES + codes[counted]
        if int(joint.max()) < _DENSE:
            keys = np.flatnonzero(np.bincount(joint))
            places = np.zeros(int(joint.max()) + 1, np.int64)
            places[keys] = np.arange(len(keys))
            place = places[joint]
        else:
            keys, place = np.unique(joint, return_inverse=True)
        # Pixels of one pair follow each other after this stable sort.
        order = np.argsort(place, kind="stable")
        ends = np.cumsum(np.bincount(place, minlength=len(keys)))
        for key, part in zip(keys.tolist(), np.split(stated[order], ends[:-1]), strict=True):
            pair = key // _CODES + least, key % _CODES
            # Whether the class is right is settled in ``reliability``.
            own = Reliability.of(part, np.zeros(len(part)))
            known = self._pairs.get(pair)
            self._pairs[pair] = own if known is None else known + own

    def reliability(
        self,
        channels: Mapping[Value, int | None],
        labels: Mapping[int, Value],
        classes: ComparedClasses,
    ) -> Reliability:
        """Reliability of all pixels that count, once the classes are matched.

        Args:
            channels: Channel of each reference label; None for one that does not count.
            labels: Label of each reference value.
            classes: The classes that are compared.
        """
        total = Reliability.of(np.zeros(0), np.zeros(0))
        for (value, code), pair in self._pairs.items():
            channel = channels[labels[value]]
            if channel is None or channel in classes.ignored:
                continue
            right = pair.weights if channel == classes.by_code[code] else np.zeros(BINS)
            total = total + Reliability(pair.counts, pair.weights, right, pair.confidence)
        return total


def confidence_remarks(
    reliability: Reliability | None, compared: int, merged: bool, unit: str
) -> tuple[str, ...]:
    """Remarks on pixels without a confidence, and on what merging does to it.

    Args:
        reliability: Confidence and accuracy of what was compared; None without confidence.
        compared: Number of pixels or points that were compared.
        merged: Whether classes of the map were merged.
        unit: ``pixels`` or ``points``.
    """
    if reliability is None:
        return ()
    remarks = []
    without = compared - int(reliability.counts.sum())
    if without:
        remarks.append(
            f"--confidence: {without} of {compared} compared {unit} have no confidence and do not "
            "count in the reliability"
        )
    if merged:
        remarks.append(
            "--confidence: it is the probability of the class before --merge, so it says less of "
            "merged classes than it could: they look less certain than they are"
        )
    return tuple(remarks)
