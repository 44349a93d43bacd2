"""The contents of ``region.yaml``: what a region's model is trained on, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from cwsam_geo.core.class_values import ClassMap
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.preprocess import Scaling
from cwsam_geo.core.tiling import default_overlap
from cwsam_geo.errors import UsageError
from cwsam_geo.finetuning.region.pairs import Pair
from cwsam_geo.finetuning.targets.losses import parse_loss
from cwsam_geo.io.vector_file import VectorLayer
from cwsam_geo.scene.bands import Nodata
from cwsam_geo.scene.units import UnitsOption

Scope = Literal["adapters", "full"]
"""Which weights are trained: those that CWSAM adds to SAM, or all."""

Keep = Literal["best", "last"]
"""Epoch whose weights become the model."""

ClassWeights = Literal["auto", "none"] | tuple[float, ...]
"""By inverse frequency (``auto``), all equal (``none``), or one number for each class."""

Split = Literal["train", "val", "test"]
"""Role of a scene."""

SPLITS: tuple[Split, ...] = get_args(Split)

Augmentation = Literal["flip", "rot90", "speckle", "gain", "mosaic"]
"""A way of varying training tiles."""

AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)


@dataclass(frozen=True)
class LabelledScene:
    """A scene, its labels, and how both are read.

    Attributes:
        pair: Files of the scene and of its labels.
        layer: Column and layer of vector labels.
        label_band: Number (from 1) or name of the band of raster labels that holds the class codes;
            None where it can be told.
        map: Classes that each label means; None where labels are codes, names or colours of the
            legend.
        split: Role of the whole scene; None to divide it by blocks.
        bands: Bands of the scene, from 1; None for all.
        units: Units of the scene's values.
        nodata: Nodata value of the scene; None for the one that it declares.
        scaling: Scale and offset of the scene; None for those that it declares.
    """

    pair: Pair
    layer: VectorLayer = field(default_factory=VectorLayer)
    label_band: str | None = None
    map: ClassMap | None = None
    split: Split | None = None
    bands: tuple[int, ...] | None = None
    units: UnitsOption = "auto"
    nodata: Nodata = None
    scaling: tuple[float | None, float | None] = (None, None)

    @property
    def name(self) -> str:
        """Name of the scene's first file."""
        return Path(self.pair.scene[0]).name


@dataclass(frozen=True)
class TileOptions:
    """How tiles are drawn and augmented.

    Attributes:
        tile_size: Side of a tile in pixels.
        overlap: Pixels that neighbouring validation tiles share; None for an eighth of a tile.
        augment: Augmentations of training tiles. ``mosaic`` puts tiles together from parts of
            others; a model then cannot learn which scene it sees instead of what lies there.
        balance: Fraction of training tiles that are drawn class by class, so that rare classes
            occur as often as common ones; the rest are drawn anywhere.
        samples: Training tiles in an epoch; None for as many as cover the labels once, at least 32.

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
        """The overlap in pixels, also where ``overlap`` is None."""
        return default_overlap(self.tile_size) if self.overlap is None else self.overlap


@dataclass(frozen=True)
class BlockOptions:
    """How scenes without a split are divided.

    Attributes:
        block_size_m: Side of a block on the ground, in metres.
        block_size_px: Side of a block in pixels, instead of metres or for scenes without a CRS.
            If neither is given, a block is as large as a tile, or smaller if there would be too
            few blocks.
        fraction: Fraction of the labels for validation.
        test_fraction: Fraction of the labels for the test.
        gap_px: Pixels between training and blocks for validation and test. It is at least the
            overlap of tiles, and None means just that.

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
    """Input of the model; whatever is None is taken from the training scenes.

    Attributes:
        bands: Names of the bands. Scenes without band names have them in this order.
        channels: The three channels, each a band or the difference of two bands.
        scaling: ``db``, ``linear`` or ``amplitude8``.
        mean: Mean of each channel.
        std: Standard deviation of each channel.
        clip: Lowest and highest scaled value of each band.
        optional: Bands that a scene may lack in prediction. They are left out of some training
            tiles, so that the model learns to do without them.
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
    """Device, precision and processes of a training run.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        workers: Number of processes that load tiles; None for what suits the device.
    """

    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None


@dataclass(frozen=True)
class RegionConfig:
    """The contents of a region's file.

    Attributes:
        legend: The classes; the one in its ``ignore`` does not count in scores.
        init: Name or path of the model from which training starts.
        recipe: Hyperparameters of training.
        tiles: How tiles are drawn and augmented.
        blocks: How scenes are divided.
        machine: Device, precision and processes.
        licence: Licence of the trained weights as the user states it, or None.
        label: Path of the file, for messages.
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


