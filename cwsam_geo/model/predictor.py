"""Models made ready for use: from a bundle, a device and a precision to a callable on tiles."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cwsam_geo.errors import ModelError, is_out_of_memory
from cwsam_geo.legend import Legend
from cwsam_geo.model.build import Architecture, Cwsam
from cwsam_geo.model.bundle import ModelBundle
from cwsam_geo.model.device import Precision, resolve_device, resolve_precision
from cwsam_geo.model.fast import accelerate, tune_allocator
from cwsam_geo.model.ops import TorchOps
from cwsam_geo.model.store import load_full
from cwsam_geo.model.tiles import RawStack, RawTiles
from cwsam_geo.model.transfer import Fetched, LateCheck, Stopwatch, Uploads
from cwsam_geo.preprocess import ImageStack, PreprocessSpec, SceneBands, TileStack

_AUTOCAST: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
_ACCELERATED = ("cpu", "cuda")

Network = Literal["both", "plain", "fast"]
"""Which network computes: ``plain`` is the yardstick and has gradients, ``fast`` gives the same
numbers sooner and holds its own weights, ``both`` is plain with gradients and fast without."""


class LoadedModel(nn.Module):
    """A model on a device: preprocessed images to float32 logits.

    Args:
        bundle: A full bundle.
        device: Where to compute.
        precision: Number format of the arithmetic.
        network: Which network to keep.
        compile: Let torch.compile rewrite the fast network; see ``accelerate``.

    Attributes:
        cwsam: The plain network, or None where only the fast one is kept.
        device: Where it computes.
        architecture: Its sizes and options.
        preprocess: From a scene's bands to its input.
        legend: Its classes, in the order of its channels.
        provenance: Its data, metrics, licence and so on.
        precision: Number format of the arithmetic.
        compiled: Whether torch.compile rewrites it, once for each size of batch.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        device: torch.device,
        precision: Precision,
        network: Network = "both",
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.architecture: Architecture = bundle.architecture
        self.preprocess: PreprocessSpec = bundle.preprocess
        self.legend: Legend = bundle.legend
        self.provenance: Mapping[str, Any] = bundle.provenance
        self.precision: Precision = precision
        self.device = device
        self.cwsam: Cwsam | None = bundle.build().to(device)
        self._network = network if device.type in _ACCELERATED else "plain"
        self.compiled = compile and self._network != "plain"
        # Not a submodule: its weights are the plain network's, in another layout.
        self._fast: tuple[object, nn.Module] | None = None
        if self._network != "plain" and device.type == "cpu":
            tune_allocator()
        if self._network == "fast":
            self._fast = (None, accelerate(self.cwsam, precision, compile))
            self.cwsam = None
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits; differentiable where gradients are on and the plain network is kept.

        Args:
            images: Preprocessed, shape (B, 3, T, T) with T the model's tile size, float32.

        Returns:
            Logits, shape (B, K, T / stride, T / stride), float32; the stride is 4 with SAM's
            backbones.

        Raises:
            ModelError: The images have another size.
        """
        if self.cwsam is None or (self._network == "both" and not torch.is_grad_enabled()):
            fast: Tensor = self._accelerated()(images)
            return fast
        dtype = _AUTOCAST.get(self.precision)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            logits: Tensor = self.cwsam(images)
        return logits.float()

    def _accelerated(self) -> nn.Module:
        """The fast network; made again when the plain one's weights have changed since."""
        if self.cwsam is None:
            assert self._fast is not None
            return self._fast[1]
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
    """Loads a model bundle, ready for use.

    Args:
        path_or_name: A bundle's path, or the name of one that is installed or downloaded.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        network: ``both``: fast without gradients (``torch.no_grad``), plain and differentiable
            with them; ``fast`` or ``plain``: only that one, for half the memory.

    Returns:
        A module whose ``forward`` takes preprocessed images (B, 3, T, T), float32, and returns
        logits (B, K, T / stride, T / stride), float32.

    Raises:
        ModelError: The bundle, or the base of an adapters bundle, is missing or damaged.
        UsageError: There is no such device or precision here.
    """
    where = resolve_device(device)
    bundle = load_full(path_or_name)
    resolved = resolve_precision(precision, where, fast=network == "fast")
    return LoadedModel(bundle, where, resolved, network)


class TorchPredictor:
    """Tiles to logits, as ``map_scene`` calls it.

    On CUDA it returns as soon as the device has its orders: raw tiles are uploaded beside the
    computing, and logits that are not finite are noticed when the device has come to them, at the
    latest by ``finish``. Elsewhere the CPU preprocesses (numpy does it as fast as torch does), and
    everything is done when a call returns.

    Args:
        model: A loaded model.
        tta: Average the logits over the tile and its three mirror images.

    Attributes:
        model: The model.
        tile_size: Side of a tile in pixels.
        stride: Pixels of the tile for one of the logits.
        num_classes: K.
        device: Where it computes.
        precision: Number format of the arithmetic.
        ops: Arithmetic on its logits.
    """

    def __init__(self, model: LoadedModel, tta: bool = False) -> None:
        self.model = model
        self.tile_size = model.architecture.tile_size
        self.stride = model.architecture.stride
        self.num_classes = model.architecture.num_classes
        self.device = model.device
        self.precision = model.precision
        self.ops = TorchOps(model.device)
        self._flips = _FLIPS if tta else _FLIPS[:1]
        self._uploads = Uploads(model.device)
        self._finite = LateCheck()
        self._watch = Stopwatch(model.device)

    def stack(self, spec: PreprocessSpec, scene: SceneBands, size: int) -> TileStack:
        """Room for the raw tiles of a batch.

        Args:
            spec: The model's preprocessing.
            scene: How the tiles' bands answer to the model's.
            size: Tiles, at most.
        """
        if self.device.type != "cuda":
            return ImageStack(spec, scene, size)
        # A compiled network is written anew for each size of batch.
        return RawStack(spec, scene, size, self.device, fixed=self.model.compiled)

    def __call__(self, tiles: NDArray[np.float32] | RawTiles) -> Tensor:
        """Logits of a batch.

        Args:
            tiles: Raw ones, or preprocessed ones of shape (B, 3, T, T), float32.

        Returns:
            Logits, shape (B, K, T / stride, T / stride), float32, on the device.

        Raises:
            MemoryError: The device's memory does not suffice for a batch of this size.
            ModelError: Numbers grew beyond the precision; a class would come out of nothing.
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
        # Outside the handler: the error's traceback would keep the batch's tensors alive.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        raise MemoryError(f"out of memory on {self.device} with {len(tiles)} tiles at once")

    def finish(self) -> float:
        """Waits until all is computed.

        Returns:
            Seconds that the device has computed logits.

        Raises:
            ModelError: See ``__call__``; for any batch so far.
        """
        self._check(wait=True)
        return self._watch.seconds()

    def _check(self, wait: bool) -> None:
        if not self._finite.passed(wait):
            raise ModelError(
                f"the model's numbers are beyond {self.precision}; use --precision fp32 (or bf16)"
            )

    @torch.inference_mode()
    def _logits(self, tiles: NDArray[np.float32] | RawTiles) -> Tensor:
        if isinstance(tiles, RawTiles):
            images = tiles.images(self._uploads)
        else:
            images = torch.from_numpy(np.ascontiguousarray(tiles)).to(self.device)
        total: Tensor | None = None
        for axes in self._flips:
            logits = self.model(images.flip(axes)).flip(axes) if axes else self.model(images)
            total = logits if total is None else total.add_(logits)
        assert total is not None
        total = total[: len(tiles)]
        return total if len(self._flips) == 1 else total.div_(len(self._flips))
