"""How good a map is: the function behind ``cwsam-geo evaluate``."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from cwsam_geo.comparison import Comparison, Progress
from cwsam_geo.correspondence import (
    Value,
    absent_names,
    channels_of_values,
    comparable_classes,
    disagreements,
)
from cwsam_geo.errors import UsageError
from cwsam_geo.evaluation import EvaluateOptions, Evaluation, Kind
from cwsam_geo.grid import Window
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.features import Features
from cwsam_geo.io.geolocation import name_of
from cwsam_geo.io.reference import Reference
from cwsam_geo.legend import Legend
from cwsam_geo.metrics import Scores
from cwsam_geo.point_sample import evaluate_points
from cwsam_geo.tally import PairTally


def evaluate(
    map_path: str | os.PathLike[str],
    reference_path: str | os.PathLike[str],
    options: EvaluateOptions | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compares a class raster with a reference.

    The comparison runs on the map's grid, window by window. A reference raster on another grid or
    in another CRS is resampled by nearest neighbour; polygons are rasterised. A pixel counts where
    both the map and the reference have a class. Points are treated as a stratified sample: the
    map's classes are the strata, and accuracy and areas are estimated after Olofsson et al. (2014,
    doi:10.1016/j.rse.2014.02.015).

    Args:
        map_path: Class raster with codes 0 to 254; 255 and the declared nodata value are nodata.
            The classes come from its ``LEGEND`` tag or, without that tag, from its palette.
        reference_path: Class raster, RGB picture in the classes' colours, or vector file of
            polygons or points.
        options: Matching of classes, area of interest and legend.
        progress: Called after each window with the pixels done and the pixels in total.

    Raises:
        UsageError: The two files cannot be aligned, or do not overlap.
        LegendError: A code has no class. The message lists such codes with their counts.
        SceneError: A file cannot be read.
    """
    comparison = Comparison(map_path, reference_path, options or EvaluateOptions(), progress)
    try:
        if isinstance(comparison.reference, Features):
            return evaluate_points(comparison, comparison.reference)
        assert comparison.reference is not None
        return _evaluate_pixels(comparison, comparison.reference)
    finally:
        comparison.close()


@dataclass(frozen=True)
class _Met:
    """Pixel counts of the map and the reference, inside the area of interest.

    Attributes:
        pairs: Counts by reference value and map code, where both have a class.
        codes: Counts by map code where the extents of map and reference overlap, with or without a
            reference value.
        mapped: Number of pixels with a class in the map, also outside the overlap.
        known: Number of pixels with a value in the reference.
    """

    pairs: PairTally
    codes: PairTally
    mapped: int
    known: int


def _met(comparison: Comparison, reference: Reference) -> _Met:
    pairs, codes = PairTally(reference.label), PairTally(comparison.map.label)
    mapped = known = 0
    overlap = _overlap(comparison, reference)
    for part in comparison.parts(comparison.area()):
        # Count the map before cropping: the pixels outside the overlap have no reference.
        mapped += int(part.shown.sum())
        common = part.window.intersect(overlap)
        if common.empty:
            continue
        near = part.crop(common)
        values, labelled = reference.read(common)
        labelled &= near.inside
        known += int(labelled.sum())
        pairs.add(values, near.codes, near.shown & labelled)
        codes.add(near.codes, near.codes, near.shown)
    return _Met(pairs, codes, mapped, known)


def _evaluate_pixels(comparison: Comparison, reference: Reference) -> Evaluation:
    tallies = _met(comparison, reference)
    pixels_by_value = tallies.pairs.values()
    if not pixels_by_value:
        raise UsageError(
            f"{comparison.map.label} and {reference.label} have no pixel in common that has a "
            "class in both; check their georeferencing, their nodata values and the area of "
            "interest"
        )
    # Bring the map's codes and the reference's values to the same channels.
    wishes = comparison.options.wishes
    labels = {v: reference.label_of(v) for v in pixels_by_value}
    legend = comparison.legend(tallies.codes.values(), labels.values())
    classes = comparable_classes(legend, wishes)
    pixels_by_label: dict[Value, int] = {labels[v]: n for v, n in pixels_by_value.items()}
    channels = channels_of_values(pixels_by_label, legend, classes, wishes, reference.label)
    # Confusion matrix (K, K): rows are the reference, columns the map.
    counts = np.zeros((len(classes.legend),) * 2, np.int64)
    for value, code, n in tallies.pairs.pairs():
        channel = channels[labels[value]]
        if channel is not None and channel not in classes.ignored:
            counts[channel, classes.by_code[code]] += n
    both, compared = sum(pixels_by_value.values()), int(counts.sum())
    if not compared:
        raise UsageError(f"{reference.label}: every pixel is ignored; nothing is left to compare")
    return Evaluation(
        map=comparison.map.label,
        reference=reference.label,
        kind=_kind(reference),
        classes=classes,
        counts=counts,
        scores=Scores.of(counts, classes.ignored),
        coverage={
            "compared": compared,
            "ignored": both - compared,
            "without_reference": tallies.mapped - both,
            "without_map": tallies.known - both,
        },
        sample=None,
        remarks=_remarks(comparison, reference, legend, set(pixels_by_label)),
        options=comparison.options,
    )


def _overlap(comparison: Comparison, reference: Reference) -> Window:
    """The window of the map that the reference may cover; refuses an empty one."""
    overlap = reference.window.intersect(comparison.area())
    if overlap.empty:
        where = name_of(comparison.location.crs) if comparison.location.crs else "its coordinates"
        west, south, east, north = comparison.location.bounds_in(comparison.location.crs)
        raise UsageError(
            f"{reference.label} does not overlap {comparison.map.label}, which spans {west:g} "
            f"{south:g} {east:g} {north:g} in {where}; check that both show the same place"
        )
    return overlap


def _kind(reference: Reference) -> Kind:
    if not isinstance(reference, ClassRaster):
        return "polygons"
    return "picture" if reference.colors else "raster"


def _remarks(
    comparison: Comparison, reference: Reference, legend: Legend, labels: set[Value]
) -> tuple[str, ...]:
    remarks = reference.remarks
    if isinstance(reference, ClassRaster) and not reference.colors:
        other = reference.legend()
        mapping = comparison.options.wishes.map
        # Only codes that --map leaves alone are matched as they are, so only their names matter.
        unmapped_codes = {v for v in labels if isinstance(v, int) and str(v) not in mapping}
        if other is not None:
            remarks += disagreements(legend, other, reference.label, unmapped_codes)
    remarks += absent_names(labels, legend, comparison.options.wishes, reference.label)
    return remarks
