"""The state of a training run, and its checkpoint file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cwsam_geo.atomic import atomic_output
from cwsam_geo.errors import ModelError, UsageError

FORMAT = 1
"""Version of the checkpoint format; other versions are refused."""

# Keys of a checkpoint.
_PARTS = frozenset({"format", "settings", "batch_size", "history", "best", "tensors", "machinery"})


@dataclass(frozen=True)
class EpochRecord:
    """Loss and validation scores of an epoch. Undefined scores are None.

    Attributes:
        epoch: Number of the epoch, from 1.
        loss: Mean training loss.
        lr: Learning rate of the last step.
        miou: Mean IoU on the validation tiles.
        overall_accuracy: Share of the validation pixels with the right class.
        iou: IoU of each class on the validation tiles, K values.
        seconds: Duration of training and validation.
    """

    epoch: int
    loss: float
    lr: float
    miou: float | None
    overall_accuracy: float | None
    iou: list[float | None]
    seconds: float


@dataclass(frozen=True)
class Best:
    """The epoch whose weights are kept: the one with the highest validation mIoU, or the last.

    Attributes:
        epoch: Number of the epoch, from 1.
        miou: Validation mIoU; NaN if it is undefined.
        matrix: Confusion matrix of the validation, shape (K, K), int64; rows are the labels.
        tensors: The saved tensors of the model after the epoch, by name, on the CPU.
    """

    epoch: int
    miou: float
    matrix: NDArray[np.int64]
    tensors: Mapping[str, Tensor]


@dataclass
class RunState:
    """The state of a run between two epochs.

    Attributes:
        batch_size: Tiles in a batch of one process.
        history: One record for each finished epoch.
        best: The epoch whose weights are kept; None before the first epoch.
        tensors: The saved tensors of the model, by name, on the CPU; empty before the first epoch.
        machinery: States of the optimizer, the loss scaler and the random generators.
    """

    batch_size: int
    history: list[EpochRecord] = field(default_factory=list)
    best: Best | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    machinery: Mapping[str, Any] = field(default_factory=dict)

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def epochs_since_best(self) -> int:
        """Number of epochs after the best one, or of all epochs if none was kept."""
        return self.epochs_done - self.best.epoch if self.best else self.epochs_done


def save_checkpoint(
    path: str | os.PathLike[str], state: RunState, settings: Mapping[str, Any]
) -> None:
    """Writes a checkpoint, atomically, over an older one.

    Args:
        path: The checkpoint file to write.
        settings: Everything that must be unchanged for a run to be resumed, for JSON.

    Raises:
        OutputError: The file cannot be written.
    """
    best = state.best
    content = {
        "format": FORMAT,
        "settings": json.dumps(settings, sort_keys=True),
        "batch_size": state.batch_size,
        "history": [vars(record) for record in state.history],
        "best": best and {**vars(best), "matrix": torch.from_numpy(best.matrix)},
        "tensors": dict(state.tensors),
        "machinery": dict(state.machinery),
    }
    with atomic_output(path, overwrite=True) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: str | os.PathLike[str], settings: Mapping[str, Any]) -> RunState:
    """Reads a checkpoint, without running any code in it.

    Args:
        path: The checkpoint file.
        settings: Settings of the run that continues; they must equal those of the checkpoint.

    Raises:
        UsageError: There is no checkpoint, or it was made with other settings.
        ModelError: The file is damaged, or has another format version.
    """
    if not Path(path).is_file():
        raise UsageError(f"{path}: no checkpoint to resume from; leave out --resume to start")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if set(content) != _PARTS or content["format"] != FORMAT:
            raise ModelError(f"{path}: a checkpoint of another version; start anew")
        made_with = json.loads(content["settings"])
        best = content["best"]
        state = RunState(
            batch_size=content["batch_size"],
            history=[EpochRecord(**record) for record in content["history"]],
            best=best and Best(**{**best, "matrix": best["matrix"].numpy()}),
            tensors=content["tensors"],
            machinery=content["machinery"],
        )
    except ModelError:
        raise
    except Exception as error:  # torch raises errors of many types on damaged files
        raise ModelError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); leave out --resume and "
            "pass --overwrite to start anew"
        ) from None
    # Through JSON, so that tuples compare equal to the lists of the file.
    _compare(path, made_with, json.loads(json.dumps(settings)))
    return state


def epochs_kept(path: str | os.PathLike[str]) -> int | None:
    """Number of epochs in a checkpoint on the disk; None if the checkpoint cannot be read."""
    try:
        # Memory-mapped, so that hundreds of MB of tensors are not read.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return len(content["history"])
    except Exception:  # torch raises errors of many types on damaged files
        return None


def _compare(path: str | os.PathLike[str], then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises UsageError if settings of the checkpoint differ from those of the run."""
    changed = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    if not changed:
        return
    anew = "start anew with --overwrite and without --resume"
    if not set(changed) & set(then):
        raise UsageError(
            f"{path}: an older version wrote it without {', '.join(changed)}, so the run might "
            f"not go on as it began; {anew}"
        )
    differences = ", ".join(f"{k} ({_short(then, k)}, now {_short(now, k)})" for k in changed)
    raise UsageError(
        f"{path}: the run was started with other settings: {differences}; give the same ones, "
        f"or {anew}"
    )


def _short(settings: Mapping[str, Any], key: str) -> str:
    if key not in settings:
        return "not recorded"
    text = json.dumps(settings[key], ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
