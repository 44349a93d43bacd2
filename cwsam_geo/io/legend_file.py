"""Reads legends from YAML files and from the tags of rasters."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from cwsam_geo.core.legend import LEGEND_TAG, Legend
from cwsam_geo.errors import LegendError


def read_legend(path: str | os.PathLike[str]) -> Legend:
    """Reads a legend from a YAML file.

    The file holds ``classes:``, a list of ``{code, name, color: "#rrggbb"}`` in the order of the
    model's channels. An optional ``ignore:`` names the class (a background) whose labels do not
    count.

    Raises:
        LegendError: The file cannot be read or is not a legend.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not text"
        raise LegendError(f"{path}: cannot be read ({why}); give a YAML file") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        raise LegendError(f"{path}: is not YAML: {why}") from None
    if not isinstance(data, dict) or "classes" not in data:
        raise LegendError(f"{path}: needs `classes:`, a list of {{code, name, color}}")
    return Legend.from_list(data["classes"], str(path), data.get("ignore"))


def tagged_legend(tags: Mapping[str, str], label: str) -> Legend | None:
    """The legend in the ``LEGEND`` tag of a raster; None without that tag.

    Other programs use a tag of this name for texts of their own. Only a JSON list of objects with
    a ``code`` is a legend of this package.

    Args:
        tags: The raster's dataset tags.
        label: The raster's name in messages.

    Raises:
        LegendError: The tag is such a list, but with a mistake in it.
    """
    try:
        classes = json.loads(tags.get(LEGEND_TAG, ""))
    except ValueError:
        return None
    if not isinstance(classes, list) or not classes:
        return None
    if not all(isinstance(item, dict) and "code" in item for item in classes):
        return None
    return Legend.from_list(classes, f"{label}: tag {LEGEND_TAG}")
