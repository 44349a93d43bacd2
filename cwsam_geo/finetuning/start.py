"""The weights that training starts from: random ones, SAM's checkpoint, or a model bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from cwsam_geo.core.legend import Legend
from cwsam_geo.core.preprocess import PreprocessSpec
from cwsam_geo.errors import ModelError, UsageError
from cwsam_geo.finetuning.region.config import Scope
from cwsam_geo.model.bundles.bundle import BaseReference, ModelBundle, read_header
from cwsam_geo.model.bundles.tensors import assemble, check_tensors, expected_shapes
from cwsam_geo.model.network.architecture import BACKBONES, Architecture
from cwsam_geo.model.network.cwsam import Cwsam
from cwsam_geo.model.store import find_model, load_full, renamed, weight_folders
from cwsam_geo.model.upstream.convert import convert, fresh_tensors
from cwsam_geo.model.upstream.published import CHECKPOINT_SUFFIXES, CHECKPOINTS

# The class convolution and the last layer of the texture head, if there is one: the only tensors
# whose shapes depend on the number of classes.
_MASKS = ("decoder.class_upscaling.3.weight", "decoder.class_upscaling.3.bias")
_TEXTURE = ("texture.layers.6.weight", "texture.layers.6.bias")


@dataclass(frozen=True)
class InitialModel:
    """The weights that training starts from.

    Attributes:
        name: The backbone of random weights, or the name of the file.
        architecture: Sizes and options of the model to train.
        tensors: All tensors of the model, by name. Position tables may be those of another tile
            size; ``build`` resizes them.
        base: Identity of the frozen tensors, for a bundle of adapters; None for random weights.
        preprocess: Preprocessing of a trained bundle; None for other starts.
        licence: Licence of the weights, as their source states it, or None.
        remarks: Sentences for the user about what was decided.
    """

    name: str
    architecture: Architecture
    tensors: Mapping[str, Tensor]
    base: BaseReference | None
    preprocess: PreprocessSpec | None
    licence: str | None
    remarks: tuple[str, ...]

    def build(self, scope: Scope) -> Cwsam:
        """Makes the model, on the CPU, with gradients for the parameters of the scope only.

        Raises:
            UsageError: The scope is ``adapters``, but the frozen weights would be random.
        """
        if scope == "adapters" and self.base is None:
            raise UsageError(
                f"init {self.name}: has random weights, and adapters need a trained model "
                "underneath; use --scope full, or another --init such as sam_vit_b"
            )
        model = assemble(self.tensors, self.architecture)
        if scope == "adapters":
            model.freeze()
        else:
            model.requires_grad_(True)
        return model


def find_start(
    init: str | os.PathLike[str], legend: Legend, tile_size: int, seed: int
) -> InitialModel:
    """Finds and reads the weights that ``init`` names.

    Args:
        init: A backbone (random weights), the name or path of one of SAM's checkpoints, or the
            name or path of a model bundle.
        legend: The classes of the model to train.
        tile_size: Side of the model's tiles in pixels.
        seed: Seed of random weights.

    Raises:
        ModelError: The weights are missing or damaged, or their sizes do not fit.
        UsageError: Tiles are not whole patches of the network.
    """
    name = os.fspath(init)
    if name in BACKBONES:
        _check_tile_size(name, BACKBONES[name].patch_size, tile_size)
        architecture = Architecture(BACKBONES[name], len(legend), tile_size)
        remark = f"training starts from random weights (backbone {name})"
        tensors = fresh_tensors(architecture, seed)
        return InitialModel(name, architecture, tensors, None, None, None, (remark,))
    path = _sam_checkpoint(name) if name in CHECKPOINTS else find_model(name)
    if path.suffix.lower() in CHECKPOINT_SUFFIXES:
        conversion = convert(path, legend)
        if conversion.source != "sam":
            raise ModelError(
                f"{path}: a checkpoint of CWSAM; make a bundle of it with cwsam-geo convert, and "
                "start from that"
            )
        return _from_bundle(path, conversion.bundle, legend, tile_size, seed)
    start = _from_bundle(path, load_full(path), legend, tile_size, seed)
    new_name = renamed(name, path)
    return replace(
        start,
        # If the start is itself a bundle of adapters, the new adapters need its base.
        base=read_header(path).base or start.base,
        remarks=start.remarks if new_name is None else (new_name, *start.remarks),
    )


def _check_tile_size(init: str, patch_size: int, tile_size: int) -> None:
    if tile_size % patch_size:
        raise UsageError(
            f"train: tile_size {tile_size}: {init} needs a multiple of {patch_size}, such as "
            f"{-(-tile_size // patch_size) * patch_size}"
        )


def _sam_checkpoint(name: str) -> Path:
    """Finds a checkpoint of SAM, as the original file or as a converted bundle."""
    file_name = CHECKPOINTS[name].file_name
    folders = weight_folders()
    for folder in folders:
        for candidate in (folder / file_name, folder / f"{name}.safetensors"):
            if os.path.isfile(candidate):
                return candidate
    raise ModelError(f"init {name}: {file_name} is not here; run: cwsam-geo models download {name}")


def _from_bundle(
    path: Path, bundle: ModelBundle, legend: Legend, tile_size: int, seed: int
) -> InitialModel:
    """The start from a full bundle that was read, or converted, from ``path``."""
    official = next((c.url for c in CHECKPOINTS.values() if c.file_name == path.name), None)
    base = BaseReference(bundle.frozen_sha256(), path.name, official or str(path.resolve()))
    _check_tile_size(path.name, bundle.architecture.backbone.patch_size, tile_size)
    architecture = replace(bundle.architecture, num_classes=len(legend), tile_size=tile_size)
    tensors, remark = _with_classes(bundle, architecture, legend, seed)
    trained = bool(bundle.provenance["trained"])
    return InitialModel(
        name=path.name,
        architecture=architecture,
        tensors=tensors,
        base=base,
        preprocess=bundle.preprocess if trained else None,
        licence=bundle.provenance.get("licence"),
        remarks=(f"training starts from {path.name}; {remark}",),
    )


def _with_classes(
    bundle: ModelBundle, architecture: Architecture, legend: Legend, seed: int
) -> tuple[dict[str, Tensor], str]:
    """Fits a bundle's tensors to other classes.

    Returns:
        The tensors by name, and a remark for the user. Classes of a trained bundle keep their
        weights if the new legend has their names. The others get random weights.
    """
    old, new = bundle.legend.names, legend.names
    tensors = dict(bundle.tensors)
    if old == new:
        return tensors, "its classes are the same"
    fresh = fresh_tensors(architecture, seed)
    common = [name for name in new if name in old] if bundle.provenance["trained"] else []
    for key in (*_MASKS, *(_TEXTURE if architecture.texture_dim else ())):
        fastest = key in _MASKS and architecture.classes_fastest
        # Class on the first axis, (K, ...), for both the new and the old number of classes.
        target = _by_class(fresh[key], len(new), fastest)
        source = _by_class(tensors[key].float(), len(old), fastest)
        for name in common:
            target[new.index(name)] = source[old.index(name)]
        tensors[key] = _joined(target, fastest)
    check_tensors(tensors, architecture, expected_shapes(architecture))
    if common:
        return tensors, f"it keeps the weights of the classes {', '.join(common)}"
    return tensors, "its classes are new"


def _by_class(tensor: Tensor, classes: int, classes_fastest: bool) -> Tensor:
    """A copy of a last layer's weights with the class as the first axis, (K, ...)."""
    rest = tensor.shape[1:]
    if classes_fastest:
        return tensor.reshape(-1, classes, *rest).transpose(0, 1).clone()
    return tensor.reshape(classes, -1, *rest).clone()


def _joined(tensor: Tensor, classes_fastest: bool) -> Tensor:
    """The inverse of ``_by_class``."""
    if classes_fastest:
        tensor = tensor.transpose(0, 1)
    return tensor.flatten(0, 1).contiguous()
