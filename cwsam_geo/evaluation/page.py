"""The HTML page of an evaluation: scores, worst tiles, and a map of the differences."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo.core.grid import Window
from cwsam_geo.core.legend import NODATA
from cwsam_geo.core.score_table import class_head, class_rows, overall_rows
from cwsam_geo.evaluation.compared_pixels import (
    Channels,
    ComparedFiles,
    compared_arrays,
    sample_points,
)
from cwsam_geo.evaluation.report import (
    COVERAGE,
    area_text,
    area_unit,
    reach,
    sample_rows,
)
from cwsam_geo.evaluation.worst_tiles import drawn_tiles, worst_tiles
from cwsam_geo.io.geolocation import locate
from cwsam_geo.pages.layers import (
    Entry,
    Layer,
    ScenePictures,
    class_layer,
    codes_layer,
    raster_grid,
    reduced_grid,
    scene_layer,
)
from cwsam_geo.pages.map_view import MapView, layer_budget
from cwsam_geo.pages.page import render
from cwsam_geo.scene.source import RasterSource, open_source

_MOST_POINTS = 5000
"""Points of a sample that the map shows: more cannot be told apart."""

_KEPT_CELLS = 1 << 24
"""Cells of the largest arrays that are kept: two of 16 MB."""

_SAME, _OTHER = 0, 1
"""Codes of the layer of differences."""

_DIFFERENCES = ((_SAME, "same class", "#9aa5b1"), (_OTHER, "another class", "#d7191c"))

_CLASSES = Layer("classes", "Map", "codes", "map", opacity=0.7)
_REFERENCE = Layer("reference", "Reference", "codes", "reference", shown=False)
_DIFFERS = Layer("differences", "Differences", "codes", "compared", shown=False)
_SCENE = Layer("scene", "Scene", "picture")


def html_report(files: ComparedFiles, scene: Sequence[Any] = ()) -> str:
    """The report as an HTML page.

    Args:
        files: The evaluation and the files that it compared.
        scene: The scene that the map was made from; empty for none.

    Raises:
        SceneError: A file cannot be read.
        UsageError: The scene cannot be laid over the map.
    """
    evaluation = files.evaluation
    title = f"{Path(evaluation.map).name} against {Path(evaluation.reference).name}"
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(list(scene))) if scene else None
        pictures = ComparisonPictures(files, source)
        grid = raster_grid(files.map)
        budget = layer_budget(2 + pictures.layers)
        layers = [] if source is None else [scene_layer(source, grid, budget, _SCENE)]
        layers.append(class_layer(files.map, budget, _CLASSES, evaluation.options.map_band))
        layers += pictures.drawn(budget)
        values = {
            "lead": f"Reference ({evaluation.kind}) and map compared on the map's grid.",
            "report": evaluation.to_dict(),
            "a": accuracy_values(files, pictures.tiles()),
            "view": MapView(f"Map {title}", locate(grid, evaluation.map), layers),
        }
    return render("evaluation.html", title, values, with_map=True)


def accuracy_values(files: ComparedFiles, tiles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Tables of an evaluation for the templates.

    Args:
        files: The evaluation.
        tiles: See ``drawn_tiles``.
    """
    report = files.evaluation.to_dict()
    unit = report["matrix"]["unit"]
    counts = {"support": f"{unit} in the reference", "mapped": f"{unit} in the map"}
    values: dict[str, Any] = {
        "overall": overall_rows(report),
        "class_head": class_head(counts),
        "class_rows": [
            [f"{int(cell):,}" if cell.isdecimal() else cell for cell in row]
            for row in class_rows(report["classes"], counts)
        ],
        "coverage": [
            [n, f"{report['coverage'][k]:,}"] for k, n in COVERAGE if k in report["coverage"]
        ],
        "options": _option_text(report["settings"]),
        "tiles": tiles,
        "sample": None,
    }
    if "sample" in report:
        sample = report["sample"]
        head, *rows = sample_rows(report)
        strata = [
            [s["name"], area_text(s["area"], sample), str(s["points"])] for s in sample["strata"]
        ]
        values["sample"] = {
            "head": head,
            "rows": rows,
            "unit": area_unit(sample),
            "reach": reach(sample),
            "strata": strata,
        }
    return values


