"""A CWSAM bundle that starts from Galileo-nano's encoder, for ``init``.

Galileo (Tseng et al. 2025, arXiv 2502.09356; MIT) learned from 127,155 places what Sentinel-1 and
other sensors tell of each other. Its nano encoder is a plain vision transformer of 4 blocks of 128
channels; with Sentinel-1 of one date alone its tokens are those of patches of up to 8 px, so its
blocks fit CWSAM's encoder: queries, keys and values are joined, relative positions begin at 0, the
adapters and prompts add nothing at first, and its encodings of channel, date and place become the
position embedding. The patch embedding takes Galileo's normalisation in, and is brought to other
patch sizes by the pseudo-inverse of the resizing, as FlexiViT does it (arXiv 2212.08013). Galileo's
last norm has no place in CWSAM and is left out; the neck's norms stand there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cwsam_geo.core.legend import Legend
from cwsam_geo.core.preprocess import PreprocessSpec
from cwsam_geo.model.bundles.bundle import BundleHeader, ModelBundle
from cwsam_geo.model.network.architecture import Architecture, Backbone
from cwsam_geo.model.upstream.convert import fresh_tensors

SHIFT = tuple(m - 2 * s for m, s in ((-11.728724, 4.887146), (-18.855582, 5.730270)))
DIVISOR = tuple(4 * s for s in (4.887146, 5.730270))
"""Galileo's input is (dB - shift) / divisor, for VV and VH."""

DIM, HEADS, BASE_PATCH = 128, 8, 8
MONTH = 5
"""The month of the encoding (June); dates of scenes to map are not asked for."""


def backbone(patch_size: int, depth: int, tile_size: int) -> Backbone:
    """CWSAM's sizes around Galileo's blocks; all of them attend to the whole tile."""
    return Backbone(
        "galileo_nano",
        dim=DIM,
        depth=depth,
        heads=HEADS,
        global_blocks=tuple(range(depth)),
        patch_size=patch_size,
        window=8,
        decoder_dim=64,
        decoder_mlp_dim=256,
        tile_size=tile_size,
    )


def resized(kernel: Tensor, size: int) -> Tensor:
    """A patch embedding's kernel (D, C, 8, 8) for patches of another size, as FlexiViT does it."""
    old = kernel.shape[-1]
    if old == size:
        return kernel
    basis = torch.eye(old * old).reshape(old * old, 1, old, old)
    small = F.interpolate(basis, (size, size), mode="bicubic", antialias=True)
    inverse = torch.linalg.pinv(small.reshape(old * old, size * size))
    return (kernel.reshape(*kernel.shape[:2], old * old) @ inverse.T).reshape(
        *kernel.shape[:2], size, size
    )


