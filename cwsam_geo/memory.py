"""How much memory ``predict`` takes."""

from __future__ import annotations

import math

import numpy as np
import torch

from cwsam_geo.grid import SceneGrid, TilePlan
from cwsam_geo.model.build import Architecture
from cwsam_geo.model.device import auto_batch_size, tile_bytes
from cwsam_geo.model.tensors import expected_shapes

# Measured: an interpreter with torch, rasterio and geopandas loaded.
_PROGRAM_BYTES = 450 << 20
_GDAL_CACHE_BYTES = 256 << 20


def expected_memory(architecture: Architecture, plan: TilePlan, grid: SceneGrid) -> int:
    """About how many bytes ``predict`` takes at its peak on a CPU.

    The program and the weights, a batch of tiles, two row bands of the scene with what the
    reader needs besides, GDAL's cache, and the logits that wait for their neighbours.

    Args:
        architecture: Of the model.
        plan: The tiles.
        grid: The scene, with the bands that the model takes.
    """
    weights = 4 * sum(math.prod(s) for s in expected_shapes(architecture).values())
    batch = auto_batch_size(architecture, torch.device("cpu"))
    rows = min(grid.height, plan.tile_size)
    bands = 2 * rows * grid.width * (4 * grid.count + 1)
    stored = np.dtype(grid.dtype).itemsize * grid.count
    reading = min(256, grid.height) * grid.width * (stored + 4 * grid.count)
    cache = min(_GDAL_CACHE_BYTES, grid.height * grid.width * (stored + 1))
    waiting = 4 * architecture.num_classes * (grid.width // plan.stride + plan.tile_size)
    waiting *= 2 * plan.overlap // plan.stride + 1
    return (
        _PROGRAM_BYTES
        + weights
        + batch * tile_bytes(architecture)
        + bands
        + reading
        + cache
        + waiting
    )
