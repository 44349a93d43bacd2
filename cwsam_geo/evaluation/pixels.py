"""Counts the pairs of classes of a map and a reference, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.class_values import Value
from cwsam_geo.core.grid import Window
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.metrics import Scores
from cwsam_geo.errors import LegendError, UsageError
from cwsam_geo.evaluation.class_match import (
    absent_remarks,
    channels_of_values,
    class_values,
    comparable_classes,
)
from cwsam_geo.evaluation.confidence import ConfidenceTally, confidence_remarks
from cwsam_geo.evaluation.overlay import Overlay
from cwsam_geo.evaluation.result import Evaluation, ReferenceKind
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.geolocation import crs_name
from cwsam_geo.io.reference import Reference

_FEW_VALUES = 1 << 14
"""If reference values span less than this, pairs are counted in a table (at most 32 MB), else by
sorting."""

_MOST_VALUES = 100_000
"""A reference with more different values than this is refused, because it is no class raster."""

_CODES = 256
"""Number of possible map codes (uint8)."""


@dataclass(frozen=True)
class _Counts:
    """Pixel counts of the map and the reference, inside the area of interest.

    Attributes:
        pairs: Counts by reference value and map code, where both have a class.
        codes: Counts by map code where the extents of map and reference overlap, with or without a
            reference value.
        mapped: Number of pixels with a class in the map, also outside the overlap.
        referenced: Number of pixels with a value in the reference.
        confidence: Reliability of each pair; None without a raster of confidence.
    """

    pairs: PairTally
    codes: PairTally
    mapped: int
    referenced: int
    confidence: ConfidenceTally | None


def _counted(overlay: Overlay, reference: Reference) -> _Counts:
    pairs, codes = PairTally(reference.label), PairTally(overlay.map.label)
    confidence = ConfidenceTally() if overlay.options.confidence is not None else None
    mapped = referenced = 0
    overlap = _overlap(overlay, reference)
    for part in overlay.parts(overlay.area()):
        # Count the map before cropping: the pixels outside the overlap have no reference.
        mapped += int(part.shown.sum())
        common = part.window.intersect(overlap)
        if common.empty:
            continue
        near = part.crop(common)
        values, labelled = reference.read(common)
        labelled &= near.inside
        referenced += int(labelled.sum())
        both = near.shown & labelled
        pairs.add(values, near.codes, both)
        if confidence is not None and near.confidence is not None:
            confidence.add(values, near.codes, near.confidence, both)
        codes.add(near.codes, near.codes, near.shown)
    return _Counts(pairs, codes, mapped, referenced, confidence)


def evaluate_pixels(overlay: Overlay, reference: Reference) -> Evaluation:
    """Compares the map with a reference that covers an area, pixel by pixel."""
    tallies = _counted(overlay, reference)
    pixels_by_value = tallies.pairs.values()
    if not pixels_by_value:
        raise UsageError(
            f"{overlay.map.label} and {reference.label} have no pixel in common that has a "
            "class in both; check their georeferencing, their nodata values and the area of "
            "interest"
        )
    # Bring the map's codes and the reference's values to the same channels.
    mapping = overlay.options.mapping
    labels = {v: reference.label_of(v) for v in pixels_by_value}
    legend = overlay.legend(tallies.codes.values(), labels.values())
    classes = comparable_classes(legend, mapping)
    pixels_by_label: dict[Value, int] = {labels[v]: n for v, n in pixels_by_value.items()}
    channels = channels_of_values(
        pixels_by_label, legend, classes, mapping, reference.label, "pixels"
    )
    # Confusion matrix (K, K): rows are the reference, columns the map.
    counts = np.zeros((len(classes.legend),) * 2, np.int64)
    for value, code, n in tallies.pairs.pairs():
        channel = channels[labels[value]]
        if channel is not None and channel not in classes.ignored:
            counts[channel, classes.by_code[code]] += n
    both, compared = sum(pixels_by_value.values()), int(counts.sum())
    if not compared:
        raise UsageError(f"{reference.label}: every pixel is ignored; nothing is left to compare")
    reliability = (
        None
        if tallies.confidence is None
        else tallies.confidence.reliability(channels, labels, classes)
    )
    return Evaluation(
        map=overlay.map.label,
        reference=reference.label,
        kind=_kind(reference),
        classes=classes,
        counts=counts,
        scores=Scores.of(counts, classes.ignored),
        coverage={
            "compared": compared,
            "ignored": both - compared,
            "without_reference": tallies.mapped - both,
            "without_map": tallies.referenced - both,
        },
        sample=None,
        remarks=(
            *_remarks(overlay, reference, legend, set(pixels_by_label)),
            *confidence_remarks(reliability, compared, bool(mapping.merge), "pixels"),
        ),
        options=overlay.options,
        reliability=reliability,
        channels=channels,
    )


def _overlap(overlay: Overlay, reference: Reference) -> Window:
    """The window of the map that the reference may cover; refuses an empty one."""
    overlap = reference.window.intersect(overlay.area())
    if overlap.empty:
        where = crs_name(overlay.location.crs) if overlay.location.crs else "its coordinates"
        west, south, east, north = overlay.location.bounds_in(overlay.location.crs)
        raise UsageError(
            f"{reference.label} does not overlap {overlay.map.label}, which spans {west:g} "
            f"{south:g} {east:g} {north:g} in {where}; check that both show the same place"
        )
    return overlap


def _kind(reference: Reference) -> ReferenceKind:
    if not isinstance(reference, ClassRaster):
        return "polygons"
    return "picture" if reference.colors else "raster"


def _remarks(
    overlay: Overlay, reference: Reference, legend: Legend, labels: set[Value]
) -> tuple[str, ...]:
    mapping, label = overlay.options.mapping, reference.label
    return (
        *overlay.map.remarks,
        *reference.remarks,
        *class_values(legend, mapping, label).remarks(labels, reference.legend()),
        *absent_remarks(labels, legend, mapping, label),
    )


class PairTally:
    """Number of pixels of each pair of reference value and map code.

    Args:
        label: Name of the reference in messages.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._counts: dict[int, int] = {}
        self._values: set[int] = set()

    def add(
        self,
        values: NDArray[np.integer],
        codes: NDArray[np.integer],
        counted: NDArray[np.bool_] | None = None,
    ) -> None:
        """Adds the pixels of a window.

        Args:
            values: Values of the reference, any shape.
            codes: Codes of the map, 0 to 255, same shape.
            counted: True where a pixel counts, same shape; None counts all pixels.

        Raises:
            LegendError: The reference has far more different values than a class raster has.
        """
        if counted is not None:
            values, codes = values[counted], codes[counted]
        if not values.size:
            return
        least = int(values.min())
        # One number per pair, shape (N,); subtracting the minimum keeps negative values countable.
        joint = (values.reshape(-1).astype(np.int64) - least) * _CODES + codes.reshape(-1)
        if int(values.max()) - least < _FEW_VALUES:
            sums = np.bincount(joint)
            keys = np.flatnonzero(sums)
            numbers = sums[keys]
        else:
            # Packed colours, for example, span 2**24 values: sorting needs less memory.
            keys, numbers = np.unique(joint, return_counts=True)
        for key, number in zip((keys + least * _CODES).tolist(), numbers.tolist(), strict=True):
            self._counts[key] = self._counts.get(key, 0) + number
        self._values.update(((keys // _CODES) + least).tolist())
        if len(self._values) > _MOST_VALUES:
            raise LegendError(
                f"{self._label}: has more than {_MOST_VALUES} different values or colours, so "
                "it shows no classes; export the labels losslessly (PNG, GeoTIFF)"
            )

    def pairs(self) -> Iterator[tuple[int, int, int]]:
        """Yields reference value, map code and number of pixels, ordered by value and code."""
        for key, count in sorted(self._counts.items()):
            yield key // _CODES, key % _CODES, count

    def values(self) -> dict[int, int]:
        """Number of pixels of each reference value."""
        sums: dict[int, int] = {}
        for value, _, count in self.pairs():
            sums[value] = sums.get(value, 0) + count
        return sums
