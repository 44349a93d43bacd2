"""Loads a model bundle on a device and maps tiles to logits with it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cwsam_geo.core.counting import how_many
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.predictor import TileStack
from cwsam_geo.core.preprocess import ImageStack, PreprocessSpec, SceneBands
from cwsam_geo.core.temperatures import Temperatures
from cwsam_geo.errors import ModelError, is_out_of_memory
from cwsam_geo.model.bundles.bundle import BundleHeader, ModelBundle
from cwsam_geo.model.device import (
    Precision,
    autocast,
    resolve_device,
    resolve_precision,
    tune_allocator,
)
from cwsam_geo.model.fast.cwsam import accelerate, has_fast_network
from cwsam_geo.model.network.architecture import Architecture
from cwsam_geo.model.network.cwsam import Cwsam
from cwsam_geo.model.runtime.raw_tiles import RawStack, RawTiles
from cwsam_geo.model.runtime.torch_ops import TorchOps
from cwsam_geo.model.runtime.transfer import Fetched, LateCheck, Stopwatch, Uploads
from cwsam_geo.model.runtime.views import mean_logits
from cwsam_geo.model.store import find_model, load_full, renamed

Network = Literal["both", "plain", "fast"]
"""Which network computes.

``plain`` is the reference and supports gradients. ``fast`` gives the same numbers faster and has
its own copy of the weights. ``both`` uses ``plain`` where gradients are enabled and ``fast``
elsewhere.
"""


class LoadedModel(nn.Module):
    """A model on a device, which maps preprocessed images to float32 logits.

    Args:
        bundle: A full bundle.
        precision: Number format of the arithmetic.
        network: Which networks to keep; devices without the fast network get the plain one.
        compile: Compile the fast network with torch.compile; see ``accelerate``.
        path: The bundle's file; None for a bundle that was made in memory.

    Attributes:
        header: The bundle's metadata.
        cwsam: The plain network, or None where only the fast one is kept.
        preprocess: From a scene's bands to the model's input.
        legend: The classes, in the order of the model's channels.
        provenance: Training data, metrics, licence and so on.
        temperatures: Calibrated probabilities of a scene with some bands of the model are
            ``softmax(logits / temperatures.of(bands))``.
        precision: Number format of the arithmetic.
        compiled: Whether torch.compile is used; it compiles anew for each batch size.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        device: torch.device,
        precision: Precision,
        network: Network = "both",
        compile: bool = False,
        path: Path | None = None,
    ) -> None:
        super().__init__()
        self.header: BundleHeader = bundle.header
        self.path = path
        self.architecture: Architecture = bundle.architecture
        self.preprocess: PreprocessSpec = bundle.preprocess
        self.legend: Legend = bundle.legend
        self.provenance: Mapping[str, Any] = bundle.provenance
        self.temperatures: Temperatures = bundle.temperatures
        self.precision: Precision = precision
        self.device = device
        self.cwsam: Cwsam | None = bundle.build().to(device)
        self._network = network if has_fast_network(device) else "plain"
        self.compiled = compile and self._network != "plain"
        # A tuple (state of the plain weights, network) hides the fast network from nn.Module: its
        # weights repeat those of the plain network and must not appear in ``state_dict``.
        self._fast: tuple[object, nn.Module] | None = None
        if self._network != "plain" and device.type == "cpu":
            tune_allocator()
        if self._network == "fast":
            self._fast = (None, accelerate(self.cwsam, precision, compile))
            self.cwsam = None
        self.eval()

    def __repr__(self) -> str:
        # torch would list every layer.
        name = "in memory" if self.path is None else self.path.name
        spec = self.preprocess
        return (
            f"LoadedModel({name}: {', '.join(self.legend.names)}; bands {', '.join(spec.bands)} "
            f"as {spec.scaling}; tiles of {spec.tile_size} px; {self.device}, {self.precision})"
        )

    def forward(self, images: Tensor) -> Tensor:
        """Computes the logits of preprocessed images.

        The result is differentiable where gradients are enabled and the plain network is kept.

        Args:
            images: Shape (B, 3, T, T) with T the model's tile size, float32.

        Returns:
            Logits, shape (B, K, T / stride, T / stride), float32. The stride is 4 with SAM's
            backbones.

        Raises:
            ModelError: The images have another shape.
        """
        if self.cwsam is None or (self._network == "both" and not torch.is_grad_enabled()):
            fast: Tensor = self._accelerated()(images)
            return fast
        with autocast(self.device, self.precision):
            logits: Tensor = self.cwsam(images)
        return logits.float()

    def _accelerated(self) -> nn.Module:
        """Returns the fast network, rebuilt if the plain network's weights have changed."""
        if self.cwsam is None:
            assert self._fast is not None
            return self._fast[1]
        # torch counts in-place changes in a tensor's version, except in inference mode.
        weights = self.cwsam.state_dict().values()
        state = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in weights)
        if self._fast is None or self._fast[0] != state:
            self._fast = (state, accelerate(self.cwsam, self.precision, self.compiled))
        return self._fast[1]


