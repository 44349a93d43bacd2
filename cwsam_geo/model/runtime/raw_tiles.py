"""Raw tiles that the GPU preprocesses, which saves transfer and work of the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cwsam_geo.core.preprocess import TINY_POWER, PreprocessSpec, SceneBands, Units
from cwsam_geo.model.runtime.transfer import Uploads, pinned


def preprocess(values: Tensor, valid: Tensor, spec: PreprocessSpec, scene: SceneBands) -> Tensor:
    """Does what ``PreprocessSpec.apply`` does, for a batch and on the device of the tensors.

    Args:
        values: The scene's bands, shape (B, N, T, T), float32; any value where not valid.
        valid: True where there is data, shape (B, T, T).
        spec: The model's preprocessing.
        scene: Units of the N bands, and which band of the model each of them is.

    Returns:
        Normalised channels, shape (B, 3, T, T), float32; 0 where not valid.
    """
    bands: list[Tensor | float] = []
    for position, (low, high), fill in zip(scene.positions, spec.clip, spec.fill, strict=True):
        if position is None:
            bands.append(float("nan") if fill is None else fill)
        else:
            bands.append(_scaled(values[:, position], spec, scene).clamp(low, high))
    # A channel is a band or the difference of two bands, normalised.
    out = values.new_empty(len(values), 3, *values.shape[2:])
    for i, (first, second) in enumerate(spec.terms):
        out[:, i] = bands[first]
        if second is not None:
            out[:, i] -= bands[second]
        out[:, i].sub_(spec.mean[i]).div_(spec.std[i])
    return out.masked_fill_(~valid[:, None], 0)


def _scaled(values: Tensor, spec: PreprocessSpec, scene: SceneBands) -> Tensor:
    if spec.scaling == "db":
        return _to_db(values, scene.units)
    if spec.scaling == "linear":
        return _to_power(values, scene.units)
    low, high = scene.stretch or (0.0, 255.0)
    amplitude = values
    if scene.units != "amplitude":
        amplitude = _to_power(values, scene.units).clamp(min=0).sqrt()
    return (amplitude - low) / (high - low)


def _to_power(values: Tensor, units: Units) -> Tensor:
    if units == "db":
        return torch.pow(10.0, values / 10)
    return values.square() if units == "amplitude" else values


def _to_db(values: Tensor, units: Units) -> Tensor:
    if units == "db":
        return values
    amplitude = units == "amplitude"
    least = TINY_POWER**0.5 if amplitude else TINY_POWER
    return values.clamp(min=least).log10() * (20 if amplitude else 10)


@dataclass(frozen=True)
class RawTiles:
    """A batch of tiles with a scene's raw values, in host memory that a device copies from.

    Attributes:
        values: The scene's bands, shape (B, N, T, T), float32.
        valid: True where there is data, shape (B, T, T).
        count: Number of actual tiles; any others fill up the batch, and their logits are dropped.
        spec: The model's preprocessing.
        scene: Units of the bands, and which band of the model each of them is.
    """

    values: Tensor
    valid: Tensor
    count: int
    spec: PreprocessSpec
    scene: SceneBands

    def __len__(self) -> int:
        return self.count

    def images(self, uploads: Uploads) -> Tensor:
        """Preprocesses the tiles on the device of ``uploads``; returns shape (B, 3, T, T)."""
        return preprocess(uploads(self.values), uploads(self.valid), self.spec, self.scene)


class RawStack:
    """Implements ``TileStack`` for raw tiles, in host memory that a device copies from.

    Each pixel is transferred as one float32 per band and one byte of validity, because sources
    deliver physical values, whatever number format the file has.

    Args:
        spec: The model's preprocessing.
        scene: Units of the bands, and which band of the model each of them is.
        size: Maximum number of tiles.
        device: The device to which tiles are copied.
        fixed: Fill up every part with empty tiles to the requested count, so that the device gets
            batches of one shape only.
    """

    def __init__(
        self,
        spec: PreprocessSpec,
        scene: SceneBands,
        size: int,
        device: torch.device,
        fixed: bool = False,
    ) -> None:
        self._spec, self._scene, self._size = spec, scene, size
        self._device, self._fixed = device, fixed
        # Allocated with the first tile, which tells the number of bands.
        self._values: Tensor | None = None
        side = spec.tile_size
        self._valid = pinned((size, side, side), torch.bool, device)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Adds a copy of a tile: raw values (N, T, T) and validity (T, T)."""
        if self._values is None:
            shape = (self._size, *values.shape)
            self._values = pinned(shape, torch.float32, self._device)
        np.copyto(self._values[self._count].numpy(), values)
        np.copyto(self._valid[self._count].numpy(), valid)
        self._count += 1

    def part(self, start: int, count: int) -> RawTiles:
        """Returns up to ``count`` tiles from index ``start`` on."""
        assert self._values is not None
        end = min(start + count, self._count)
        values, valid = self._values[start:end], self._valid[start:end]
        if self._fixed and end - start < count:
            values, valid = self._filled_up(values, count), self._filled_up(valid, count)
        return RawTiles(values, valid, end - start, self._spec, self._scene)

    def _filled_up(self, tiles: Tensor, count: int) -> Tensor:
        filled = pinned((count, *tiles.shape[1:]), tiles.dtype, self._device)
        filled[: len(tiles)] = tiles
        filled[len(tiles) :] = 0
        return filled
