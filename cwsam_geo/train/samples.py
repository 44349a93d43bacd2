"""What the loop trains on, and how batches of it come about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

Sample = tuple[NDArray[np.float32], NDArray[np.uint16]]
"""A preprocessed image (3, T, T), and for each pixel (T, T) a row of the table of class sets."""

Key = tuple[int, int]
"""Epoch and index of a sample."""


class Samples(Protocol):
    """Labelled tiles; the same for the same epoch and index, in whichever process."""

    def __len__(self) -> int:
        """Samples of an epoch."""

    def sample(self, epoch: int, index: int) -> Sample:
        """A sample.

        Args:
            epoch: From 0.
            index: From 0; training rounds the number of samples up to whole batches.
        """


@dataclass(frozen=True)
class Share:
    """Which samples of a batch are this process's.

    Attributes:
        rank: Which process this is.
        world: How many there are.
    """

    rank: int = 0
    world: int = 1


class EpochBatches(Sampler[list[Key]]):
    """Keys of a process's batches: every process has the same number of full batches.

    Args:
        samples: Samples of an epoch, at least; rounded up.
        batch_size: Samples of a batch and process.
        multiple: The number of batches is a multiple of this.
        share: Which process this is.

    Attributes:
        epoch: The epoch that the next iteration is for.
    """

    def __init__(self, samples: int, batch_size: int, multiple: int, share: Share) -> None:
        together = batch_size * share.world
        self._batches = -(-samples // (together * multiple)) * multiple
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
    """Keys of a process's share of all validation tiles, each tile once.

    Args:
        tiles: How many there are.
        batch_size: Tiles of a batch, at most.
        share: Which process this is.
    """

    def __init__(self, tiles: int, batch_size: int, share: Share) -> None:
        own = range(share.rank, tiles, share.world)
        starts = range(0, len(own), batch_size)
        self._batches = [[(0, i) for i in own[s : s + batch_size]] for s in starts]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self._batches)


class _Tensors(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        image, labels = self._samples.sample(*key)
        return (
            torch.from_numpy(np.ascontiguousarray(image, np.float32)),
            torch.from_numpy(labels.astype(np.int64)),
        )


def batch_loader(
    samples: Samples, batches: Sampler[list[Key]], workers: int, pin: bool = False
) -> DataLoader[Any]:
    """Batches of images (B, 3, T, T), float32, and label rows (B, T, T), int64.

    Args:
        samples: Where they come from.
        batches: The keys of every batch.
        workers: Processes that read ahead; 0 for none.
        pin: Keep batches in page-locked memory, for CUDA.
    """
    return DataLoader(
        _Tensors(samples),
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        # Not forked: GDAL's open files and torch's threads do not survive that.
        multiprocessing_context="spawn" if workers else None,
    )