def _sincos(dim: int, positions: Tensor) -> Tensor:
    omega = 1.0 / 10000 ** (torch.arange(dim // 2) / dim / 2.0)
    angles = positions.reshape(-1, 1) * omega
    return torch.cat([angles.sin(), angles.cos()], 1)


def positions(state: Mapping[str, Tensor], grid: int, patch_size: int) -> Tensor:
    """Galileo's encodings of channel, date, month and place of a square of tokens, (1, g, g, D)."""
    part = DIM // 4
    steps = torch.arange(grid, dtype=torch.float32) * patch_size
    down, right = torch.meshgrid(steps, steps, indexing="ij")
    place = torch.cat([_sincos(part // 2, right), _sincos(part // 2, down)], 1)
    same = [
        state["s_t_channel_embed"][0],
        state["pos_embed"][0],
        state["month_embed.weight"][MONTH],
    ]
    every = torch.cat([torch.cat(same).expand(grid * grid, -1), place], 1)
    return every.reshape(1, grid, grid, DIM)


def patch_embedding(
    state: Mapping[str, Tensor], mean: Sequence[float], std: Sequence[float], patch_size: int
) -> tuple[Tensor, Tensor]:
    """Kernel and bias for our channels VV, VH, VV-VH, normalised by our means and deviations."""
    kernel = resized(state["space_time_embed.S1.proj.weight"], patch_size)
    bias = state["space_time_embed.S1.proj.bias"].clone()
    out = torch.zeros(DIM, 3, patch_size, patch_size)
    for band in range(2):
        out[:, band] = kernel[:, band] * std[band] / DIVISOR[band]
        bias += kernel[:, band].sum((1, 2)) * (mean[band] - SHIFT[band]) / DIVISOR[band]
    # What no scene tells starts small, not at 0: it shall be able to learn.
    out[:, 2] = 0.02 * torch.randn(out[:, 2].shape, generator=torch.Generator().manual_seed(0))
    return out, bias


def encoder_tensors(
    state: Mapping[str, Tensor],
    architecture: Architecture,
    mean: Sequence[float],
    std: Sequence[float],
) -> dict[str, Tensor]:
    """CWSAM's names of what Galileo's encoder knows."""
    patch = architecture.backbone.patch_size
    weight, bias = patch_embedding(state, mean, std, patch)
    found = {
        "encoder.patch_embed.proj.weight": weight,
        "encoder.patch_embed.proj.bias": bias,
        "encoder.pos_embed": positions(state, architecture.grid_size, patch),
    }
    for i in range(architecture.backbone.depth):
        ours, theirs = f"encoder.blocks.{i}", f"blocks.{i}"
        for kind in ("weight", "bias"):
            joined = [state[f"{theirs}.attn.{part}.{kind}"] for part in "qkv"]
            found[f"{ours}.attn.qkv.{kind}"] = torch.cat(joined)
            for mine, their in (
                ("norm1", "norm1"),
                ("norm2", "norm2"),
                ("attn.proj", "attn.proj"),
                ("mlp.lin1", "mlp.fc1"),
                ("mlp.lin2", "mlp.fc2"),
            ):
                found[f"{ours}.{mine}.{kind}"] = state[f"{theirs}.{their}.{kind}"]
    return found


def open_gates(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Biases with which the classes' features begin where GELU lets gradients through.

    A class whose features are all below zero has hardly a gradient and is never mapped.
    """
    bias, vector = "decoder.class_upscaling.3.bias", "decoder.hypernetwork.layers.2.bias"
    signs = 1.0 - 2.0 * (torch.arange(len(tensors[vector])) % 2)
    return {bias: torch.ones_like(tensors[bias]), vector: 0.5 * signs}


def input_spec(tile_size: int, mean: Sequence[float], std: Sequence[float]) -> PreprocessSpec:
    """VV, VH and their difference in dB, each band optional."""
    return PreprocessSpec(
        bands=("VV", "VH"),
        channels=("VV", "VH", "VV-VH"),
        scaling="db",
        clip=((-32.0, 5.0), (-40.0, 0.0)),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        tile_size=tile_size,
        fill=(mean[0], mean[1]),
    )


def galileo_bundle(
    encoder: Path,
    classes: list[dict[str, object]],
    sizes: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    texture_dim: int = 0,
) -> ModelBundle:
    """A bundle with Galileo's blocks and fresh weights for the rest.

    Args:
        encoder: Galileo's ``encoder.pt``.
        classes: The classes, as a region lists them.
        sizes: Side of a token in pixels (4 or 8), how many of Galileo's blocks to keep from the
            first, and the side of a tile in pixels.
        mean: Of our channels, in dB.
        std: Of our channels.
        texture_dim: Hidden channels of a texture head; 0 for none.
    """
    patch_size, depth, tile_size = sizes
    state = torch.load(encoder, map_location="cpu", weights_only=True)
    legend = Legend.from_list(classes, "classes", None)
    sized = backbone(patch_size, depth, tile_size)
    architecture = Architecture(sized, len(legend), tile_size, texture_dim=texture_dim)
    tensors = fresh_tensors(architecture, 0)
    tensors = {**tensors, **open_gates(tensors)}
    known = encoder_tensors(state, architecture, mean, std)
    assert all(tensors[name].shape == value.shape for name, value in known.items())
    spec = input_spec(tile_size, mean, std)
    provenance = {
        "name": f"galileo_nano_{patch_size}px",
        "trained": False,
        "licence": "encoder: Galileo nano, MIT",
        "created_by": "experiments/galileo_start.py",
    }
    header = BundleHeader("full", architecture, spec, legend, provenance)
    return ModelBundle(header, {**tensors, **{k: v.contiguous() for k, v in known.items()}})


def parameters(bundle: ModelBundle) -> int:
    """How many numbers a bundle holds."""
    return sum(math.prod(t.shape) for t in bundle.tensors.values())


def gflop_per_mpx(architecture: Architecture, overlap: float = 0.125) -> float:
    """Floating-point operations of a megapixel of a scene, in thousand millions.

    Args:
        architecture: Of the model.
        overlap: Share of a tile that it has in common with its neighbour.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from cwsam_geo.model.network.cwsam import Cwsam

    size = architecture.tile_size
    model = Cwsam(architecture).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size))
    stride = size * (1 - overlap)
    return float(counter.get_total_flops() / 1e9 / (np.square(stride) / 1e6))
