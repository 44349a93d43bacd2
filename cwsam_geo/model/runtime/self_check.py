"""Whether a model gives the numbers on this machine that it gave on the one where it was released.

Beside a bundle ``NAME.safetensors`` lies ``NAME.check.json`` with logits for a pattern that is
computed, not stored. ``python -m cwsam_geo.model.runtime.self_check BUNDLE`` writes it anew.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cwsam_geo.core.preprocess import SceneBands
from cwsam_geo.errors import ModelError
from cwsam_geo.model.runtime.predictor import LoadedModel, load_model

_TOLERANCE = 2e-3
"""Largest difference of a logit as a fraction of the range of all; float32 differs by 1e-6 between
processors, and a wrong network or a damaged library by far more."""

_SAMPLES = 6
"""Places along each side of the logits whose values are stored."""


def check_file(bundle: str | os.PathLike[str]) -> Path:
    """Where the numbers of a bundle are stored."""
    return Path(bundle).with_suffix(".check.json")


def pattern(model: LoadedModel) -> NDArray[np.float32]:
    """The model's input, shape (3, T, T): waves of backscatter with a dark disk in the middle."""
    size, bands = model.architecture.tile_size, len(model.preprocess.bands)
    row, col = np.mgrid[:size, :size].astype(np.float64)
    waves = 5 * np.sin(2 * np.pi * (row / 37 + col / 53)) + 3 * np.sin(
        2 * np.pi * (row / 11 - col / 17)
    )
    disk = np.hypot(row - size / 2, col - size / 2) < size / 4
    level = np.where(disk, -21 + waves / 8, -11 + waves / 2)
    decibels = np.stack([level - 6 * i for i in range(bands)]).astype(np.float32)
    scene = SceneBands("db", tuple(range(bands)))
    return model.preprocess.apply(decibels, np.ones((size, size), bool), scene)


def numbers(model: LoadedModel) -> dict[str, Any]:
    """The model's answer to ``pattern``: logits at some places, and how often each class wins."""
    with torch.no_grad():
        images = torch.from_numpy(pattern(model))[np.newaxis].to(model.device)
        logits = model(images)[0].float().cpu().numpy()  # (K, t, t)
    places = np.linspace(0, logits.shape[1] - 1, _SAMPLES).round().astype(int)
    winners = np.bincount(logits.argmax(0).ravel(), minlength=len(logits))
    return {
        "classes": dict(zip(model.legend.names, winners.tolist(), strict=True)),
        "range": [round(float(v), 4) for v in (logits.min(), logits.max())],
        "logits": np.round(logits[:, places][:, :, places].astype(np.float64), 4).tolist(),
    }


def difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """What is wrong with a model's numbers, in words; None if they are as expected."""
    if list(found["classes"]) != list(expected["classes"]):
        return f"its classes are {', '.join(found['classes'])}"
    a, b = (np.asarray(n["logits"]) for n in (found, expected))
    if a.shape != b.shape:
        return f"its logits have the shape {a.shape}, expected {b.shape}"
    low, high = expected["range"]
    worst = float(np.abs(a - b).max() / (high - low))
    if not worst <= _TOLERANCE:  # also true for NaN
        return f"its logits differ by up to {worst:.1%} of their range"
    return None


def check_model(name_or_path: str | os.PathLike[str], device: str = "cpu") -> str | None:
    """Computes a bundle's numbers in fp32 and compares them with those beside it.

    Returns:
        What is wrong, in words; None if nothing is.

    Raises:
        ModelError: There is no such model, it cannot be loaded, or it has no stored numbers.
        UsageError: The device is not available.
    """
    model = load_model(name_or_path, device, "fp32", "fast")
    assert model.path is not None
    path = check_file(model.path)
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ModelError(f"{path}: no numbers to check the model with") from None
    return difference(numbers(model), expected)


if __name__ == "__main__":
    for bundle in sys.argv[1:]:
        text = json.dumps(numbers(load_model(bundle, network="fast")))
        check_file(bundle).write_text(text + "\n", encoding="utf-8")
