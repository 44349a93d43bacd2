"""Pictures of the judged scenes: the radar, the labels, the maps, the confidence, on one page."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = np.zeros((256, 3), np.uint8)
COLOURS[1] = (65, 155, 223)
COLOURS[2] = (57, 125, 73)
COLOURS[3] = (227, 197, 103)
COLOURS[4] = (196, 40, 27)
COLOURS[9] = (190, 180, 160)
"""Of the judge's codes; 9 is "not water"."""

_LEVELS = {"VV": (-25.0, 0.0), "VH": (-32.0, -7.0)}
_GAP = 4


def radar_picture(bands: Mapping[str, NDArray[np.float32]]) -> NDArray[np.uint8]:
    """VV, VH and their difference as red, green and blue; one band in grey: (H, W, 3)."""
    shown = {
        name: np.nan_to_num(((band - _LEVELS[name][0]) / 25).clip(0, 1))
        for name, band in bands.items()
        if name in _LEVELS
    }
    if len(shown) == 2:
        difference = np.nan_to_num(((bands["VV"] - bands["VH"]) / 15).clip(0, 1))
        planes = [shown["VV"], shown["VH"], difference]
    else:
        planes = list(shown.values()) * 3
    return np.asarray(255 * np.stack(planes, -1), np.uint8)


def strip(
    bands: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.uint8],
    maps: Sequence[NDArray[np.uint8]],
    confidence: NDArray[np.float32] | None,
    side: int = 256,
) -> Image.Image:
    """Radar, labels, maps and confidence side by side, each at most ``side`` px wide.

    Args:
        bands: VV and VH in dB.
        labels: Codes, (H, W).
        maps: Codes, (H, W), one or more.
        confidence: 0 to 1, (H, W): white is sure.
        side: Of a picture, in pixels.
    """
    planes = [radar_picture(bands), COLOURS[labels], *(COLOURS[m] for m in maps)]
    if confidence is not None:
        grey = (255 * confidence.clip(0, 1)).astype(np.uint8)
        planes.append(np.repeat(grey[..., None], 3, -1))
    height, width = labels.shape
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    out = Image.new("RGB", (len(planes) * (size[0] + _GAP) - _GAP, size[1]), "white")
    for i, plane in enumerate(planes):
        picture = Image.fromarray(plane).resize(size, Image.Resampling.NEAREST)
        out.paste(picture, (i * (size[0] + _GAP), 0))
    return out


def sheet(strips: Sequence[Image.Image]) -> Image.Image:
    """Strips one below the other."""
    width = max(s.width for s in strips)
    height = sum(s.height + _GAP for s in strips)
    out, top = Image.new("RGB", (width, height), "white"), 0
    for picture in strips:
        out.paste(picture, (0, top))
        top += picture.height + _GAP
    return out


def write_page(
    folder: Path, result: Mapping[str, Any], pictures: Sequence[tuple[str, str]]
) -> Path:
    """``index.html`` with the figures and the pictures.

    Args:
        folder: Where it goes.
        result: The figures, for JSON.
        pictures: Caption and file, relative to the folder.
    """
    rows = "\n".join(
        f"<h3>{html.escape(caption)}</h3><img src='{html.escape(name)}'>"
        for caption, name in pictures
    )
    text = (
        "<!doctype html><meta charset='utf-8'><title>Judged places</title>"
        "<style>body{font:14px sans-serif;margin:2em}img{image-rendering:pixelated}</style>"
        "<h1>Judged places</h1><p>From left: radar (VV, VH, VV-VH as red, green, blue), labels, "
        "the model's map, its confidence (white is sure). Blue water, green trees, ochre open, red "
        f"built-up, grey not water.</p><pre>{html.escape(json.dumps(_brief(result), indent=1))}"
        f"</pre>{rows}"
    )
    path = folder / "index.html"
    path.write_text(text, encoding="utf-8")
    return path


def _brief(result: Mapping[str, Any]) -> dict[str, Any]:
    """The pooled figures without matrices."""
    return {
        mode: {
            who: {k: v for k, v in found["capped"].items() if k != "matrix"}
            for who, found in verdicts["pooled"].items()
        }
        for mode, verdicts in result["modes"].items()
    }
