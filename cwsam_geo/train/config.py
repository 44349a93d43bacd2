"""What a region's model is trained on and how: ``region.yaml`` as a value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from cwsam_geo.errors import UsageError
from cwsam_geo.io.bands import Nodata
from cwsam_geo.io.features import Layer
from cwsam_geo.legend import Legend
from cwsam_geo.preprocess import Scaling
from cwsam_geo.train.pairs import Pair
from cwsam_geo.train.recipe import Recipe
from cwsam_geo.units import UnitsOption

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

Augmentation = Literal["flip", "rot90", "speckle", "gain", "mosaic"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)

ClassMap = Mapping[str, tuple[int, ...]]
"""A label's code, name or colour (``#rrggbb`` in lower case), as text, to the channels it may be;
none for ``ignore``."""


@dataclass(frozen=True)
class LabelledScene:
    """A scene, its labels, and what they mean.

    Attributes:
        pair: The files.
        layer: Column and layer of vector labels.
        map: What each label means; None where labels are the classes' own codes, names or colours.
        split: What the whole scene is for; None where blocks are drawn.
        bands: Bands of the scene, from 1, or None for all.
        units: What its values are.
        nodata: Its nodata value, or None for what it declares.
    """

    pair: Pair
    layer: Layer = field(default_factory=Layer)
    map: ClassMap | None = None
    split: Split | None = None
    bands: tuple[int, ...] | None = None
    units: UnitsOption = "auto"
    nodata: Nodata = None

    @property
    def name(self) -> str:
        """What to call it."""
        return Path(self.pair.scene[0]).name


@dataclass(frozen=True)
class TileOptions:
    """How tiles are cut and varied.

    Attributes:
        tile_size: Side of a tile in pixels.
        overlap: Pixels that neighbouring validation tiles share; None for an eighth of a tile.
        augment: What is varied in training. ``mosaic`` puts tiles together from parts of others;
            it keeps a model from learning which scene it sees rather than what lies there.
        balance: Share of the training tiles that are drawn class by class, so that rare classes
            come up as often as common ones; the rest are drawn anywhere.
        samples: Training tiles of an epoch; None for as many as cover the labels once, at least 32.

    Raises:
        UsageError: A value is out of bounds.
    """

    tile_size: int = 512
    overlap: int | None = None
    augment: tuple[Augmentation, ...] = ("flip", "rot90", "speckle", "gain")
    balance: float = 0.5
    samples: int | None = None

    def __post_init__(self) -> None:
        for wrong, what in (
            (self.tile_size < 16, f"tile_size {self.tile_size}: at least 16"),
            (
                not 0 <= self.shared <= self.tile_size // 2,
                f"overlap {self.shared}: 0 to half a tile",
            ),
            (not 0 <= self.balance <= 1, f"balance {self.balance}: 0 to 1"),
            (self.samples is not None and self.samples < 1, f"samples {self.samples}: at least 1"),
        ):
            if wrong:
                raise UsageError(f"train: {what}")

    @property
    def shared(self) -> int:
        """The overlap in pixels."""
        return self.tile_size // 8 if self.overlap is None else self.overlap


@dataclass(frozen=True)
class BlockOptions:
    """How scenes without a split are divided.

    Attributes:
        block_size_m: Side of a block on the ground, in metres; None for one tile.
        block_size_px: The same in pixels, for scenes without a CRS, or instead of metres.
        fraction: Share of the labels for validation.
        test_fraction: Share of the labels for the test.
        gap_px: Pixels between training and the rest; None for a tile's overlap, which is the
            least.

    Raises:
        UsageError: A value is out of bounds.
    """

    block_size_m: float | None = None
    block_size_px: int | None = None
    fraction: float = 0.25
    test_fraction: float = 0.0
    gap_px: int | None = None

    def __post_init__(self) -> None:
        both = self.block_size_m is not None and self.block_size_px is not None
        for wrong, what in (
            (both, "give block_size_m or block_size_px, not both"),
            (
                self.block_size_m is not None and not 0 < self.block_size_m < math.inf,
                f"block_size_m {self.block_size_m}: a number above 0",
            ),
            ((self.block_size_px or 1) < 1, f"block_size_px {self.block_size_px}: at least 1"),
            (not 0 < self.fraction < 1, f"fraction {self.fraction}: between 0 and 1"),
            (
                not 0 <= self.test_fraction < 1 - self.fraction,
                f"test_fraction {self.test_fraction}: together with fraction below 1",
            ),
            ((self.gap_px or 0) < 0, f"gap_px {self.gap_px}: 0 or more"),
        ):
            if wrong:
                raise UsageError(f"validation: {what}")


@dataclass(frozen=True)
class InputOptions:
    """What the model shall take; what is None comes from the training scenes.

    Attributes:
        bands: Names of the bands, in the scenes' order where those name none.
        channels: The three channels, each a band or the difference of two.
        scaling: ``db``, ``linear`` or ``amplitude8``.
        mean: Mean of each channel.
        std: Standard deviation of each channel.
        clip: Lowest and highest scaled value of each band.
        optional: Bands that a scene to map may lack. They are left out of some of the training
            tiles, so that the model learns to do without.
    """

    bands: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None
    scaling: Scaling | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    clip: tuple[tuple[float, ...], ...] | None = None
    optional: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """Where it is computed.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        workers: Processes that read ahead.
    """

    device: str = "auto"
    precision: str = "auto"
    workers: int = 0


@dataclass(frozen=True)
class RegionConfig:
    """Everything a region's file says.

    Attributes:
        legend: The classes; its ``ignore`` does not count in scores.
        scenes: The labelled scenes.
        init: What training starts from.
        recipe: How it is trained.
        tiles: How tiles are cut and varied.
        blocks: How scenes are divided.
        inputs: What the model shall take.
        machine: Where it is computed.
        licence: What the user says of the licence of the weights, or None.
        label: The file's name, for messages.
    """

    legend: Legend
    scenes: tuple[LabelledScene, ...]
    init: str
    recipe: Recipe
    tiles: TileOptions
    blocks: BlockOptions
    inputs: InputOptions
    machine: Machine
    licence: str | None
    label: str
