"""Describes a model bundle."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cwsam_geo.errors import ModelError
from cwsam_geo.model.network.architecture import QUIRKS
from cwsam_geo.model.upstream.published import CHECKPOINT_SUFFIXES

if TYPE_CHECKING:
    from cwsam_geo.model.bundles.bundle import BundleHeader


def describe_model(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describes a model bundle from its header, without reading its weights.

    Args:
        name_or_path: Path of a bundle, or name of a known model.

    Returns:
        Plain values for JSON.

    Raises:
        ModelError: The model does not exist, or cannot be read.
    """
    path, header = header_of(name_or_path)
    architecture = header.architecture
    backbone = architecture.backbone
    return {
        "kind": "model",
        "path": str(path),
        "bytes": path.stat().st_size,
        "bundle": header.kind,
        "base": header.base.name if header.base else None,
        "backbone": backbone.name,
        "blocks": backbone.depth,
        "dim": backbone.dim,
        "patch_size": backbone.patch_size,
        "tile_size": architecture.tile_size,
        "stride": architecture.stride,
        "parameters": _parameters(header, trained=False),
        "trained_parameters": _parameters(header, trained=True),
        "quirks": [name for name in QUIRKS if getattr(architecture, name)],
        "classes": header.legend.to_list(),
        "ignore": header.legend.ignore,
        "preprocess": header.preprocess.to_dict(),
        "temperature": header.temperatures.to_json(),
        "pixels": None if header.pixel_sizes is None else str(header.pixel_sizes),
        "provenance": dict(header.provenance),
    }


def header_of(name_or_path: str | os.PathLike[str]) -> tuple[Path, BundleHeader]:
    """Finds a model's file and reads the header of its bundle.

    Raises:
        ModelError: There is no such model, it is a checkpoint, or it cannot be read.
    """
    from cwsam_geo.model.bundles.bundle import read_header
    from cwsam_geo.model.store import find_model

    path = find_model(name_or_path)
    if path.suffix.lower() in CHECKPOINT_SUFFIXES:
        raise ModelError(f"{path}: a checkpoint, not a model bundle; run cwsam-geo convert on it")
    return path, read_header(path)


def _parameters(header: BundleHeader, trained: bool) -> int:
    from cwsam_geo.model.bundles.tensors import expected_shapes, trainable_names

    names = trainable_names(header.architecture) if trained else header.tensor_names()
    shapes = expected_shapes(header.architecture)
    return sum(math.prod(shapes[name]) for name in names)
