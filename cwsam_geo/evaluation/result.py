"""The result of the comparison of a map with a reference."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cwsam_geo._version import __version__
from cwsam_geo.core.class_values import Value
from cwsam_geo.core.metrics import AreaEstimates, Estimates, Scores, number_or_none
from cwsam_geo.core.reliability import Reliability
from cwsam_geo.core.score_table import class_head, class_rows, score_report
from cwsam_geo.evaluation.class_match import ComparedClasses
from cwsam_geo.evaluation.options import EvaluateOptions

ReferenceKind = Literal["raster", "picture", "polygons", "points"]
"""What the reference is; a picture is an RGB raster in the classes' colours."""

DEFINITIONS = {
    "matrix": "rows are the reference, columns the map",
    "iou": "TP / (TP + FP + FN)",
    "precision": "TP / (TP + FP), the user's accuracy",
    "recall": "TP / (TP + FN), the producer's accuracy",
    "f1": "2 TP / (2 TP + FP + FN)",
    "means": "over the classes that are in the reference or in the map where the two were "
    "compared; a class absent from both does not count, a class absent from one counts as 0",
    "ignored": "pixels whose reference is an ignored class or value are left out; pixels of "
    "another class that the map gives to an ignored class are errors",
    "coverage": "counts on the map's grid, inside the area of interest: without_reference has a "
    "class in the map only, without_map in the reference only",
    "fwiou": "IoU weighted by the classes' frequency in the reference",
    "reliability": "confidence and accuracy of the compared pixels or points, in bins of "
    "confidence; the expected calibration error is the mean gap between the two, weighted by the "
    "pixels of each bin (Naeini et al. 2015); points are weighted by the area that they stand for",
    "sample": "stratified estimators of Olofsson et al. (2014), doi:10.1016/j.rse.2014.02.015, "
    "strata are the classes of the map, unless settings name a stratum column; the mapped area is "
    "then divided by the sizes given; the estimators hold if the points were drawn at random, or "
    "on a grid, within the strata or over the whole map; ci95 is half the interval's width; strata "
    "without points (share_without_points) are part of mapped_area, but of no score or estimate",
}
"""How each figure of the report is defined; printed at the end of the JSON report."""


@dataclass(frozen=True)
class Stratum:
    """A stratum of a sample of points: a class of the map, or one of ``SampleResult.column``.

    Attributes:
        area: Area of the stratum in the map, in ``SampleResult.unit``.
        points: Number of sample points in the stratum.
    """

    name: str
    area: float
    points: int


@dataclass(frozen=True)
class SampleResult:
    """Accuracy and areas estimated from a sample of points.

    Attributes:
        estimates: Area-adjusted accuracy and area proportions.
        mapped: Area of each class in the map, shape (K,), in ``unit``. It includes strata without
            points.
        unit: ``m2``, or ``pixels`` where the map has no CRS.
        strata: The classes of the map, before merging, or the strata of ``column``.
        column: Column of the points that gives their strata; None where these are the map's
            classes.
    """

    estimates: AreaEstimates
    mapped: NDArray[np.float64]
    unit: str
    strata: tuple[Stratum, ...]
    column: str | None = None

    @property
    def total(self) -> float:
        """Area of the strata with points, to which the estimates refer, in ``unit``."""
        return sum(s.area for s in self.strata if s.points)

    @property
    def unsampled(self) -> float:
        """Area of the strata without points, which no estimate covers, in ``unit``."""
        return sum(s.area for s in self.strata if not s.points)

    @property
    def share_without_points(self) -> float:
        """Share of the mapped area that no estimate covers, 0 to 1."""
        return self.unsampled / (self.unsampled + self.total)


