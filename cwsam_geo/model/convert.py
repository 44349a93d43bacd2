"""Upstream checkpoints to model bundles, every key accounted for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cwsam_geo import __version__
from cwsam_geo.errors import ModelError
from cwsam_geo.legend import Legend
from cwsam_geo.model.build import Architecture, Cwsam
from cwsam_geo.model.bundle import ModelBundle
from cwsam_geo.model.checkpoint_file import read_checkpoint
from cwsam_geo.model.decoder import MASK_RATIO
from cwsam_geo.model.header import BundleHeader
from cwsam_geo.model.tensors import trainable_names
from cwsam_geo.model.upstream import Source, account, infer_backbone, source_of
from cwsam_geo.preprocess import PreprocessSpec, amplitude8_spec


@dataclass(frozen=True)
class Conversion:
    """A converted checkpoint and the account of its keys.

    Attributes:
        bundle: The model, kind ``full``.
        source: ``cwsam``, or ``sam`` for a base with fresh adapters.
        kept: Upstream's name to ours.
        dropped: Reason to upstream's names.
        fresh: Our names that the checkpoint does not hold and that were initialised.
    """

    bundle: ModelBundle
    source: Source
    kept: Mapping[str, str]
    dropped: Mapping[str, tuple[str, ...]]
    fresh: tuple[str, ...]


@dataclass(frozen=True)
class ConvertOptions:
    """What else decides a conversion.

    Attributes:
        tile_size: Side of a tile in pixels, or None for the checkpoint's own.
        preprocess: What the model takes, or None for 8-bit amplitude with ImageNet statistics.
        name: Name of the model in its provenance, or None for the file's.
        seed: Decides the fresh tensors of a SAM base.
    """

    tile_size: int | None = None
    preprocess: PreprocessSpec | None = None
    name: str | None = None
    seed: int = 0


def convert(
    path: str | os.PathLike[str], legend: Legend, options: ConvertOptions | None = None
) -> Conversion:
    """Makes a bundle of an upstream CWSAM or SAM checkpoint.

    A CWSAM checkpoint keeps the quirks of its authors' code. A SAM checkpoint becomes a base: SAM's
    encoder, mask decoder, positional encoding and no-mask embedding, with fresh adapters that add
    nothing yet and a fresh class head; it keeps attending to padding, as SAM was trained.

    Args:
        path: The checkpoint; it is read without running any code in it.
        legend: The classes, in the order of the model's channels.
        options: Tile size, preprocessing and name.

    Returns:
        The bundle, and what became of every key.

    Raises:
        ModelError: The checkpoint is missing, damaged, or of another model; it has keys that are
            not known; or its number of classes is not the legend's.
    """
    options = options or ConvertOptions()
    file = read_checkpoint(path)
    state = file.tensors
    try:
        source = source_of(state)
        architecture = _architecture(state, source, legend, options.tile_size)
        kept, dropped, fresh = account(state, source, architecture)
        if file.beside:
            dropped["not weights, but beside them in the file"] = file.beside
        tensors = {ours: state[theirs] for theirs, ours in kept.items()}
        if fresh:
            initial = fresh_tensors(architecture, options.seed)
            tensors |= {name: initial[name] for name in fresh}
        header = _header(Path(path), source, architecture, legend, options)
        bundle = ModelBundle(header, tensors)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    return Conversion(
        bundle, source, kept, {why: tuple(keys) for why, keys in dropped.items()}, tuple(fresh)
    )


def fresh_tensors(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """All tensors of a newly initialised model, by name; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Cwsam(architecture).state_dict()


def sam_frozen_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a SAM checkpoint that fine-tuning leaves alone, by our names.

    Raises:
        ModelError: It is no SAM checkpoint.
    """
    state = read_checkpoint(path).tensors
    if source_of(state) != "sam":
        raise ModelError(f"{path}: not a checkpoint of SAM")
    backbone = infer_backbone(state)
    architecture = Architecture(backbone, 2, backbone.tile_size)
    kept, _, _ = account(state, "sam", architecture)
    trained = trainable_names(architecture)
    return {ours: state[theirs] for theirs, ours in kept.items() if ours not in trained}


def _architecture(
    state: Mapping[str, Tensor], source: Source, legend: Legend, tile_size: int | None
) -> Architecture:
    backbone = infer_backbone(state)
    own_size = state["image_encoder.pos_embed"].shape[1] * backbone.patch_size
    quirks = source == "cwsam"
    if quirks:
        key = "mask_decoder.cls_upscaling.3.bias"
        if key not in state:
            raise ModelError(f"the checkpoint has no tensor {key}")
        classes = state[key].numel() // (backbone.decoder_dim // MASK_RATIO)
        if classes != len(legend):
            raise ModelError(
                f"the checkpoint has {classes} classes, but the legend {len(legend)} "
                f"({', '.join(legend.names[:8])}{', ...' if len(legend) > 8 else ''})"
            )
    return Architecture(
        backbone,
        num_classes=len(legend),
        tile_size=tile_size or own_size,
        scrambled_prompt=quirks,
        attend_padding=True,
        classes_fastest=quirks,
    )


def _header(
    path: Path,
    source: Source,
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
