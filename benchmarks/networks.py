"""The networks and pipelines that model.py compares, on the same random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from affine import Affine
from numpy.typing import NDArray
from restated import Restated
from torch import Tensor

from cwsam_geo.core.grid import SceneGrid, Window
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.preprocess import SceneBands, amplitude8_spec
from cwsam_geo.model.bundles.bundle import BundleHeader, ModelBundle
from cwsam_geo.model.fast.arithmetic import choose_arithmetic
from cwsam_geo.model.fast.attention import GlobalAttention
from cwsam_geo.model.fast.cwsam import FastCwsam, accelerate
from cwsam_geo.model.network.architecture import BACKBONES, Architecture
from cwsam_geo.model.network.cwsam import Cwsam
from cwsam_geo.model.runtime.predictor import LoadedModel, TorchPredictor
from cwsam_geo.prediction.pipeline import MapSettings, Sinks, map_scene

Network = Callable[[Tensor], Tensor]

NETWORKS = """restated  the authors' algorithm in plain torch
plain     our own model
autocast  that under torch's bf16 autocast
fast      the fast path, as predict runs it
compiled  the fast path through torch.compile, as predict --compile runs it (CUDA)
graphed   the same with CUDA graphs (torch.compile's "reduce-overhead")
biased    the fast path with the biases of all pairs in memory, given to torch's fused attention
piped     predict's pipeline around the fast path, without files: preprocessing, blending, bytes"""


def random_cwsam(settings: dict[str, Any]) -> Cwsam:
    """The same random weights in every process; nothing is zero."""
    torch.manual_seed(0)
    backbone = BACKBONES[settings["backbone"]]
    quirks = dict.fromkeys(("scrambled_prompt", "attend_padding", "classes_fastest"), True)
    model = Cwsam(Architecture(backbone, settings["classes"], backbone.tile_size, **quirks)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                parameter.normal_(std=0.3)
            elif parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.5 * parameter.shape[1] ** -0.5)
    return model


def network_of(name: str, cwsam: Cwsam) -> Network:
    """One of ``NETWORKS``; those of the fast path as ``NAME_PRECISION``."""
    device = cwsam.encoder.pos_embed.device
    if name == "restated":
        return Restated(cwsam).to(device)
    if name == "plain":
        return cwsam
    if name == "autocast":

        def autocast(images: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16):
                logits: Tensor = cwsam(images)
            return logits.float()

        return autocast
    way, precision = name.split("_")
    if way in ("fast", "compiled"):
        fast: Network = accelerate(cwsam, precision, compile=way == "compiled")  # type: ignore[arg-type]
        return fast
    arithmetic = choose_arithmetic(device, precision, compiled=way == "graphed")  # type: ignore[arg-type]
    if way == "biased":
        arithmetic = replace(arithmetic, kernel="folded")
    own = FastCwsam(cwsam, arithmetic).eval()
    if way == "graphed":
        graphed: Network = torch.compile(own, dynamic=False, mode="reduce-overhead")
        return graphed
    if way == "biased":
        for module in own.modules():
            if isinstance(module, GlobalAttention):
                module._folded = partial(biased, module)  # type: ignore[method-assign]
        return own
    raise ValueError(f"no network {name!r}")


def biased(attention: GlobalAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Fused attention with the relative positions as a bias of all pairs of tokens."""
    grid = attention.layout.grid
    by_row, by_column = attention.positions(q, grid, grid)
    bias = by_row[..., None] + by_column[..., None, :]
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=bias.flatten(-2).flatten(2, 3), scale=1.0
    )


class Piped:
    """Predict's pipeline on a scene of 8-bit amplitude in memory; what it maps is dropped.

    Args:
        cwsam: The model, which is on its device.
        precision: Of the fast path.
        batch: Tiles at once.
        batches: Batches of a run; at least two, so that one can be prepared beside another.

    Attributes:
        tiles: Tiles of a run.
    """

    def __init__(self, cwsam: Cwsam, precision: str, batch: int, batches: int) -> None:
        architecture = cwsam.architecture
        size = architecture.tile_size
        overlap, classes = size // 8, architecture.num_classes
        items = [{"code": i, "name": f"class {i}", "color": f"#{i:06x}"} for i in range(classes)]
        legend = Legend.from_list(items, where="benchmark")
        spec = amplitude8_spec(size)
        header = BundleHeader("full", architecture, spec, legend, {"trained": False})
        bundle = ModelBundle.from_model(cwsam, header)
        device = cwsam.encoder.pos_embed.device
        model = LoadedModel(bundle, device, precision, "fast")  # type: ignore[arg-type]
        self._predictor = TorchPredictor(model)
        self._job = MapSettings(
            spec, legend, SceneBands("amplitude", (0,)), overlap, "cosine", batch
        )
        rows = max(2, batches)
        self.tiles = rows * batch
        self._source = NoiseSource(*(size + (n - 1) * (size - overlap) for n in (rows, batch)))

    def __call__(self) -> None:
        """Maps the scene."""
        summary = map_scene(self._source, self._predictor, self._job, Sinks(Dropped()))
        assert summary.tiles == self.tiles


class NoiseSource:
    """A scene of noise that repeats itself, always in memory."""

    names, hints, label, complex = (None,), (), "noise", False

    def __init__(self, height: int, width: int) -> None:
        self.grid = SceneGrid(height, width, Affine.scale(10, -10), None)
        self._values = np.random.default_rng(0).integers(0, 256, (1, 2048, width))
        self._values = self._values.astype(np.float32)

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Values (1, h, w), and that all of them are data."""
        rows = np.arange(window.row, window.bottom) % self._values.shape[1]
        values = self._values[:, rows, window.col : window.right]
        return values, np.ones(values.shape[1:], bool)

    def close(self) -> None:
        """There is no file."""


class Dropped:
    """A sink that keeps nothing."""

    def write(self, window: Window, values: NDArray[np.uint8]) -> None:
        """Takes final pixels."""
