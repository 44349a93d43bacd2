"""The HTML page of a training: curves, accuracy, worst tiles, and where the split lies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cwsam_geo.core.legend import Legend
from cwsam_geo.core.score_table import class_head, class_rows, overall_rows
from cwsam_geo.finetuning.data.prepare import RegionData
from cwsam_geo.finetuning.report.card import model_card
from cwsam_geo.finetuning.report.results import TrainingResult
from cwsam_geo.finetuning.split.blocks import SpatialSplit
from cwsam_geo.finetuning.split.planes import Plane
from cwsam_geo.finetuning.split.roles import ROLES
from cwsam_geo.finetuning.training.worst_tiles import WorstTile
from cwsam_geo.io.geolocation import Geolocation, crs_name
from cwsam_geo.pages.charts import plan
from cwsam_geo.pages.page import percent, render
from cwsam_geo.pages.pyramid import image_url

_MOST_PLANS = 12
"""Plans of the split that the page shows; a region of more places lists the first ones."""

_LISTED = 8
"""Scenes of a plan that its caption names."""

_SHOWN = 2.5
"""Standard deviations around the mean that a tile's picture shows."""

_NAMES = {role: name for name, role in ROLES.items()}


def training_page(training: TrainingResult, data: RegionData) -> str:
    """The page as HTML.

    Args:
        training: The finished training.
        data: Its tiles and their split.
    """
    metrics = training.metrics()
    values = {
        "lead": f"{training.start[:1].upper()}{training.start[1:]}.",
        "figures": _figures(training, metrics),
        "curves_of": _curves(training),
        "legend": training.legend.to_list(),
        "scored": [_scored(*part) for part in _parts(training, metrics)],
        "calibration": metrics["validation"].get("calibration"),
        "tiles": [_drawn(t, n, data, training.legend) for n, t in enumerate(training.worst, 1)],
        "plans": _plans(data.split, data.locations),
        "more_plans": max(0, len(data.split.planes) - _MOST_PLANS),
        "recipe": _recipe(training),
        "card": model_card(training),
    }
    return render("training.html", f"Training of {training.name}", values)


def _figures(training: TrainingResult, metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    overall = overall_rows(metrics["validation"])[:3]
    figures = [(f"validation {name}", value) for name, value in overall]
    if "test" in metrics:
        figures.append(("test mIoU", dict(overall_rows(metrics["test"]))["mIoU"]))
    figures += [
        ("epoch that is kept", f"{training.best.epoch} of {len(training.history)}"),
        ("scenes", f"{training.data['scene_count']:,}"),
    ]
    seconds = training.run.get("seconds")
    if seconds is not None:
        figures.append(
            ("time", f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s")
        )
    return figures


def _curves(training: TrainingResult) -> dict[str, Any]:
    history, legend = training.history, training.legend
    classes = [(e.color, [r.iou[i] for r in history]) for i, e in enumerate(legend.entries)]
    return {
        "loss": [("", [r.loss for r in history])],
        "iou": [*classes, ("", [r.miou for r in history])],
        "rows": [
            [f"{r.epoch}", f"{r.loss:.4f}", "-" if r.miou is None else f"{r.miou:.4f}"]
            for r in history
        ],
    }


def _parts(
    training: TrainingResult, metrics: Mapping[str, Any]
) -> list[tuple[str, str, Mapping[str, Any]]]:
    chosen = training.recipe.keep == "best"
    note = (
        "These areas chose the epoch, which makes the figures a little too good."
        if chosen
        else "These figures did not choose the epoch."
    )
    parts = [("Validation areas", note, metrics["validation"])]
    if "test" in metrics:
        parts.append(("Test areas", "These areas decided nothing.", metrics["test"]))
    return parts


def _scored(name: str, note: str, report: Mapping[str, Any]) -> dict[str, Any]:
    counts = {"support": "labelled pixels"}
    rows = class_rows(report["classes"], counts)
    return {
        "name": name,
        "note": note,
        "report": report,
        "head": class_head(counts),
        "rows": [[f"{int(c):,}" if c.isdecimal() else c for c in row] for row in rows],
        "reliability": report.get("reliability"),
    }


def _drawn(tile: WorstTile, number: int, data: RegionData, legend: Legend) -> dict[str, Any]:
    scene, window = data.validation.place(tile.index)
    truth, found = (legend.names[channel] for channel in tile.confused)
    shown = {"Scene": _picture(tile.image)}
    shown["Label"] = _painted(tile.labels, legend)
    shown["Map"] = _painted(tile.mapped, legend)
    lossless = {name: name != "Scene" for name in shown}
    return {
        "number": number,
        "images": [(n, image_url(image, lossless[n])) for n, image in shown.items()],
        "caption": f"{percent(tile.wrong / tile.counted)} of {tile.counted:,} labelled pixels "
        f"are wrong, mostly {truth} mapped as {found}; {Path(scene).name}, columns {window.col} to "
        f"{window.right - 1}, rows {window.row} to {window.bottom - 1}",
    }


def _picture(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The network's three channels as red, green and blue: the same colours in every tile."""
    levels = np.clip((image + _SHOWN) / (2 * _SHOWN), 0, 1)
    rgb = np.rint(255 * np.moveaxis(np.nan_to_num(levels), 0, 2)).astype(np.uint8)
    return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])


def _painted(channels: NDArray[np.int64], legend: Legend) -> NDArray[np.uint8]:
    """Channels in the classes' colours, transparent where there is none (-1)."""
    table = np.zeros((len(legend) + 1, 4), np.uint8)
    table[:-1] = [(*entry.rgb, 255) for entry in legend.entries]
    return table[channels]


def _plans(split: SpatialSplit, locations: Sequence[Geolocation]) -> list[dict[str, Any]]:
    """A drawing of each place: its blocks and whole scenes by their role."""
    plans = []
    for index, plane in enumerate(split.planes[:_MOST_PLANS]):
        shapes = [
            (_NAMES[block.role], shapely.box(*block.box))
            for block in split.blocks
            if block.plane == index
        ]
        for i in plane.members:
            whole = split.whole[i]
            if whole is not None:
                shapes.append((whole, plane.footprint(locations[i])))
        names = [Path(split.names[i]).name for i in plane.members]
        caption = _where(plane) + ", ".join(names[:_LISTED])
        caption += f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        # Rows of pixels go down, coordinates of a CRS go up.
        drawing = plan(shapes, plane.bounds, f"Split of {caption}", flipped=plane.crs is None)
        plans.append({"drawing": drawing, "caption": caption})
    return plans


def _where(plane: Plane) -> str:
    left, bottom, right, top = plane.bounds
    if plane.crs is None:
        return f"{right - left:,.0f} x {top - bottom:,.0f} px, no CRS: "
    width, height = ((b - a) * plane.unit / 1000 for a, b in ((left, right), (bottom, top)))
    code = plane.crs.to_epsg()
    return f"{width:.3g} x {height:.3g} km{f', {crs_name(plane.crs)}' if code else ''}: "


def _recipe(training: TrainingResult) -> list[tuple[str, str]]:
    recipe = {**asdict(training.recipe), **training.run}
    weights = zip(training.legend.names, training.class_weights, strict=True)
    recipe["class_weights"] = ", ".join(f"{name} {w:.3g}" for name, w in weights)
    return [
        (key.replace("_", " ").capitalize(), v if isinstance(v, str) else json.dumps(v))
        for key, v in recipe.items()
        if v is not None
    ]
