"""Writes the reports of an evaluation."""

from __future__ import annotations

import os

from cwsam_geo.atomic import atomic_output
from cwsam_geo.evaluation.compared_pixels import ComparedFiles
from cwsam_geo.evaluation.options import EvaluateOutputs
from cwsam_geo.evaluation.page import html_report
from cwsam_geo.evaluation.report import csv_report, json_report
from cwsam_geo.io.figures import write_confusion_png


def write_reports(files: ComparedFiles, outputs: EvaluateOutputs) -> None:
    """Writes the requested reports.

    Args:
        files: The evaluation and the files that it compared.
        outputs: Paths of the reports.

    Raises:
        UsageError: A file exists and is not to be replaced, matplotlib is not installed, or the
            scene cannot be laid over the map.
        OutputError: A file cannot be written.
        SceneError: A file cannot be read.
    """
    evaluation = files.evaluation
    if outputs.json is not None:
        _write(outputs.json, json_report(evaluation), outputs.overwrite)
    if outputs.csv is not None:
        _write(outputs.csv, csv_report(evaluation), outputs.overwrite)
    if outputs.html is not None:
        _write(outputs.html, html_report(files, outputs.scene), outputs.overwrite)
    if outputs.png is not None:
        scores, names = evaluation.scores, evaluation.classes.legend.names
        title = f"mIoU {scores.miou:.4f}, overall accuracy {scores.overall_accuracy:.4f}"
        write_confusion_png(outputs.png, names, scores.matrix, title, outputs.overwrite)


def _write(path: str | os.PathLike[str], text: str, overwrite: bool) -> None:
    with atomic_output(path, overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
