"""Reports of an evaluation: JSON, CSV, a page, a picture, and a table for the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cwsam_geo.atomic import atomic_output
from cwsam_geo.core.reliability import reliability_text
from cwsam_geo.core.score_table import (
    COUNTS,
    SCORES,
    class_head,
    class_rows,
    overall_rows,
    score_text,
)
from cwsam_geo.evaluation.options import EvaluateOutputs
from cwsam_geo.evaluation.result import Evaluation
from cwsam_geo.io.figures import write_confusion_png

_COVERAGE = (
    ("compared", "compared"),
    ("ignored", "ignored"),
    ("without_reference", "in the map only"),
    ("without_map", "in the reference only"),
)
# The style is part of the page, so that the page needs no other file.
_STYLE = """
:root { color-scheme: light dark; --line: #8885; --ink: 31, 90, 160 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; margin: .5rem 0 }
th, td { padding: .25rem .6rem; border: 1px solid var(--line); text-align: right }
th { font-weight: 600 } td:first-child, th:first-child { text-align: left }
.scroll { overflow-x: auto } .scores { display: flex; flex-wrap: wrap; gap: .6rem; padding: 0 }
.scores li { list-style: none; border: 1px solid var(--line); border-radius: .5rem;
  padding: .4rem .9rem } .scores b { display: block; font-size: 1.35rem }
.swatch { display: inline-block; width: .9em; height: .9em; border: 1px solid #8888;
  margin-right: .45em; vertical-align: -.08em }
.note { border-left: 3px solid #d90; padding-left: .7rem } small { opacity: .75 }
"""


def write_reports(evaluation: Evaluation, outputs: EvaluateOutputs) -> None:
    """Writes the requested reports.

    Raises:
        UsageError: A file exists and is not to be replaced, or matplotlib is not installed.
        OutputError: A file cannot be written.
    """
    for path, text in (
        (outputs.json, json_report),
        (outputs.csv, csv_report),
        (outputs.html, html_report),
    ):
        if path is not None:
            with atomic_output(path, outputs.overwrite) as temporary:
                temporary.write_text(text(evaluation), encoding="utf-8", newline="")
    if outputs.png is not None:
        scores, names = evaluation.scores, evaluation.classes.legend.names
        title = f"mIoU {scores.miou:.4f}, overall accuracy {scores.overall_accuracy:.4f}"
        write_confusion_png(outputs.png, names, scores.matrix, title, outputs.overwrite)


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
        lines += ["", *_columns(_sample_rows(report))]
        lines.append(f"areas in {_unit(report['sample'])}; ± is half a 95 % confidence interval")
        lines.append(_reach(report["sample"]))
    if "reliability" in report:
        lines += ["", reliability_text(report["reliability"])]
    parts = [f"{report['coverage'][k]} {name}" for k, name in _COVERAGE if k in report["coverage"]]
    return "\n".join([*lines, "", f"{report['matrix']['unit']}: {', '.join(parts)}"])


def html_report(evaluation: Evaluation) -> str:
    """The report as an HTML page."""
    report = evaluation.to_dict()
    title = f"{Path(evaluation.map).name} against {Path(evaluation.reference).name}"
    overall = "".join(f"<li><b>{value}</b>{name}</li>" for name, value in overall_rows(report))
    counted = ", ".join(escape(n) for n in report["overall"]["classes_in_means"])
    remarks = "".join(f'<p class="note">{escape(r)}</p>' for r in report["remarks"])
    coverage = [[n, f"{report['coverage'][k]}"] for k, n in _COVERAGE if k in report["coverage"]]
    settings = {k: v for k, v in report["settings"].items() if v}
    options = json.dumps(settings, ensure_ascii=False) if settings else "none"
    parts = [
        f"<h1>{escape(title)}</h1>{remarks}",
        f'<ul class="scores">{overall}</ul><p><small>Means over: {counted}.</small></p>',
        f"<h2>Classes</h2>{_class_table(report)}",
        _sample_section(report) if "sample" in report else "",
        f"<h2>Confusion matrix ({evaluation.unit})</h2>{_matrix_table(report)}",
        f"<h2>Coverage ({evaluation.unit})</h2>{_table(None, coverage)}",
        f"<h2>How it was compared</h2><p>Map: {escape(evaluation.map)}<br>Reference "
        f"({evaluation.kind}): {escape(evaluation.reference)}<br>Options: {escape(options)}<br>"
        f"cwsam-geo {escape(report['cwsam_geo'])}</p>",
        "<dl>"
        + "".join(
            f"<dt><b>{escape(k)}</b></dt><dd>{escape(v)}</dd>"
            for k, v in report["definitions"].items()
        )
        + "</dl>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _class_table(report: dict[str, Any]) -> str:
    rows = [
        # The first cell shows the class's colour and name instead of code and name.
        [_swatch(c) + (" <small>(ignored)</small>" if c["ignored"] else ""), *row[1:]]
        for c, row in zip(report["classes"], class_rows(report["classes"]), strict=True)
    ]
    return _table(class_head(), rows)


def _matrix_table(report: dict[str, Any]) -> str:
    counts = report["matrix"]["counts"]
    head = ["reference \\ map", *(_swatch(c) for c in report["classes"])]
    rows = []
    for entry, row in zip(report["classes"], counts, strict=True):
        total = sum(row)
        cells = [_swatch(entry)]
        for n in row:
            # Shade by the share of the reference class; below 0.65 the number stays readable.
            shade = 0.65 * n / total if total else 0
            cells.append(f'<td style="background: rgba(var(--ink), {shade:.3f})">{n}</td>')
        rows.append(cells)
    return _table(head, rows)


def _sample_section(report: dict[str, Any]) -> str:
    head, *rows = _sample_rows(report)
    strata = [
        [escape(s["name"]), _area(s["area"], report["sample"]), str(s["points"])]
        for s in report["sample"]["strata"]
    ]
    unit = _unit(report["sample"])
    return (
        "<h2>Area-adjusted accuracy and areas</h2>"
        + _table([escape(h) for h in head], [[escape(c) for c in r] for r in rows])
        + f"<p>Areas in {unit}; ± is half a 95 % confidence interval; "
        + f"{escape(_reach(report['sample']))}.</p>"
        + _table(["stratum", f"area ({unit})", "points"], strata)
    )


def _sample_rows(report: Mapping[str, Any]) -> list[list[str]]:
    sample = report["sample"]
    head = ["class", "user's accuracy", "producer's accuracy", "area", "mapped area"]
    rows = [
        [
            c["name"],
            _estimate(c["users_accuracy"], score_text),
            _estimate(c["producers_accuracy"], score_text),
            _estimate(c["area"], lambda v: _area(v, sample)),
            _area(c["mapped_area"], sample),
        ]
        for c in sample["classes"]
        if c["mapped_area"] or c["area"]["value"]
    ]
    overall = ["overall accuracy", _estimate(sample["overall_accuracy"], score_text), "", "", ""]
    return [head, *rows, overall]


def _reach(sample: dict[str, Any]) -> str:
    """A sentence on the part of the map that the estimates cover."""
    unsampled = [s["name"] for s in sample["strata"] if not s["points"]]
    if not unsampled:
        return "all scores are estimates for the whole area"
    return (
        f"scores and estimated areas do not cover {100 * sample['share_without_points']:.3g} % of "
        f"the mapped area, where no point lies: {', '.join(unsampled)}; mapped areas are complete"
    )


def _unit(sample: dict[str, Any]) -> str:
    return "ha" if sample["area_unit"] == "m2" else "pixels"


def _area(value: float | None, sample: dict[str, Any]) -> str:
    if value is None:
        return "-"
    # Square metres are printed as hectares; see _unit.
    shown = value / 10_000 if sample["area_unit"] == "m2" else value
    return f"{shown:,.0f}" if shown >= 1000 else f"{shown:.4g}"


def _estimate(estimate: dict[str, float | None], form: Any) -> str:
    if estimate["value"] is None:
        return "-"
    margin = "?" if estimate["ci95"] is None else form(estimate["ci95"])
    return f"{form(estimate['value'])} ± {margin}"


def _swatch(entry: dict[str, Any]) -> str:
    color = escape(entry["color"])
    return f'<span class="swatch" style="background: {color}"></span>{escape(entry["name"])}'


def _table(head: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str], kind: str) -> str:
        # Cells with a style come as complete <td> elements and are not wrapped again.
        elements = (c if c.startswith("<td") else f"<{kind}>{c}</{kind}>" for c in cells)
        return f"<tr>{''.join(elements)}</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    body = "".join(line(r, "td") for r in rows)
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned columns: the first column to the left, the others to the right."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:], widths[1:], strict=True))]
        ).rstrip()
        for r in rows
    ]