SCOPES: tuple[Scope, ...] = get_args(Scope)

KEEPS: tuple[Keep, ...] = get_args(Keep)


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of training.

    The defaults are those of the CWSAM paper (arXiv 2401.02326) where it states them.

    Attributes:
        epochs: Passes over the training samples.
        lr: Learning rate of AdamW after the warm-up.
        lr_end: Learning rate of the last step; cosine decay leads there.
        warmup: Fraction of all steps in which the rate rises linearly from 0.
        weight_decay: Weight decay of AdamW for matrices and kernels; biases, norms and embeddings
            have none.
        clip_norm: Largest norm of the gradient, to which a larger one is scaled; 0 to never clip.
        batch_size: Tiles for each step and process; None to choose by the device.
        accumulate: Batches whose gradients are averaged for one step.
        loss: A name in ``cwsam_geo.finetuning.targets.losses.LOSSES``, or several joined by ``+``.
        class_weights: ``auto`` (inverse frequency, capped), ``none``, or one number for each class.
        scope: ``adapters`` to train what CWSAM adds to SAM, or ``full`` to train everything.
        checkpointing: Recompute activations in the backward pass, which takes less memory and
            more time.
        patience: Epochs without a better validation mIoU after which training stops; 0 for never.
        keep: ``best`` for the epoch with the highest validation mIoU. ``last`` for the last one:
            useful where validation areas are too small to choose by, or too unlike the scenes
            that will be mapped.
        average: Decay of a running mean of the weights, such as 0.99; 0 for none. The mean is what
            is validated and kept: it varies less from step to step than the weights themselves.
        seed: Seed of new weights, samples and augmentation.

    Raises:
        UsageError: A value is out of bounds.
    """

    epochs: int = 50
    lr: float = 2e-4
    lr_end: float = 1e-7
    warmup: float = 0.0
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    batch_size: int | None = None
    accumulate: int = 1
    loss: str = "ce"
    class_weights: ClassWeights = "auto"
    scope: Scope = "adapters"
    checkpointing: bool = False
    patience: int = 0
    keep: Keep = "best"
    average: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for wrong, what in (
            (self.epochs < 1, f"epochs {self.epochs}: at least 1"),
            (not 0 < self.lr < math.inf, f"lr {self.lr}: a number above 0, such as 2.0e-4"),
            (not 0 <= self.lr_end <= self.lr, f"lr_end {self.lr_end}: from 0 to lr ({self.lr})"),
            (not 0 <= self.warmup < 1, f"warmup {self.warmup}: a share of all steps, below 1"),
            (not 0 <= self.weight_decay < math.inf, f"weight_decay {self.weight_decay}: 0 or more"),
            (not 0 <= self.clip_norm < math.inf, f"clip_norm {self.clip_norm}: 0 or more"),
            (
                self.batch_size is not None and self.batch_size < 1,
                f"batch_size {self.batch_size}: auto, or at least 1",
            ),
            (self.accumulate < 1, f"accumulate {self.accumulate}: at least 1"),
            (
                isinstance(self.class_weights, str) and self.class_weights not in ("auto", "none"),
                f"class_weights {self.class_weights!r}: auto, none or a number for each class",
            ),
            (self.scope not in SCOPES, f"scope {self.scope!r}: one of {', '.join(SCOPES)}"),
            (self.keep not in KEEPS, f"keep {self.keep!r}: one of {', '.join(KEEPS)}"),
            (
                self.keep == "last" and self.patience > 0,
                "patience ends a run at its best epoch; it does not go with keep: last",
            ),
            (not 0 <= self.average < 1, f"average {self.average}: 0 (no mean) to below 1"),
            (self.patience < 0, f"patience {self.patience}: 0 (never stop early) or more"),
            (not 0 <= self.seed < 2**63, f"seed {self.seed}: a whole number of 0 or more"),
        ):
            if wrong:
                raise UsageError(f"train: {what}")
        parse_loss(self.loss)
