"""Upstream's checkpoints: their names of our tensors, and sizes inferred from their shapes."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cwsam_geo.core.counting import how_many
from cwsam_geo.core.wrong_files import HEAD, wrong_download
from cwsam_geo.errors import ModelError
from cwsam_geo.model.bundles.tensors import expected_shapes
from cwsam_geo.model.network.architecture import BACKBONES, Architecture, Backbone

_WRAPPERS = ("model", "state_dict", "model_state_dict", "net")
"""Keys under which training code commonly stores the state dict."""

_MODULE = "module."
"""Prefix that ``DataParallel`` adds to the name of every tensor."""

_BEGINNINGS = (b"PK", b"\x80")
"""First bytes of the zip archives that torch writes, and of the bare pickles of older torch."""

CheckpointKind = Literal["cwsam", "sam"]
"""Which code wrote a checkpoint: that of the CWSAM authors or SAM's own."""

_COMMON_NAMES = (
    (r"^decoder\.upscaling\.", "mask_decoder.output_upscaling."),
    (r"^decoder\.hypernetwork\.", "mask_decoder.output_hypernetworks_mlps.0."),
    (r"^encoder\.", "image_encoder."),
    (r"^decoder\.", "mask_decoder."),
)

_PROMPT = "image_encoder.prompt_generator"

_NAMES: dict[CheckpointKind, tuple[tuple[str, str], ...]] = {
    "cwsam": (
        (r"^encoder\.prompt\.image_embed\.", f"{_PROMPT}.prompt_generator."),
        (r"^encoder\.prompt\.token_embed\.", f"{_PROMPT}.embedding_generator."),
        (r"^encoder\.prompt\.shared\.", f"{_PROMPT}.shared_mlp."),
        (r"^encoder\.prompt\.block_layers\.(\d+)\.", rf"{_PROMPT}.lightweight_mlp_\1.0."),
        (r"\.attention_adapter\.down\.", ".Space_Adapter.D_fc1."),
        (r"\.attention_adapter\.up\.", ".Space_Adapter.D_fc2."),
        (r"\.mlp_adapter\.down\.", ".MLP_Adapter.D_fc1."),
        (r"\.mlp_adapter\.up\.", ".MLP_Adapter.D_fc2."),
        (r"^decoder\.position\.", "pe_layer."),
        (r"^decoder\.no_mask_embed\.", "no_mask_embed."),
        (r"^decoder\.class_upscaling\.", "mask_decoder.cls_upscaling."),
        *_COMMON_NAMES,
    ),
    "sam": (
        (r"^decoder\.position\.", "prompt_encoder.pe_layer."),
        (r"^decoder\.no_mask_embed\.", "prompt_encoder.no_mask_embed."),
        *_COMMON_NAMES,
    ),
}
"""Regular expressions for our names, and their replacements by upstream's, applied in order."""

# Regular expressions for upstream tensors that are left out, and the reasons.
_COMMON_DROPS = (
    (r"mask_decoder\.iou_prediction_head\.", "score of a mask's quality, not used for classes"),
    (r"mask_decoder\.output_hypernetworks_mlps\.[123]\.", "masks 2 to 4, never used for classes"),
)

_DROPS: dict[CheckpointKind, tuple[tuple[str, str], ...]] = {
    "cwsam": (
        (r"image_encoder\.blocks\.\d+\.Depth_Adapter\.", "adapter that never runs"),
        (r"criterion\w*\.", "class weights of the training loss"),
        *_COMMON_DROPS,
    ),
    "sam": (
        (
            r"prompt_encoder\.(point_embeddings|not_a_point_embed|mask_downscaling)\.",
            "prompts of points, boxes and masks, which CWSAM has none of",
        ),
        (r"pixel_(mean|std)$", "preprocessing, which the bundle states itself"),
        *_COMMON_DROPS,
    ),
}

_FRESH = re.compile(r"^encoder\.prompt\.|_adapter\.|^decoder\.class_upscaling\.")
"""Our names of the tensors that CWSAM adds to SAM, which no SAM checkpoint holds."""

_SHOWN = 8
"""Names that an error message lists at most."""


def source_of(state: Mapping[str, Tensor]) -> CheckpointKind:
    """Returns which code wrote a state dict.

    Raises:
        ModelError: The state dict is neither CWSAM's nor SAM's.
    """
    if "image_encoder.pos_embed" in state and "image_encoder.patch_embed.proj.weight" in state:
        if f"{_PROMPT}.shared_mlp.weight" in state:
            return "cwsam"
        if any(key.startswith("prompt_encoder.") for key in state):
            return "sam"
    raise ModelError(
        f"neither a CWSAM nor a SAM checkpoint; its tensors are named {_some(sorted(state))}"
    )


def infer_backbone(state: Mapping[str, Tensor]) -> Backbone:
    """Infers the sizes of an upstream checkpoint from the shapes of its tensors.

    Raises:
        ModelError: Necessary tensors are missing or have unexpected shapes.
    """
    try:
        return _infer_backbone(state)
    except KeyError as error:
        raise ModelError(f"the checkpoint has no tensor {error.args[0]}") from None
    except (IndexError, ValueError, ZeroDivisionError):
        raise ModelError("the shapes of its tensors are not those of SAM's encoder") from None