def load_model(
    path_or_name: str | os.PathLike[str],
    device: str = "cpu",
    precision: str = "fp32",
    network: Network = "both",
) -> LoadedModel:
    """Loads a model bundle.

    Args:
        path_or_name: Path of a bundle, or name of an installed or downloaded one.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        network: ``both`` uses the plain, differentiable network where gradients are enabled, and
            the fast one elsewhere (``torch.no_grad``). ``fast`` or ``plain`` keeps only one
            network, for half the memory.

    Returns:
        A module whose ``forward`` takes preprocessed images (B, 3, T, T), float32, and returns
        logits (B, K, T / stride, T / stride), float32.

    Raises:
        ModelError: The bundle, or the base of an adapters bundle, is missing or damaged.
        UsageError: The device or the precision is not available on this machine.
    """
    torch_device = resolve_device(device)
    path = find_model(path_or_name)
    if (remark := renamed(path_or_name, path)) is not None:
        warnings.warn(remark, FutureWarning, stacklevel=2)
    bundle = load_full(path)
    number_format = resolve_precision(precision, torch_device, fast=network == "fast")
    return LoadedModel(bundle, torch_device, number_format, network, path=path)


class TorchPredictor:
    """Maps tiles to logits for ``map_scene``; implements ``cwsam_geo.core.predictor.Predictor``.

    On CUDA a call returns once its work is queued. Raw tiles are uploaded while the device computes
    and are preprocessed there. Logits that are not finite are reported by a later call, or by
    ``finish`` at the latest. On other devices the CPU preprocesses tiles (numpy is as fast as torch
    there), and the logits are complete when a call returns.

    Args:
        tta: Test-time augmentation: average the logits over the views of ``mean_logits``.

    Attributes:
        tile_size: Side of a tile in pixels.
        stride: Pixels of the tile per logit along each axis.
        num_classes: K.
        precision: Number format of the arithmetic.
        ops: Arithmetic on the logits.
    """

    def __init__(self, model: LoadedModel, tta: bool = False) -> None:
        self.model = model
        self.tile_size = model.architecture.tile_size
        self.stride = model.architecture.stride
        self.num_classes = model.architecture.num_classes
        self.device = model.device
        self.precision = model.precision
        self.ops = TorchOps(model.device)
        self._tta = tta
        self._uploads = Uploads(model.device)
        self._finite = LateCheck()
        self._watch = Stopwatch(model.device)

    def stack(self, spec: PreprocessSpec, scene: SceneBands, size: int) -> TileStack:
        """Makes a stack for up to ``size`` tiles of a scene."""
        if self.device.type != "cuda":
            return ImageStack(spec, scene, size)
        # torch.compile compiles anew for each batch size, so a compiled network gets one size.
        return RawStack(spec, scene, size, self.device, fixed=self.model.compiled)

    def __call__(self, tiles: NDArray[np.float32] | RawTiles) -> Tensor:
        """Computes the logits of a batch.

        Args:
            tiles: Raw tiles, or preprocessed tiles of shape (B, 3, T, T), float32.

        Returns:
            Logits, shape (B, K, T / stride, T / stride), float32, on the device.

        Raises:
            MemoryError: The device has too little memory for a batch of this size.
            ModelError: Logits of this or an earlier batch are not finite, so their classes would
                be meaningless.
        """
        try:
            with self._watch.running():
                logits = self._logits(tiles)
                self._finite.add(Fetched(logits.isfinite().all()))
                self._check(wait=False)
            return logits
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, because the error's traceback keeps the tensors of the batch alive.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        raise MemoryError(
            f"out of memory on {self.device} with {how_many(len(tiles), 'tile')} at once"
        )

    def finish(self) -> float:
        """Waits until all batches are computed.

        Returns:
            Seconds that the device spent computing logits.

        Raises:
            ModelError: Logits of any batch are not finite.
        """
        self._check(wait=True)
        return self._watch.seconds()

    def _check(self, wait: bool) -> None:
        if not self._finite.passed(wait):
            raise ModelError(
                f"the model's values overflow {self.precision}; use --precision fp32 (or bf16)"
            )

    @torch.inference_mode()
    def _logits(self, tiles: NDArray[np.float32] | RawTiles) -> Tensor:
        if isinstance(tiles, RawTiles):
            images = tiles.images(self._uploads)
        else:
            images = torch.from_numpy(np.ascontiguousarray(tiles)).to(self.device)
        logits = mean_logits(self.model, images, self.stride) if self._tta else self.model(images)
        # Drop the logits of tiles that only fill up a batch of fixed size.
        kept: Tensor = logits[: len(tiles)]
        return kept
