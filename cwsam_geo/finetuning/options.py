"""What the user of ``finetune`` chooses beside the region file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FinetuneOptions:
    """How ``finetune`` treats its outputs.

    Attributes:
        overwrite: Replace existing outputs.
        resume: Continue an interrupted run from its checkpoint.
        tensorboard: Write events for TensorBoard.
    """

    overwrite: bool = False
    resume: bool = False
    tensorboard: bool = False
