"""Hyperparameters of training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from cwsam_geo.errors import UsageError
from cwsam_geo.train.losses import parse_loss

Scope = Literal["adapters", "full"]
"""Which weights are trained: those that CWSAM adds to SAM, or all."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

Keep = Literal["best", "last"]
"""Epoch whose weights become the model."""

KEEPS: tuple[Keep, ...] = get_args(Keep)

ClassWeights = Literal["auto", "none"] | tuple[float, ...]
"""By inverse frequency (``auto``), all equal (``none``), or one number for each class."""


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
        loss: A name in ``cwsam_geo.train.losses.LOSSES``, or several joined by ``+``.
        class_weights: ``auto`` (inverse frequency, capped), ``none``, or one number for each class.
        scope: ``adapters`` to train what CWSAM adds to SAM, or ``full`` to train everything.
        checkpointing: Recompute activations in the backward pass, which takes less memory and
            more time.
        patience: Epochs without a better validation mIoU after which training stops; 0 for never.
        keep: ``best`` for the epoch with the highest validation mIoU. ``last`` for the last one:
            useful where validation areas are too small to choose by, or too unlike the scenes
            that will be mapped.
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
            (self.patience < 0, f"patience {self.patience}: 0 (never stop early) or more"),
            (not 0 <= self.seed < 2**63, f"seed {self.seed}: a whole number of 0 or more"),
        ):
            if wrong:
                raise UsageError(f"train: {what}")
        parse_loss(self.loss)
