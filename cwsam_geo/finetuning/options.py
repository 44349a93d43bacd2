"""What the user of ``finetune`` chooses beside the region file."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class FinetuneOptions:
    """How ``finetune`` treats its outputs.

    Attributes:
        overwrite: Replace existing outputs.
        resume: Continue an interrupted run from its checkpoint.
        tensorboard: Write events for TensorBoard.
        report: HTML page with the learning curves, the accuracy, the worst tiles and a map of the
            split; it needs no internet.
    """

    overwrite: bool = False
    resume: bool = False
    tensorboard: bool = False
    report: str | os.PathLike[str] | None = None
