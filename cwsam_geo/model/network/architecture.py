"""The sizes of a network: backbones, ratios and the options of the architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cwsam_geo.errors import ModelError

PROMPT_RATIO = 32
"""Channels D of a token per inner channel of the low-frequency prompt."""

MAX_CLASSES = 255
"""Class maps are uint8 with codes 0 to 254; 255 is nodata."""

UPSCALING = 4
"""Logits per token along each axis: SAM's mask decoder upsamples by 4."""

MAX_TILE_SIZE = 8192
"""Largest side of a tile in pixels; attention over a whole tile makes even half impractical."""

MAX_TEXTURE_DIM = 4096
"""Most hidden channels of the texture head."""

TRANSFORMER_HEADS = 8

MASK_RATIO = 8
"""Channels D of the image embedding per channel of the features of a mask."""

MLP_RATIO = 4
"""Hidden channels of a block's MLP per channel of a token, as in SAM."""


@dataclass(frozen=True)
class Backbone:
    """Sizes of an image encoder and its mask decoder.

    Attributes:
        name: Key in ``BACKBONES``, or ``custom``.
        dim: Channels of a token.
        depth: Number of blocks.
        heads: Attention heads of a block.
        global_blocks: Indices of the blocks that attend over the whole tile.
        patch_size: Side of the patch embedding in pixels.
        window: Side of the attention windows of the other blocks, in tokens.
        decoder_dim: Channels of the image embedding and of the decoder.
        decoder_mlp_dim: Inner channels of the decoder's MLPs.
        tile_size: Native side of a tile in pixels.

    Raises:
        ModelError: The sizes are inconsistent or out of bounds.
    """

    name: str
    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    patch_size: int = 16
    window: int = 14
    decoder_dim: int = 256
    decoder_mlp_dim: int = 2048
    tile_size: int = 1024

    def __post_init__(self) -> None:
        # These numbers also come from files, and they decide how much memory is allocated.
        bounds = {
            "dim": 8192,
            "depth": 256,
            "heads": 256,
            "patch_size": 256,
            "window": 1024,
            "decoder_dim": 4096,
            "decoder_mlp_dim": 65536,
            "tile_size": MAX_TILE_SIZE,
        }
        for name, upper in bounds.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= upper:
                raise ModelError(f"backbone: {name} is {value!r}, not 1 to {upper}")
        for is_wrong, problem in (
            (self.dim % PROMPT_RATIO, f"dim {self.dim} is not a multiple of {PROMPT_RATIO}"),
            (self.dim % self.heads, f"dim {self.dim} is not a multiple of {self.heads} heads"),
            (
                self.decoder_dim % (2 * TRANSFORMER_HEADS),
                f"decoder_dim {self.decoder_dim} is not a multiple of {2 * TRANSFORMER_HEADS}",
            ),
            (
                self.patch_size % UPSCALING,
                f"patch_size {self.patch_size} is not a multiple of {UPSCALING}",
            ),
            (
                any(type(i) is not int or not 0 <= i < self.depth for i in self.global_blocks),
                f"global_blocks {self.global_blocks} are not all from 0 to {self.depth - 1}",
            ),
        ):
            if is_wrong:
                raise ModelError(f"backbone: {problem}")


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone("vit_b", dim=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11)),
        Backbone("vit_l", dim=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
        Backbone("vit_h", dim=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)),
        Backbone(
            "small",
            dim=192,
            depth=6,
            heads=6,
            global_blocks=(2, 5),
            patch_size=8,
            window=8,
            decoder_dim=64,
            decoder_mlp_dim=512,
            tile_size=256,
        ),
        Backbone(
            "tiny",
            dim=96,
            depth=4,
            heads=3,
            global_blocks=(1, 3),
            patch_size=8,
            window=8,
            decoder_dim=32,
            decoder_mlp_dim=256,
            tile_size=256,
        ),
    )
}
"""SAM's three backbones and two small ones for laptops and tests; sizes are stated only here."""


QUIRKS = ("scrambled_prompt", "attend_padding", "classes_fastest")
"""Options of the architecture that reproduce quirks of the CWSAM authors' code."""


@dataclass(frozen=True)
class Architecture:
    """Sizes and options that define the model's tensors and its computation.

    Three options reproduce quirks of the CWSAM authors' code. They are on for converted
    checkpoints, whose weights were trained with them, and off for this project's own models.

    Attributes:
        num_classes: K, 2 to 255.
        tile_size: Side of a tile in pixels, a multiple of the patch size.
        scrambled_prompt: The low-frequency prompt mixes positions and channels of the patch
            embedding; see ``LowFrequencyPrompt``.
        attend_padding: Tokens attend to the padding of windows that extend past the tile's edge
            (SAM does this too).
        classes_fastest: The output channels of the class convolution are ordered (D/8, K) instead
            of (K, D/8).
        texture_dim: Hidden channels of the texture head (``texture.py``), which is not part of the
            CWSAM paper; 0 for a model without it.

    Raises:
        ModelError: The sizes are inconsistent or out of bounds.
    """

    backbone: Backbone
    num_classes: int
    tile_size: int
    scrambled_prompt: bool = False
    attend_padding: bool = False
    classes_fastest: bool = False
    texture_dim: int = 0

    def __post_init__(self) -> None:
        if type(self.num_classes) is not int or not 2 <= self.num_classes <= MAX_CLASSES:
            raise ModelError(f"a model has 2 to {MAX_CLASSES} classes, not {self.num_classes}")
        size, patch_size = self.tile_size, self.backbone.patch_size
        if type(size) is not int or not patch_size <= size <= MAX_TILE_SIZE or size % patch_size:
            raise ModelError(
                f"tile size {size} is not a multiple of {patch_size} px up to {MAX_TILE_SIZE}"
            )
        dim = self.texture_dim
        if type(dim) is not int or not 0 <= dim <= MAX_TEXTURE_DIM:
            raise ModelError(f"texture_dim is {dim!r}, not 0 to {MAX_TEXTURE_DIM}")

    @property
    def grid_size(self) -> int:
        """Side of a tile in tokens."""
        return self.tile_size // self.backbone.patch_size

    @property
    def stride(self) -> int:
        """Pixels of the tile per logit along each axis."""
        return self.backbone.patch_size // UPSCALING

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes as plain values for JSON."""
        data = asdict(self)
        if not self.texture_dim:
            # Older versions refuse fields that they do not know, and have no texture head.
            del data["texture_dim"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Architecture:
        """Reads the output of ``to_dict``.

        Raises:
            ModelError: A field is missing, unknown or malformed.
        """
        if isinstance(data, Mapping):
            data = {"texture_dim": 0, **data}
        names, size_names = {f.name for f in fields(cls)}, {f.name for f in fields(Backbone)}
        backbone = data.get("backbone") if isinstance(data, Mapping) else None
        if not isinstance(backbone, Mapping) or set(data) != names or set(backbone) != size_names:
            keys = set(data) if isinstance(data, Mapping) else set()
            size_keys = set(backbone) if isinstance(backbone, Mapping) else set()
            mismatches = sorted((keys ^ names) | (size_keys ^ size_names))
            raise ModelError(f"architecture: unexpected or missing fields {mismatches}")
        for name in QUIRKS:
            if not isinstance(data[name], bool):
                raise ModelError(f"architecture: {name} is {data[name]!r}, not true or false")
        blocks = backbone["global_blocks"]
        if not isinstance(blocks, (list, tuple)) or not isinstance(backbone["name"], str):
            raise ModelError("architecture: malformed backbone")
        return cls(**{**data, "backbone": Backbone(**{**backbone, "global_blocks": tuple(blocks)})})
