"""Area-adjusted accuracy and areas of a map, estimated from a sample of points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from cwsam_geo.core.class_values import Value
from cwsam_geo.core.legend import NODATA
from cwsam_geo.core.metrics import AreaEstimates, Estimates, Scores, stratified_estimates
from cwsam_geo.core.reliability import Reliability
from cwsam_geo.errors import UsageError
from cwsam_geo.evaluation.class_match import (
    ComparedClasses,
    absent_remarks,
    channels_of_values,
    class_values,
    comparable_classes,
)
from cwsam_geo.evaluation.confidence import confidence_remarks
from cwsam_geo.evaluation.overlay import Overlay
from cwsam_geo.evaluation.result import Evaluation, SampleResult, Stratum
from cwsam_geo.evaluation.strata import (
    SampleStrata,
    given_strata,
    map_strata,
    stratum_remarks,
)
from cwsam_geo.io.pixel_areas import PixelAreas
from cwsam_geo.io.vector_file import Features


@dataclass(frozen=True)
class _Census:
    """Totals of the whole map, or of the area of interest, and the map's codes at the points.

    Attributes:
        pixels: Number of pixels of each code that occurs.
        areas: Area of each code that occurs, in ``unit``.
        unit: ``m2``, or ``pixels`` where the map has no CRS.
        inside: True for points inside the map and the area of interest, shape (N,), bool.
        at_points: Code of the map at each point, shape (N,), uint8; 255 where it has no class.
        confidence: The map's confidence at each point, shape (N,); NaN where none is stated.
    """

    pixels: dict[int, int]
    areas: dict[int, float]
    unit: str
    inside: NDArray[np.bool_]
    at_points: NDArray[np.uint8]
    confidence: NDArray[np.float64]


def evaluate_points(overlay: Overlay, features: Features) -> Evaluation:
    """Compares a map with a sample of points.

    The strata are the map's classes, unless the options name a column with others.

    Points with an ignored class or value stay in the sample: they show that a part of their
    stratum belongs to none of the classes that count.

    Args:
        overlay: The opened map. All of it, or all of the area of interest, is read to measure
            the areas of the strata.
        features: The points, in pixel coordinates of the map.

    Raises:
        UsageError: No point lies on a class of the map, all points are ignored, or a point has
            no stratum or a stratum no size.
        LegendError: The class of a point is unknown, or the map has codes that are missing from
            its legend.
    """
    census = _census(overlay, features)
    on_map = census.at_points != NODATA
    if not on_map.any():
        raise UsageError(
            f"{features.label}: none of its points lies on a class of {overlay.map.label}; "
            "check that both show the same place"
        )
    mapping = overlay.options.mapping
    labels = [features.names[v] for v in features.values[on_map]]
    points_by_label: dict[Value, int] = {}
    for label in labels:
        points_by_label[label] = points_by_label.get(label, 0) + 1
    legend = overlay.legend(census.pixels, points_by_label)
    classes = comparable_classes(legend, mapping)
    channels = channels_of_values(
        points_by_label, legend, classes, mapping, features.label, "points"
    )
    k = len(classes.legend)
    codes = census.at_points[on_map]
    options = overlay.options
    by_column = options.layer.stratum is not None
    if by_column:
        total = sum(census.areas.values())
        strata = given_strata(features, on_map, options.stratum_sizes, total)
    else:
        strata = map_strata(legend, census.areas, codes)
    # Points by stratum, reference class and mapped class, (H, K + 1, K + 1). Class K is extra: it
    # takes the points whose reference value is ignored.
    points = np.zeros((len(strata.names), k + 1, k + 1), np.int64)
    references = np.array([k if channels[v] is None else channels[v] for v in labels])
    mapped = np.array([classes.by_code[code] for code in codes.tolist()])
    np.add.at(points, (strata.at_points, references, mapped), 1)
    counts = points.sum(0)
    # Ignored reference classes do not count in the matrix; the estimators need them in points.
    counts[[k, *classes.ignored]] = 0
    if not counts.any():
        raise UsageError(f"{features.label}: every point is ignored; nothing is left to compare")
    sample, matrix = _estimated(classes, points, strata, census)
    reliability = None
    if options.confidence is not None:
        counted = ~np.isin(references, [k, *classes.ignored])
        # A point stands for its share of its stratum's area, as in the estimates of accuracy.
        weights = (strata.areas / np.maximum(points.sum((1, 2)), 1))[strata.at_points]
        stated = census.confidence[on_map]
        counted &= np.isfinite(stated)
        right = references == mapped
        reliability = Reliability.of(stated[counted], right[counted], weights[counted])
    return Evaluation(
        map=overlay.map.label,
        reference=features.label,
        kind="points",
        classes=classes,
        counts=counts[:k, :k],
        scores=Scores.of(matrix, classes.ignored),
        coverage={
            "compared": int(counts.sum()),
            "ignored": int(on_map.sum() - counts.sum()),
            "without_map": int((census.inside & ~on_map).sum()),
        },
        sample=sample,
        remarks=(
            *overlay.map.remarks,
            *_remarks(features, sample),
            *stratum_remarks(features, on_map, codes, by_column),
            *class_values(legend, mapping, features.label).remarks(points_by_label, None),
            *absent_remarks(points_by_label, legend, mapping, features.label),
            *confidence_remarks(reliability, int(counts.sum()), bool(mapping.merge), "points"),
        ),
        options=overlay.options,
        reliability=reliability,
        channels=channels,
    )


def _census(overlay: Overlay, features: Features) -> _Census:
    # Pixel that each point lies in, shape (N,).
    cols = np.floor(shapely.get_x(features.shapes)).astype(np.int64)
    rows = np.floor(shapely.get_y(features.shapes)).astype(np.int64)
    at_points = np.full(len(cols), NODATA, np.uint8)
    inside = np.zeros(len(cols), np.bool_)
    confidence = np.full(len(cols), np.nan)
    pixel_areas = PixelAreas(overlay.location)
    pixels, areas = np.zeros(256, np.int64), np.zeros(256)
    for part in overlay.parts(overlay.area()):
        w = part.window
        here = (rows >= w.row) & (rows < w.bottom) & (cols >= w.col) & (cols < w.right)
        at = rows[here] - w.row, cols[here] - w.col
        inside[here] = part.inside[at]
        at_points[here] = np.where(part.shown[at], part.codes[at], NODATA)
        if part.confidence is not None:
            confidence[here] = part.confidence[at]
        codes = part.codes[part.shown]
        pixels += np.bincount(codes, minlength=256)
        areas += np.bincount(codes, pixel_areas.of(w)[part.shown], minlength=256)
    occurring = np.flatnonzero(pixels).tolist()
    return _Census(
        pixels={c: int(pixels[c]) for c in occurring},
        areas={c: float(areas[c]) for c in occurring},
        unit=pixel_areas.unit,
        inside=inside,
        at_points=at_points,
        confidence=confidence,
    )


def _estimated(
    classes: ComparedClasses, points: NDArray[np.int64], strata: SampleStrata, census: _Census
) -> tuple[SampleResult, NDArray[np.float64]]:
    k = len(classes.legend)
    per_stratum = points.sum((1, 2))  # (H,)
    # The estimators need at least one point in each stratum; strata without points are left out.
    sampled = per_stratum > 0
    # Shapes below are (K + 1,) and (K + 1, K + 1); the extra class is cut off from the result.
    estimates = stratified_estimates(points[sampled], strata.areas[sampled], (k, *classes.ignored))
    mapped = np.zeros(k)
    for code, area in census.areas.items():
        mapped[classes.by_code[code]] += area
    matrix = estimates.matrix[:k, :k]
    result = SampleResult(
        estimates=AreaEstimates(
            matrix=matrix,
            overall=estimates.overall,
            users=_first(estimates.users, k),
            producers=_first(estimates.producers, k),
            area=_first(estimates.area, k),
        ),
        mapped=mapped,
        unit=census.unit,
        strata=tuple(
            Stratum(name, float(area), int(n))
            for name, area, n in zip(strata.names, strata.areas, per_stratum, strict=True)
        ),
        column=strata.column,
    )
    return result, matrix


def _first(estimates: Estimates, k: int) -> Estimates:
    return Estimates(estimates.value[:k], estimates.error[:k])


def _remarks(features: Features, sample: SampleResult) -> tuple[str, ...]:
    remarks = list(features.remarks)
    place = "on" if sample.column is None else "in the stratum"
    unsampled = [s.name for s in sample.strata if not s.points]
    if unsampled:
        remarks.append(
            f"no point lies {place} {', '.join(unsampled)} ({sample.share_without_points:.2%} of "
            "the map): the estimates do not cover that part; add points there"
        )
    single = [s.name for s in sample.strata if s.points == 1]
    if single:
        remarks.append(
            f"only one point lies {place} {', '.join(single)}: estimates that depend on it have no "
            "confidence interval; use at least two points per stratum, better 50 or more"
        )
    if sample.unit == "pixels":
        remarks.append("the map has no CRS: areas are in pixels")
    return tuple(remarks)
