"""Describes class, confidence and probability rasters by their tags."""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from cwsam_geo.core.legend import Legend
from cwsam_geo.errors import SceneError
from cwsam_geo.info.raster_facts import place_of
from cwsam_geo.io.class_names import Origin, class_names
from cwsam_geo.io.class_raster import ClassRaster
from cwsam_geo.io.legend_file import tagged_legend
from cwsam_geo.io.map_tags import VERSION_TAG, read_provenance
from cwsam_geo.io.raster_file import display_name, grid_of, open_dataset
from cwsam_geo.scene.acquisition import Acquisition

Content = Literal["classes", "confidence", "probabilities"]


def describe_map(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Describes a class map, or a confidence or probabilities raster written by ``predict``.

    These rasters are recognised by their tags, class maps of other programs also by their class
    names. A palette alone is not enough, because any picture may have one.

    Returns:
        Plain values for JSON, with ``kind`` ``map``; None if the raster is none of these or cannot
        be opened.

    Raises:
        LegendError: The raster's ``LEGEND`` tag is a legend with a mistake.
    """
    try:
        dataset = open_dataset(path)
    except SceneError:
        # The caller reads the path as a scene next, and reports the error there.
        return None
    with contextlib.closing(dataset):
        tags = dataset.tags()
        scene = Acquisition.from_tags(tags)
        from_predict = VERSION_TAG in tags
        legend = tagged_legend(tags, display_name(path))
        if not (from_predict or legend or _names_classes(dataset, display_name(path))):
            return None
        content = _content(dataset, from_predict, legend)
        if content is None:
            return None
        return {
            "kind": "map",
            "path": display_name(path),
            "content": content,
            **_file(dataset),
            **place_of(grid_of(dataset)),
            **_legend(path, content, legend),
            **read_provenance(tags),
            "acquisition": None if scene is None else asdict(scene),
        }


def _content(dataset: Any, from_predict: bool, legend: Legend | None) -> Content | None:
    # The sink of predict writes these band descriptions.
    descriptions = list(dataset.descriptions)
    # The legend of a map with a least confidence has one class more than the model.
    names = [f"{name} (%)" for name in legend.names[: len(descriptions)]] if legend else []
    if from_predict and legend and len(descriptions) > 1 and descriptions == names:
        return "probabilities"
    if from_predict and descriptions == ["confidence (%)"]:
        return "confidence"
    return "classes" if _could_be_classes(dataset) else None


def _names_classes(dataset: Any, label: str) -> bool:
    return _could_be_classes(dataset) and bool(class_names(dataset, 1, label).names)


def _could_be_classes(dataset: Any) -> bool:
    return dataset.count == 1 and np.dtype(dataset.dtypes[0]).kind in "iu"


def _file(dataset: Any) -> dict[str, Any]:
    nodata = dataset.nodata
    return {
        "driver": dataset.driver,
        "width": dataset.width,
        "height": dataset.height,
        "count": dataset.count,
        "dtype": dataset.dtypes[0],
        "names": list(dataset.descriptions),
        "block_shape": list(dataset.block_shapes[0]),
        "compression": dataset.compression.value if dataset.compression else None,
        # JSON has no NaN and no infinity.
        "nodata": nodata if nodata is not None and math.isfinite(nodata) else None,
    }


def _legend(
    path: str | os.PathLike[str], content: Content, legend: Legend | None
) -> dict[str, Any]:
    """The classes and where they come from; see ``Origin``."""
    origin: Origin | None = "tag" if legend else None
    if legend is None and content == "classes":
        with contextlib.closing(ClassRaster(path)) as raster:
            legend = raster.legend()
            origin = raster.names.origin if legend else None
    return {"classes": legend.to_list() if legend else [], "legend": origin}