@dataclass(frozen=True)
class Evaluation:
    """The comparison of a map with a reference.

    Attributes:
        map: The map's path, for messages.
        reference: The reference's path, for messages.
        kind: Type of the reference.
        classes: The classes that were compared.
        counts: Confusion matrix in pixels or points, shape (K, K), int64; rows are the reference,
            columns the map.
        scores: Scores of ``counts`` or, for points, of the estimated area proportions.
        coverage: Number of pixels or points that were ``compared``, were ``ignored``, or have no
            counterpart (``without_reference``, ``without_map``).
        sample: Estimates from a sample of points; None for other references.
        remarks: Warnings for the user, a sentence each.
        reliability: Confidence and accuracy of what was compared; None without confidence.
        channels: Channel of each value of the reference; None for a value that does not count.
    """

    map: str
    reference: str
    kind: ReferenceKind
    classes: ComparedClasses
    counts: NDArray[np.int64]
    scores: Scores
    coverage: Mapping[str, int]
    sample: SampleResult | None
    remarks: tuple[str, ...]
    options: EvaluateOptions
    channels: Mapping[Value, int | None]
    reliability: Reliability | None = None

    @property
    def unit(self) -> str:
        """Unit of ``counts``: ``pixels`` or ``points``."""
        return "points" if self.kind == "points" else "pixels"

    def _repr_html_(self) -> str:
        lines = [
            "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in row)
            for kind, row in [
                ("th", class_head()),
                *(("td", row) for row in class_rows(self.to_dict()["classes"])),
            ]
        ]
        title = html.escape(f"{self.map} against {self.reference}")
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><caption>{title}</caption>{body}</table>"

    def to_dict(self) -> dict[str, Any]:
        """The whole report as plain values, for JSON; undefined scores are None."""
        names = self.classes.legend.names
        options = self.options
        report: dict[str, Any] = {
            "cwsam_geo": __version__,
            "map": self.map,
            "reference": self.reference,
            "reference_kind": self.kind,
            "settings": {
                "map": dict(options.mapping.map),
                "merge": dict(options.mapping.merge),
                "ignore": list(options.mapping.ignore),
                "aoi": os.fspath(options.aoi) if options.aoi else None,
                "column": options.layer.column,
                "layer": options.layer.layer,
                "stratum": options.layer.stratum,
                "stratum_sizes": dict(options.stratum_sizes),
                "confidence": os.fspath(options.confidence) if options.confidence else None,
            },
            "coverage": dict(self.coverage),
            **score_report(self.scores, self.classes.legend, self.counts),
            "matrix": {"unit": self.unit, "classes": names, "counts": self.counts.tolist()},
        }
        if self.reliability is not None:
            report["reliability"] = self.reliability.to_dict()
        if self.sample is not None:
            report["sample"] = self._sample(self.sample)
        return report | {"remarks": list(self.remarks), "definitions": DEFINITIONS}

    def _sample(self, sample: SampleResult) -> dict[str, Any]:
        estimates, total = sample.estimates, sample.total
        # The estimators give proportions of the sampled area; the report gives areas as well.
        areas = Estimates(estimates.area.value * total, estimates.area.error * total)
        return {
            "area_unit": sample.unit,
            "area": total,
            "area_of_strata_without_points": sample.unsampled,
            "share_without_points": sample.share_without_points,
            "overall_accuracy": _estimate(estimates.overall, ()),
            "classes": [
                {
                    "name": name,
                    "users_accuracy": _estimate(estimates.users, i),
                    "producers_accuracy": _estimate(estimates.producers, i),
                    "area_proportion": _estimate(estimates.area, i),
                    "area": _estimate(areas, i),
                    "mapped_area": float(sample.mapped[i]),
                }
                for i, name in enumerate(self.classes.legend.names)
            ],
            "strata": [{"name": s.name, "area": s.area, "points": s.points} for s in sample.strata],
            "proportions": estimates.matrix.tolist(),
        }


def _estimate(estimates: Estimates, index: int | tuple[()]) -> dict[str, float | None]:
    return {
        "value": number_or_none(float(estimates.value[index])),
        "standard_error": number_or_none(float(estimates.error[index])),
        "ci95": number_or_none(float(estimates.margin[index])),
    }
