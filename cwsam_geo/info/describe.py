"""Describes scenes, maps and models: the functions behind ``cwsam-geo info``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cwsam_geo.errors import UsageError
from cwsam_geo.info.class_map import describe_map
from cwsam_geo.info.model import describe_model
from cwsam_geo.info.options import InfoOptions
from cwsam_geo.info.scene import describe_scene
from cwsam_geo.io.raster_file import is_remote
from cwsam_geo.model.upstream.published import CHECKPOINT_SUFFIXES
from cwsam_geo.scene.stac_item import is_item

PathLike = str | os.PathLike[str]

_BUNDLE = ".safetensors"


def describe(
    path: PathLike | Sequence[PathLike], options: InfoOptions | None = None
) -> dict[str, Any]:
    """Describes a scene, a map or a model.

    Args:
        path: A scene (one raster, or several single-band rasters), one raster written by
            ``predict``, or one model by path or name.
        options: How a scene is read; not allowed for a map or a model.

    Returns:
        Plain values for JSON; ``kind`` is ``scene``, ``map`` or ``model``.

    Raises:
        SceneError: The scene cannot be read.
        LegendError: The map's ``LEGEND`` tag is malformed.
        ModelError: The model cannot be read.
        UsageError: The options or other paths do not fit a map or a model.
    """
    paths = [path] if isinstance(path, (str, os.PathLike)) else path
    return _described([os.fspath(p) for p in paths], options or InfoOptions())


def _described(paths: Sequence[str], options: InfoOptions) -> dict[str, Any]:
    models = [p for p in paths if _is_model(p)]
    if not models:
        return _described_raster(paths, options)
    if len(paths) > 1 or options != InfoOptions():
        raise UsageError(
            f"{models[0]}: is a model; give it alone, or as -m beside a scene to see what "
            "predict would do"
        )
    return describe_model(models[0])


def _described_raster(paths: Sequence[str], options: InfoOptions) -> dict[str, Any]:
    one = len(paths) == 1 and not is_item(paths[0])
    map_description = describe_map(paths[0]) if one else None
    if map_description is None:
        return describe_scene(paths, options)
    if options != InfoOptions():
        raise UsageError(f"{paths[0]}: is a map, not a scene; give it without other options")
    return map_description


def _is_model(path: str) -> bool:
    suffix = Path(path).suffix.lower()
    if suffix == _BUNDLE or suffix in CHECKPOINT_SUFFIXES:
        return True
    if is_remote(path) or os.path.exists(path) or suffix or ":" in path:
        return False
    # A bare name that is not a file may be a known model. Look it up last: the store imports torch,
    # which takes seconds.
    from cwsam_geo.model.store import FORMER_NAMES, known_models
    from cwsam_geo.model.upstream.published import CHECKPOINTS

    return path in CHECKPOINTS or path in known_models() or path in FORMER_NAMES
