"""Converts upstream checkpoints to model bundles and accounts for every key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cwsam_geo._version import __version__
from cwsam_geo.core.counting import how_many
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.preprocess import PreprocessSpec, amplitude8_spec
from cwsam_geo.errors import ModelError
from cwsam_geo.model.bundles.bundle import BundleHeader, ModelBundle
from cwsam_geo.model.bundles.tensors import trainable_names
from cwsam_geo.model.network.architecture import MASK_RATIO, Architecture
from cwsam_geo.model.network.cwsam import Cwsam
from cwsam_geo.model.upstream.checkpoint import (
    CheckpointKind,
    infer_backbone,
    match_keys,
    read_checkpoint,
    source_of,
)


@dataclass(frozen=True)
class Conversion:
    """A converted checkpoint, and what became of each of its keys.

    Attributes:
        bundle: The model, kind ``full``.
        source: ``cwsam``, or ``sam`` for a base with fresh adapters.
        kept: Our name of each converted tensor, by upstream's name.
        dropped: Upstream's names of the tensors that were left out, by the reason.
        fresh: Our names of the tensors that the checkpoint lacks and that were initialised.
    """

    bundle: ModelBundle
    source: CheckpointKind
    kept: Mapping[str, str]
    dropped: Mapping[str, tuple[str, ...]]
    fresh: tuple[str, ...]


@dataclass(frozen=True)
class ConvertOptions:
    """Options of a conversion.

    Attributes:
        tile_size: Side of a tile in pixels; None for that of the checkpoint.
        preprocess: Preprocessing of the model; None for 8-bit amplitude with ImageNet statistics.
        name: Name of the model in its provenance; None for the file's name.
        seed: Random seed for the fresh tensors of a SAM base.
    """

    tile_size: int | None = None
    preprocess: PreprocessSpec | None = None
    name: str | None = None
    seed: int = 0


def convert(
    path: str | os.PathLike[str], legend: Legend, options: ConvertOptions | None = None
) -> Conversion:
    """Makes a bundle from an upstream CWSAM or SAM checkpoint.

    A CWSAM checkpoint keeps the quirks of its authors' code. A SAM checkpoint becomes a base: it
    provides the encoder, mask decoder, positional encoding and no-mask embedding, and gets fresh
    adapters, which add zero at first, and a fresh class head.

    Args:
        path: The checkpoint; it is read without running any code in it.
        legend: The classes, in the order of the model's channels.
        options: Tile size, preprocessing and name.

    Raises:
        ModelError: The checkpoint is missing, damaged, or of another model; it has unknown keys;
            or its number of classes differs from the legend's.
    """
    options = options or ConvertOptions()
    file = read_checkpoint(path)
    state = file.tensors
    try:
        source = source_of(state)
        architecture = _architecture(state, source, legend, options.tile_size)
        our_names, dropped, fresh = match_keys(state, source, architecture)
        if file.beside:
            dropped["not weights, but beside them in the file"] = file.beside
        tensors = {ours: state[theirs] for theirs, ours in our_names.items()}
        if fresh:
            initial = fresh_tensors(architecture, options.seed)
            tensors |= {name: initial[name] for name in fresh}
        header = _header(Path(path), source, architecture, legend, options)
        bundle = ModelBundle(header, tensors)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    dropped_names = {why: tuple(keys) for why, keys in dropped.items()}
    return Conversion(bundle, source, our_names, dropped_names, tuple(fresh))


def fresh_tensors(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """Returns all tensors of a newly initialised model by name; a seed gives the same tensors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Cwsam(architecture).state_dict()


def sam_frozen_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Reads the tensors of a SAM checkpoint that stay frozen in fine-tuning, with our names.

    Raises:
        ModelError: The file is not a SAM checkpoint.
    """
    state = read_checkpoint(path).tensors
    if source_of(state) != "sam":
        raise ModelError(f"{path}: not a checkpoint of SAM")
    backbone = infer_backbone(state)
    # The frozen tensors do not depend on the number of classes: 2 stands for any.
    architecture = Architecture(backbone, 2, backbone.tile_size)
    our_names, _, _ = match_keys(state, "sam", architecture)
    trainable = trainable_names(architecture)
    return {ours: state[theirs] for theirs, ours in our_names.items() if ours not in trainable}


def _architecture(
    state: Mapping[str, Tensor], source: CheckpointKind, legend: Legend, tile_size: int | None
) -> Architecture:
    backbone = infer_backbone(state)
    own_size = state["image_encoder.pos_embed"].shape[1] * backbone.patch_size
    quirks = source == "cwsam"
    if quirks:
        key = "mask_decoder.cls_upscaling.3.bias"
        if key not in state:
            raise ModelError(f"the checkpoint has no tensor {key}")
        # The class convolution has K groups of D/8 output channels.
        classes = state[key].numel() // (backbone.decoder_dim // MASK_RATIO)
        if classes != len(legend):
            raise ModelError(
                f"the checkpoint has {how_many(classes, 'class')}, but the legend {len(legend)} "
                f"({', '.join(legend.names[:8])}{', ...' if len(legend) > 8 else ''})"
            )
    return Architecture(
        backbone,
        num_classes=len(legend),
        tile_size=tile_size or own_size,
        scrambled_prompt=quirks,
        # SAM itself was trained with attention to padding.
        attend_padding=True,
        classes_fastest=quirks,
    )


def _header(
    path: Path,
    source: CheckpointKind,
    architecture: Architecture,
    legend: Legend,
    options: ConvertOptions,
) -> BundleHeader:
    provenance: dict[str, Any] = {
        "name": options.name or path.stem,
        "trained": source == "cwsam",
        "created_by": f"cwsam-geo {__version__}",
        "converted_from": path.name,
        "source": source,
        "licence": "Apache-2.0 (segment-anything)"
        if source == "sam"
        else "not stated in the checkpoint; ask its authors",
    }
    preprocess = options.preprocess or amplitude8_spec(architecture.tile_size)
    return BundleHeader("full", architecture, preprocess, legend, provenance)
