"""How many tiles a training step takes at once, where the user leaves it open."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cwsam_geo.errors import is_out_of_memory

MOST = 32
"""Largest batch that is chosen; larger ones would leave few steps to learn in."""

_LEAST_STEPS = 8
_SHARE = 0.85
_CPU_PIXELS = 512 * 512
_CPU_MOST = 8


def cpu_batch_size(tile_size: int) -> int:
    """As many tiles as one of 512 px has pixels, at most 8.

    Args:
        tile_size: Side of a tile in pixels.
    """
    return min(max(_CPU_PIXELS // tile_size**2, 1), _CPU_MOST)


def largest_batch(attempt: Callable[[int], None], device: torch.device, samples: int) -> int:
    """The largest power of two that fits into a GPU's memory, found by trying.

    Args:
        attempt: Runs a step's forward and backward pass with that many tiles.
        device: A CUDA device.
        samples: Samples of an epoch and process; an epoch keeps a few steps.

    Returns:
        At least 1; that a single tile fits is for the training itself to find out.
    """
    best, size = 1, 1
    total = torch.cuda.get_device_properties(device).total_memory
    while size <= min(MOST, max(samples // _LEAST_STEPS, 1)):
        torch.cuda.reset_peak_memory_stats(device)
        try:
            attempt(size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break
        if torch.cuda.max_memory_reserved(device) > _SHARE * total:
            break
        best, size = size, 2 * size
    torch.cuda.empty_cache()
    return best
