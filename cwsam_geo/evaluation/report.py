"""Reports of an evaluation as text: JSON, CSV, and a table for the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cwsam_geo.core.reliability import reliability_text
from cwsam_geo.core.score_table import (
    COUNTS,
    SCORES,
    class_head,
    class_rows,
    overall_rows,
    score_text,
)
from cwsam_geo.evaluation.result import Evaluation

COVERAGE = (
    ("compared", "compared"),
    ("ignored", "ignored"),
    ("without_reference", "in the map only"),
    ("without_map", "in the reference only"),
)
"""Counts of an evaluation's coverage: their names in JSON and in print."""


def json_report(evaluation: Evaluation) -> str:
    """The report as one JSON object."""
    return json.dumps(evaluation.to_dict(), indent=2, ensure_ascii=False) + "\n"


def csv_report(evaluation: Evaluation) -> str:
    """Scores, counts and, for points, estimates of each class as CSV; undefined values are empty.

    The last columns are the class's row of the confusion matrix: its pixels or points in the
    reference, by class of the map.
    """
    report = evaluation.to_dict()
    rows = []
    for i, entry in enumerate(report["classes"]):
        row = {key: entry[key] for key in ("code", "name", "ignored", *SCORES, *COUNTS)}
        if "sample" in report:
            estimates = report["sample"]["classes"][i]
            row["mapped_area"] = estimates["mapped_area"]
            for key in ("users_accuracy", "producers_accuracy", "area"):
                row[key], row[f"{key}_ci95"] = estimates[key]["value"], estimates[key]["ci95"]
        matrix = zip(report["matrix"]["classes"], report["matrix"]["counts"][i], strict=True)
        rows.append(row | {f"mapped_as_{name}": count for name, count in matrix})
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def text_report(report: Mapping[str, Any]) -> str:
    """A report (the result of ``Evaluation.to_dict``) as tables for the terminal."""
    # A large legend has many classes that occur nowhere; only the files list them.
    occurring = [c for c in report["classes"] if c["support"] or c["mapped"] or c["ignored"]]
    lines = [*_columns([class_head(), *class_rows(occurring)]), "", *_columns(overall_rows(report))]
    if "sample" in report:
        lines += ["", *_columns(sample_rows(report))]
        lines.append(
            f"areas in {area_unit(report['sample'])}; ± is half a 95 % confidence interval"
        )
        lines.append(reach(report["sample"]))
    if "reliability" in report:
        lines += ["", reliability_text(report["reliability"])]
    parts = [f"{report['coverage'][k]} {name}" for k, name in COVERAGE if k in report["coverage"]]
    return "\n".join([*lines, "", f"{report['matrix']['unit']}: {', '.join(parts)}"])


def sample_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Head and rows of the table of area-adjusted estimates."""
    sample = report["sample"]
    head = ["class", "user's accuracy", "producer's accuracy", "area", "mapped area"]
    rows = [
        [
            c["name"],
            _estimate(c["users_accuracy"], score_text),
            _estimate(c["producers_accuracy"], score_text),
            _estimate(c["area"], lambda v: area_text(v, sample)),
            area_text(c["mapped_area"], sample),
        ]
        for c in sample["classes"]
        if c["mapped_area"] or c["area"]["value"]
    ]
    overall = ["overall accuracy", _estimate(sample["overall_accuracy"], score_text), "", "", ""]
    return [head, *rows, overall]


def reach(sample: Mapping[str, Any]) -> str:
    """A sentence on the part of the map that the estimates cover."""
    unsampled = [s["name"] for s in sample["strata"] if not s["points"]]
    if not unsampled:
        return "all scores are estimates for the whole area"
    return (
        f"scores and estimated areas do not cover {100 * sample['share_without_points']:.3g} % of "
        f"the mapped area, where no point lies: {', '.join(unsampled)}; mapped areas are complete"
    )


def area_unit(sample: Mapping[str, Any]) -> str:
    """Unit in which areas of a sample are printed."""
    return "ha" if sample["area_unit"] == "m2" else "pixels"


def area_text(value: float | None, sample: Mapping[str, Any]) -> str:
    """An area of a sample in ``area_unit``; ``-`` if it is undefined."""
    if value is None:
        return "-"
    # Square metres are printed as hectares; see area_unit.
    shown = value / 10_000 if sample["area_unit"] == "m2" else value
    return f"{shown:,.0f}" if shown >= 1000 else f"{shown:.4g}"


def _estimate(estimate: dict[str, float | None], form: Any) -> str:
    if estimate["value"] is None:
        return "-"
    margin = "?" if estimate["ci95"] is None else form(estimate["ci95"])
    return f"{form(estimate['value'])} ± {margin}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned columns: the first column to the left, the others to the right."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:], widths[1:], strict=True))]
        ).rstrip()
        for r in rows
    ]
