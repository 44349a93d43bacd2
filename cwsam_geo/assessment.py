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

    The comparison is made at the map's pixels, window by window. A reference raster on another
    grid or in another CRS is read by nearest neighbour; polygons are rasterised. A pixel counts
    where both have a class. Points are a sample: the map's classes are its strata, and accuracy
    and areas are estimated after Olofsson et al. (2014).

    Args:
        map_path: Class raster with codes 0 to 254; 255 and the declared nodata are no data. Its
            classes come from its ``LEGEND`` tag, or else its palette.
        reference_path: Class raster, RGB picture in the classes' colours, or vector file of
            polygons or points.
        options: How to compare.
        progress: Called as windows are done.

    Raises:
        UsageError: The two cannot be laid over each other, or do not overlap.
        LegendError: A code has no class: codes and counts are listed.
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
    """What was met where.

    Attributes:
        pairs: Values of the reference by codes of the map, where both have one.
        codes: Codes of the map around the reference.
        mapped: Pixels of the whole map with a class, inside the area of interest.
        known: Pixels of the reference with a value, likewise.
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
    found = _met(comparison, reference)
    values_met = found.pairs.values()
    if not values_met:
        raise UsageError(
            f"{comparison.map.label} and {reference.label} have no pixel in common that has a "
            "class in both; check their places, their nodata values and the area of interest"
        )
    wishes = comparison.options.wishes
    labels = {v: reference.label_of(v) for v in values_met}
    legend = comparison.legend(found.codes.values(), labels.values())
    classes = comparable_classes(legend, wishes)
    met: dict[Value, int] = {labels[v]: n for v, n in values_met.items()}
    channels = channels_of_values(met, legend, classes, wishes, reference.label)
    counts = np.zeros((len(classes.legend),) * 2, np.int64)
    for value, code, n in found.pairs.pairs():
        channel = channels[labels[value]]
        if channel is not None and channel not in classes.ignored:
            counts[channel, classes.by_code[code]] += n
    both, compared = sum(values_met.values()), int(counts.sum())
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
            "without_reference": found.mapped - both,
            "without_map": found.known - both,
        },
        sample=None,
        remarks=_remarks(comparison, reference, legend, set(met)),
        options=comparison.options,
    )


def _overlap(comparison: Comparison, reference: Reference) -> Window:
    """Pixels of the map where the reference may be.

    Raises:
        UsageError: There are none.
    """
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
    comparison: Comparison, reference: Reference, legend: Legend, met: set[Value]
) -> tuple[str, ...]:
    remarks = reference.remarks
    if isinstance(reference, ClassRaster) and not reference.colors:
        other = reference.legend()
        said = comparison.options.wishes.map
        taken = {v for v in met if isinstance(v, int) and str(v) not in said}
        if other is not None:
            remarks += disagreements(legend, other, reference.label, taken)
    remarks += absent_names(met, legend, comparison.options.wishes, reference.label)
    return remarks
