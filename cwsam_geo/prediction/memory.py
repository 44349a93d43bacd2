"""Estimates the memory that ``predict`` needs."""

from __future__ import annotations

import math

import numpy as np

from cwsam_geo.core.grid import SceneGrid
from cwsam_geo.core.tiling import TilePlan
from cwsam_geo.model.bundles.tensors import expected_shapes
from cwsam_geo.model.device import auto_batch_size, resolve_device, tile_bytes
from cwsam_geo.model.network.architecture import Architecture

_PROGRAM_BYTES = 450 << 20
"""Measured: an interpreter that has loaded torch, rasterio and geopandas."""

_GDAL_CACHE_BYTES = 256 << 20
"""Limit of GDAL's block cache."""


def expected_memory(architecture: Architecture, plan: TilePlan, grid: SceneGrid) -> int:
    """Estimates the peak memory of ``predict`` on a CPU, in bytes.

    Args:
        plan: Tiles over the scene.
        grid: Grid of the scene; ``count`` is the number of bands that the model takes.
    """
    weights = 4 * sum(math.prod(s) for s in expected_shapes(architecture).values())
    batch = auto_batch_size(architecture, resolve_device("cpu"))
    # Two row bands: float32 values and a mask of one byte.
    rows = min(grid.height, plan.tile_size)
    bands = 2 * rows * grid.width * (4 * grid.count + 1)
    # The reader's arrays for 256 rows, as stored and as float32.
    stored = np.dtype(grid.dtype).itemsize * grid.count
    reading = min(256, grid.height) * grid.width * (stored + 4 * grid.count)
    # GDAL's cache holds the stored bands and the byte of the map.
    cache = min(_GDAL_CACHE_BYTES, grid.height * grid.width * (stored + 1))
    # The blender's float32 logits: overlap with the rows above and below, and one row more.
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