def _infer_backbone(state: Mapping[str, Tensor]) -> Backbone:
    _, grid, _, dim = state["image_encoder.pos_embed"].shape
    patch_size = state["image_encoder.patch_embed.proj.weight"].shape[2]
    blocks = {
        int(match[1])
        for key in state
        if (match := re.match(r"image_encoder\.blocks\.(\d+)\.", key))
    }
    # A table of relative positions has 2 * side - 1 rows. Its side is the grid in global blocks and
    # the attention window in the others.
    tables = [state[f"image_encoder.blocks.{i}.attn.rel_pos_h"].shape for i in sorted(blocks)]
    sides = [(rows + 1) // 2 for rows, _ in tables]
    windows = {side for side in sides if side != grid}
    if len(windows) > 1:
        raise ValueError
    backbone = Backbone(
        name="custom",
        dim=dim,
        depth=len(blocks),
        heads=dim // tables[0][1],
        global_blocks=tuple(i for i, side in enumerate(sides) if side == grid),
        patch_size=patch_size,
        window=windows.pop() if windows else grid,
        decoder_dim=state["image_encoder.neck.0.weight"].shape[0],
        decoder_mlp_dim=state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
        tile_size=grid * patch_size,
    )
    for standard in BACKBONES.values():
        if replace(backbone, name=standard.name, tile_size=standard.tile_size) == standard:
            return standard
    return backbone


def match_keys(
    state: Mapping[str, Tensor], source: CheckpointKind, architecture: Architecture
) -> tuple[dict[str, str], dict[str, list[str]], list[str]]:
    """Matches the tensors of a checkpoint with ours and accounts for every one.

    Returns:
        Our name of each tensor to convert, by upstream's name; upstream's names of the tensors to
        leave out, by the reason; and our names of the tensors to initialise.

    Raises:
        ModelError: The checkpoint lacks tensors or has unknown ones.
    """
    names = list(expected_shapes(architecture))
    fresh = [n for n in names if source == "sam" and _FRESH.search(n)]
    our_names = {_upstream_name(ours, source): ours for ours in names if ours not in set(fresh)}
    missing = sorted(set(our_names) - set(state))
    if missing:
        raise ModelError(
            f"the checkpoint lacks {how_many(len(missing), 'tensor')}: {_some(missing)}"
        )
    dropped: dict[str, list[str]] = {}
    unknown: list[str] = []
    for key in sorted(set(state) - set(our_names)):
        why = next((why for rule, why in _DROPS[source] if re.match(rule, key)), None)
        (unknown if why is None else dropped.setdefault(why, [])).append(key)
    if unknown:
        raise ModelError(
            f"the checkpoint has {how_many(len(unknown), 'unknown tensor')}: {_some(unknown)}"
        )
    return our_names, dropped, fresh


def _upstream_name(ours: str, source: CheckpointKind) -> str:
    name = ours
    for rule, theirs in _NAMES[source]:
        name = re.sub(rule, theirs, name)
    return name


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{', '.join(keys[:_SHOWN])}{more}"


@dataclass(frozen=True)
class CheckpointFile:
    """The contents of a checkpoint.

    Attributes:
        tensors: The state dict, with upstream's names, on the CPU.
        beside: Keys of the file's other contents, such as epoch and optimizer state.
    """

    tensors: Mapping[str, Tensor]
    beside: list[str]


def read_checkpoint(path: str | os.PathLike[str]) -> CheckpointFile:
    """Reads a state dict, which may be nested in a dict or have the prefix ``module.``.

    Raises:
        ModelError: The file is missing or damaged, holds Python objects, or has no state dict.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{path}: no such file")
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    if not head.startswith(_BEGINNINGS):
        raise ModelError(f"{path}: {_what_it_is(head)}")
    return _unwrapped(_load(file), file)


def _what_it_is(head: bytes) -> str:
    """Says what a file is that does not begin like a checkpoint, and what the user can do."""
    if wrong_download(head):
        return wrong_download(head)
    # safetensors: 8 bytes with the header's length, then the header as JSON.
    if head[8:9] == b"{":
        return "a safetensors file, no PyTorch checkpoint; model bundles need no conversion"
    is_text = all(c in b"\t\n\r" or 32 <= c < 127 for c in head)
    hint = " (it looks like text)" if is_text else ""
    return f"no PyTorch checkpoint{hint}; give the .pth file that torch.save wrote"


def _load(file: Path) -> Any:
    # torch can memory-map its zip archives, but not the older pickles.
    is_zip = zipfile.is_zipfile(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # torch raises many unrelated types on damaged files
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        if "Unsupported" in str(error) or "weights only" in str(error).lower():
            raise ModelError(
                f"{file}: not a plain file of weights (it is damaged, or holds Python objects, "
                "which are not loaded because they could run code)"
            ) from None
        raise ModelError(
            f"{file}: not a readable checkpoint, perhaps cut short ({type(error).__name__}: "
            f"{first_line[:160]})"
        ) from None


def _unwrapped(content: Any, file: Path) -> CheckpointFile:
    other_keys: list[str] = []
    if isinstance(content, Mapping):
        wrapper = next((w for w in _WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if wrapper:
            other_keys = sorted(str(key) for key in content if key != wrapper)
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"{file}: holds no state dict (tensors by name)")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ModelError(f"{file}: holds no state dict: {name!r} is no tensor")
        if value.layout != torch.strided:
            raise ModelError(f"{file}: tensor {name} is not a plain dense tensor")
    if all(name.startswith(_MODULE) for name in content):
        content = {name.removeprefix(_MODULE): value for name, value in content.items()}
    return CheckpointFile(dict(content), other_keys)
