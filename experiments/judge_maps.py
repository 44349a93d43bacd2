"""Scenes to a model's logits, in the judge's own words: with both bands, or one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from judge_metrics import LAND, SAME, WATER
from numpy.typing import NDArray
from places_data import ABSENT_DB

from cwsam_geo.core.grid import Window
from cwsam_geo.core.preprocess import SceneBands
from cwsam_geo.core.tiling import TilePlan, default_overlap
from cwsam_geo.model.runtime.predictor import LoadedModel
from cwsam_geo.prediction.blend import profile

Mode = Literal["both", "vv", "vh"]
"""Which bands a model is given."""

MODES: tuple[Mode, ...] = get_args(Mode)
BANDS: dict[Mode, tuple[str, ...]] = {"both": ("VV", "VH"), "vv": ("VV",), "vh": ("VH",)}

_BATCH = 8


@dataclass(frozen=True)
class ModelMap:
    """What a model says of a scene.

    Attributes:
        codes: The judge's codes, shape (H, W), uint8.
        confidence: Probability of the winning class, shape (H, W).
        water: Probability of water, shape (H, W).
    """

    codes: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    water: NDArray[np.float32]


def map_scene(
    model: LoadedModel,
    bands: Mapping[str, NDArray[np.float32]],
    valid: NDArray[np.bool_],
    mode: Mode,
    shift: int = 0,
) -> NDArray[np.float32]:
    """Logits at full resolution, blended as ``predict`` does it: shape (K, H, W).

    A model that cannot do without VV is given a level below every clip in its place.

    Args:
        model: The model.
        bands: VV and VH in dB, each (H, W).
        valid: Where there is data, (H, W).
        mode: Which bands it is given.
        shift: By how many pixels the tile grid begins before the scene.
    """
    spec, size = model.preprocess, model.architecture.tile_size
    wanted = BANDS[mode]
    arrays, places = [], []
    for name, fill in zip(spec.bands, spec.fill, strict=True):
        if name in wanted:
            arrays.append(bands[name])
        elif fill is None:
            arrays.append(np.full(valid.shape, ABSENT_DB, np.float32))
        else:
            places.append(None)
            continue
        places.append(len(arrays) - 1)
    values = np.pad(np.stack(arrays), ((0, 0), (shift, 0), (shift, 0)))
    there = np.pad(valid, ((shift, 0), (shift, 0)))
    height, width = there.shape
    stride = model.architecture.stride
    plan = TilePlan(height, width, size, default_overlap(size), stride)
    tiles = [tile.window for tile in plan]
    bottom, right = max(t.bottom for t in tiles), max(t.right for t in tiles)
    room = ((0, bottom - height), (0, right - width))
    values, there = np.pad(values, ((0, 0), *room)), np.pad(there, room)
    side = profile("linear", size // stride, plan.overlap // stride)
    weight = torch.from_numpy(np.outer(side, side).astype(np.float32))
    classes = len(model.legend)
    total = torch.zeros(classes, bottom // stride, right // stride)
    share = torch.zeros(bottom // stride, right // stride)
    scene = SceneBands("db", tuple(places))
    for start in range(0, len(tiles), _BATCH):
        part = tiles[start : start + _BATCH]
        images = [
            spec.apply(values[(slice(None), *t.slices)], there[t.slices], scene) for t in part
        ]
        with torch.inference_mode():
            logits = model(torch.from_numpy(np.stack(images)))
        for tile, found in zip(part, logits, strict=True):
            coarse = _coarse(tile, stride)
            total[(slice(None), *coarse)] += found * weight
            share[coarse] += weight
    total /= share.clamp(min=1e-9)
    fine = torch.nn.functional.interpolate(
        total[None], scale_factor=stride, mode="bilinear", align_corners=False
    )[0]
    return fine[:, shift:height, shift:width].numpy()


def _coarse(tile: Window, stride: int) -> tuple[slice, slice]:
    rows, columns = tile.slices
    return (
        slice(rows.start // stride, rows.stop // stride),
        slice(columns.start // stride, columns.stop // stride),
    )


def model_map(
    model: LoadedModel, logits: NDArray[np.float32], mode: Mode, temperature: float | None = None
) -> ModelMap:
    """Codes and probabilities of logits.

    Args:
        model: It says what its classes are.
        logits: Shape (K, H, W).
        mode: Which bands the model was given.
        temperature: Logits are divided by it; None for the bundle's own.
    """
    codes = np.array([SAME.get(name, LAND) for name in model.legend.names], np.uint8)
    own = model.temperatures.of([b for b in model.preprocess.bands if b in BANDS[mode]])
    shown = logits / np.float32(own if temperature is None else temperature)
    shown = np.exp(shown - shown.max(0))
    probability = shown / shown.sum(0)
    # Classes that are one to the judge are added up.
    known = sorted(set(codes.tolist()))
    merged = np.stack([probability[codes == code].sum(0) for code in known])
    best = merged.argmax(0)
    water = merged[known.index(WATER)] if WATER in known else np.zeros_like(merged[0])
    return ModelMap(
        np.array(known, np.uint8)[best], merged.max(0).astype(np.float32), water.astype(np.float32)
    )
