"""The batch size of training where the user does not set one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cwsam_geo.errors import is_out_of_memory

MOST = 32
"""Largest batch size that is chosen; larger ones would leave too few steps to learn in."""

# An epoch keeps at least this many steps, however few samples it has.
_LEAST_STEPS = 8
# Share of the GPU's memory that a trial batch may reserve; the rest is headroom for training.
_SHARE = 0.85
# Pixels of a batch on the CPU (one tile of 512 px), and the most tiles that make them up.
_CPU_PIXELS = 512 * 512
_CPU_MOST = 8


def cpu_batch_size(tile_size: int) -> int:
    """The batch size on a CPU: tiles that together have as many pixels as one of 512 px, 1 to 8.

    Args:
        tile_size: Side of a tile in pixels.
    """
    return min(max(_CPU_PIXELS // tile_size**2, 1), _CPU_MOST)


def largest_batch(attempt: Callable[[int], None], device: torch.device, samples: int) -> int:
    """Finds by trial the largest power of two that fits into a GPU's memory.

    Args:
        attempt: Runs the forward and backward pass of a step with a given number of tiles.
        device: A CUDA device.
        samples: Samples that one process trains on in an epoch; an epoch keeps at least 8 steps.

    Returns:
        At least 1, even where a single tile does not fit; training itself reports that.
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