def _option_text(settings: Mapping[str, Any]) -> str:
    """The options of an evaluation that were chosen, in one line."""
    parts = []
    for name, value in settings.items():
        text = value
        if isinstance(value, Mapping):
            text = ", ".join(f"{k} = {v}" for k, v in value.items())
        elif isinstance(value, (list, tuple)):
            text = ", ".join(map(str, value))
        if value:
            parts.append(f"{name.replace('_', ' ')}: {text}")
    return "; ".join(parts) or "none"


class ComparisonPictures:
    """Layers and tiles that show where a map and its reference differ.

    Args:
        files: The evaluation and the files that it compared.
        source: The scene, or None.

    Attributes:
        files: As given.
    """

    def __init__(self, files: ComparedFiles, source: RasterSource | None = None) -> None:
        self.files, self._source = files, source
        self._points = files.evaluation.kind == "points"
        self._grid = raster_grid(files.map)
        self._finest: tuple[Channels, Channels] | None = None
        self._kept: dict[int, tuple[Channels, Channels]] = {}

    @property
    def layers(self) -> int:
        """Number of layers that ``drawn`` returns."""
        return 1 if self._points else 2

    def drawn(self, budget: int) -> list[Layer]:
        """The reference, and the pixels where the map differs from it.

        Args:
            budget: Characters that each layer may take, about.
        """
        if self._points:
            return [self._point_layer()]
        legend = self.files.evaluation.classes.legend
        classes = [(i, e.name, e.color) for i, e in enumerate(legend.entries)]

        def reference(size: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
            _, channels = self._read(size)
            return channels.astype(np.int32), channels != NODATA

        def differs(size: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
            mapped, channels = self._read(size)
            other = (mapped != channels).astype(np.int32)
            return other, channels != NODATA

        return [
            codes_layer(reference, self._grid, lambda: classes, budget, _REFERENCE),
            codes_layer(differs, self._grid, lambda: _DIFFERENCES, budget, _DIFFERS),
        ]

    def _read(self, size: int) -> tuple[Channels, Channels]:
        if size in self._kept:
            return self._kept[size]
        arrays = compared_arrays(self.files, reduced_grid(self._grid, size))
        if self._finest is None or arrays[0].size > self._finest[0].size:
            self._finest = arrays
        # Both layers read the same sizes; the largest arrays are read again instead.
        if arrays[0].size <= _KEPT_CELLS:
            self._kept[size] = arrays
        return arrays

    def tiles(self) -> list[dict[str, Any]]:
        """The tiles that differ most, for the page; none for points. Call it after ``drawn``."""
        if self._finest is None:
            return []
        found = worst_tiles(*self._finest, self._grid)
        return drawn_tiles(self.files, self._grid, found, self._scene_pictures())

    def _scene_pictures(self) -> Callable[[Window], NDArray[np.uint8]] | None:
        if self._source is None:
            return None
        pictures = ScenePictures(self._source, self._grid)
        return pictures.of

    def _point_layer(self) -> Layer:
        evaluation = self.files.evaluation
        names = evaluation.classes.legend.names
        points = sample_points(self.files, self._grid)
        drawn = points[:: -(-len(points) // _MOST_POINTS) or 1]
        caption = ""
        if len(drawn) < len(points):
            caption = f"Points: {len(drawn):,} of {len(points):,} are drawn."
        return Layer(
            "points",
            "Points",
            "points",
            caption=caption,
            more={
                "points": [
                    [
                        round(p.col, 2),
                        round(p.row, 2),
                        int(p.mapped != p.reference),
                        f"reference: {names[p.reference]}, map: {names[p.mapped]}",
                    ]
                    for p in drawn
                ]
            },
            entries=[Entry(*d) for d in _DIFFERENCES],
        )
