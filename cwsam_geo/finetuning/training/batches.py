"""Samples for the training loop, and their distribution over batches and processes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cwsam_geo.errors import CwsamGeoError, is_out_of_memory

MOST = 32
"""Largest batch size that is chosen; larger ones would leave too few steps to learn in."""

# An epoch keeps at least this many steps, however few samples it has.
_LEAST_STEPS = 8

# Share of the GPU's memory that a trial batch may reserve; the rest is headroom for training.
_SHARE = 0.85

# Pixels of a batch on the CPU (one tile of 512 px), and the most tiles that make them up.
_CPU_PIXELS = 512 * 512

_CPU_MOST = 8

_GPU_WORKERS = 4
"""Worker processes for a GPU, at most. One loads about 60 tiles of 512 px in a second."""

_AHEAD = 2
"""Batches that torch loads ahead in each worker."""

_PIXEL_BYTES = 3 * 4 + 8
"""Bytes of a pixel in a batch: three channels of float32, and a label row of int64."""

_SHARED_MEMORY = "/dev/shm"
"""Where worker processes put their batches on Linux. A Docker container has 64 MB there."""

Sample = tuple[NDArray[np.float32], NDArray[np.uint16]]
"""A preprocessed image (3, T, T), and for each pixel (T, T) a row of the table of class sets."""

Key = tuple[int, int]
"""Epoch and index of a sample, both from 0."""


class Samples(Protocol):
    """Labelled tiles. The same epoch and index give the same tile, in every process."""

    def __len__(self) -> int:
        """Number of samples of an epoch."""

    def sample(self, epoch: int, index: int) -> Sample:
        """Returns a sample.

        Args:
            epoch: Number of the epoch, from 0.
            index: Number of the sample, from 0. It may be beyond the length, because training
                rounds the number of samples up to whole batches.
        """


@dataclass(frozen=True)
class ProcessShare:
    """This process's share of the samples: every ``world``-th, from ``rank`` on.

    Attributes:
        rank: Number of this process, from 0.
        world: Number of processes.
    """

    rank: int = 0
    world: int = 1


class EpochBatches(Sampler[list[Key]]):
    """Keys of a process's training batches.

    Every process has the same number of full batches.

    Args:
        samples: Samples of an epoch over all processes; rounded up to full batches.
        batch_size: Samples in a batch of one process.
        multiple: The number of batches is rounded up to a multiple of this.

    Attributes:
        epoch: The epoch of the next iteration; the training loop sets it.
    """

    def __init__(self, samples: int, batch_size: int, multiple: int, share: ProcessShare) -> None:
        global_batch = batch_size * share.world
        self._batches = -(-samples // (global_batch * multiple)) * multiple
        self._batch_size, self._share = batch_size, share
        self.epoch = 0

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[Key]]:
        rank, world = self._share.rank, self._share.world
        indices = range(rank, self._batches * self._batch_size * world, world)
        for start in range(0, len(indices), self._batch_size):
            yield [(self.epoch, i) for i in indices[start : start + self._batch_size]]


class TileBatches(Sampler[list[Key]]):
    """Keys of a process's validation batches; over all processes each tile comes once.

    Args:
        tiles: Number of tiles over all processes.
        batch_size: Largest number of tiles in a batch.
    """

    def __init__(self, tiles: int, batch_size: int, share: ProcessShare) -> None:
        own = range(share.rank, tiles, share.world)
        starts = range(0, len(own), batch_size)
        self._batches = [[(0, i) for i in own[s : s + batch_size]] for s in starts]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self._batches)


class _Tensors(Dataset[tuple[Tensor, Tensor]]):
    """Samples as tensors; torch indexes with int64, so label rows are widened."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        image, labels = self._samples.sample(*key)
        return (
            torch.from_numpy(np.ascontiguousarray(image, np.float32)),
            torch.from_numpy(labels.astype(np.int64)),
        )


class Batches:
    """Batches of images (B, 3, T, T), float32, and label rows (B, T, T), int64.

    Errors of worker processes are raised here as the worker raised them.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the batches.

        Raises:
            CwsamGeoError: A tile cannot be read, or the workers ran out of memory or files.
        """
        try:
            yield from self._loader
        except CwsamGeoError as error:
            raise type(error)(_worker_message(error)) from None
        except (RuntimeError, OSError) as error:
            shortage = _worker_shortage(str(error)) if self._loader.num_workers else None
            if shortage is None:
                raise
            raise CwsamGeoError(shortage) from None


def _worker_message(error: CwsamGeoError) -> str:
    # torch puts a worker's whole traceback into the message. Its last line is the error itself.
    text = str(error)
    return text.rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")[2].strip()


def _worker_shortage(text: str) -> str | None:
    """Says what workers ran out of, and both ways out; None for errors of other kinds."""
    here = "pass --workers 0 (in the region file: workers: 0)"
    if "shared memory" in text or "(shm)" in text or "/dev/shm" in text:
        return (
            "the worker processes that load tiles ran out of shared memory (/dev/shm; a Docker "
            f"container has 64 MB of it): {here}, or give the container more "
            "(docker run --shm-size=2g, or --ipc=host)"
        )
    if "Too many open files" in text or "received 0 items of ancdata" in text:
        return (
            "the worker processes that load tiles hold too many open files: "
            f"{here}, or allow more (ulimit -n 4096)"
        )
    if "DataLoader worker" in text and ("killed by signal" in text or "unexpectedly" in text):
        return (
            "a worker process that loads tiles was killed, most likely because memory ran out: "
            f"{here}, or use fewer workers"
        )
    return None


def batch_loader(
    samples: Samples, batches: Sampler[list[Key]], workers: int, pin: bool = False
) -> Batches:
    """Loads batches of samples.

    Args:
        batches: The keys of each batch.
        workers: Worker processes that load ahead; 0 to load in this process.
        pin: Put batches into page-locked memory, for faster copies to a CUDA device.
    """
    loader = DataLoader(
        _Tensors(samples),
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        # Not "fork": open files of GDAL and threads of torch do not survive it.
        multiprocessing_context="spawn" if workers else None,
    )
    return Batches(loader)


def worker_count(requested: int | None, device: torch.device, batch_pixels: int) -> int:
    """Number of worker processes that load tiles.

    On a CPU, loading takes 0.3 % (tiles of 512 px) to 4 % (128 px, mosaics) of a training step, and
    workers would take the cores from the model: there are none. A GPU is faster than one process
    loads, so that it gets up to four workers, if shared memory has room for their batches.

    Args:
        requested: What the user wants, or None to choose.
        device: Where the model is trained.
        batch_pixels: Pixels of a batch.
    """
    if requested is not None:
        return requested
    if device.type != "cuda":
        return 0
    workers = min(_GPU_WORKERS, (os.cpu_count() or 1) - 1)
    try:
        free = shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:  # not on this system
        return workers
    # Training and validation have workers of their own.
    needed = 2 * workers * _AHEAD * batch_pixels * _PIXEL_BYTES
    return workers if needed < free else 0


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
