"""A model as a STAC item with the machine learning model extension (MLM)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from cwsam_geo._version import __version__
from cwsam_geo.info.model import describe_model, header_of
from cwsam_geo.prediction.map_item import STAC_VERSION, classes_of

EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("mlm/v1.4.0", "classification/v2.0.0")
)

_SPDX = re.compile(r"[A-Za-z0-9.+-]+")
"""Form of a licence's identifier."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]+[A-Za-z0-9]")
"""Form of a name that the extension accepts."""


def model_item(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """The STAC item of a model bundle, from its header.

    The item has no place: a model is not tied to the ground on which it was trained. Its time is
    unlimited for the same reason.

    Args:
        name_or_path: Path of a bundle, or name of a known model.

    Raises:
        ModelError: The model does not exist, or cannot be read.
    """
    path, header = header_of(name_or_path)
    facts = describe_model(path)
    spec, size, stride = header.preprocess, facts["tile_size"], facts["stride"]
    bands = [{"name": band} for band in spec.bands]
    classes, channels = len(header.legend), ", ".join(spec.channels)
    licence = str(header.provenance.get("licence") or header.provenance.get("license") or "")
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(EXTENSIONS),
        "id": path.stem,
        "geometry": None,
        "properties": {
            "title": f"{path.stem}: {', '.join(header.legend.names)}",
            "datetime": None,
            "start_datetime": "1900-01-01T00:00:00Z",
            "end_datetime": "9999-12-31T23:59:59Z",
            "license": licence if _SPDX.fullmatch(licence) else "other",
            # The extension asks for bands here, which STAC allows only if an asset has some.
            "bands": bands,
            "mlm:name": _name(path.stem),
            "mlm:architecture": f"CWSAM ({facts['backbone']})",
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:framework": "PyTorch",
            "mlm:accelerator_constrained": False,
            "mlm:total_parameters": facts["parameters"],
            "mlm:pretrained": bool(header.provenance.get("trained")),
            "mlm:input": [
                {
                    "name": "backscatter",
                    "bands": [_channel(text) for text in spec.channels],
                    "input": {
                        "shape": [-1, 3, size, size],
                        "dim_order": ["batch", "bands", "height", "width"],
                        "data_type": "float32",
                    },
                    "description": f"Channels {channels} ({spec.scaling}), clipped, then "
                    "normalised by mean and standard deviation.",
                    "value_scaling": [
                        {"type": "z-score", "mean": mean, "stddev": deviation}
                        for mean, deviation in zip(spec.mean, spec.std, strict=True)
                    ],
                    "pre_processing_function": {
                        "format": "python",
                        "expression": "cwsam_geo.core.preprocess:PreprocessSpec.apply",
                    },
                }
            ],
            "mlm:output": [
                {
                    "name": "logits",
                    "tasks": ["semantic-segmentation"],
                    "result": {
                        "shape": [-1, classes, size // stride, size // stride],
                        "dim_order": ["batch", "class", "height", "width"],
                        "data_type": "float32",
                    },
                    "description": "Confidence is the softmax of the logits divided by the "
                    f"temperature; it is {header.temperatures.text}.",
                    "classification:classes": classes_of(header.legend),
                    "post_processing_function": None,
                }
            ],
            "mlm:hyperparameters": {
                "tile_size": size,
                "stride": stride,
                "clip": [list(pair) for pair in spec.clip],
                "preprocessing": spec.scaling,
                "temperature": facts["temperature"],
                "cwsam-geo": __version__,
            },
        },
        "links": [],
        "assets": {
            "model": {
                "href": Path(path).name,
                "type": "application/vnd.safetensors",
                "title": f"{path.stem} ({facts['bundle']} bundle)",
                "roles": ["mlm:model", "mlm:weights", "data"],
                "mlm:artifact_type": "safetensors.torch.save_file",
                "bands": bands,
            }
        },
    }


def _name(stem: str) -> str:
    """A name that the extension accepts."""
    if _NAME.fullmatch(stem):
        return stem
    words = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")
    return f"model-{words}" if words else "model"


def _channel(channel: str) -> str | dict[str, str]:
    """A channel of the input: a band, or the difference of two."""
    if "-" not in channel:
        return channel
    return {"name": channel, "format": "numexpr", "expression": channel.replace("-", " - ")}
