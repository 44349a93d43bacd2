"""The result of a training run, as a value, as JSON and as provenance of the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwsam_geo._version import __version__
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.metrics import Scores
from cwsam_geo.core.preprocess import PreprocessSpec
from cwsam_geo.core.reliability import Reliability
from cwsam_geo.core.score_table import score_report
from cwsam_geo.finetuning.region.config import Recipe
from cwsam_geo.finetuning.training.calibration import Calibration
from cwsam_geo.finetuning.training.state import Best, EpochRecord
from cwsam_geo.finetuning.training.worst_tiles import WorstTile
from cwsam_geo.model.bundles.bundle import BaseReference
from cwsam_geo.model.network.architecture import Architecture


@dataclass(frozen=True)
class HeldOutScores:
    """What a model reaches on test tiles, which decided nothing in its training.

    Attributes:
        matrix: Confusion matrix, shape (K, K), int64; rows are the labels, columns the model.
        reliability: Confidence, with the model's temperature, and accuracy.
    """

    matrix: NDArray[np.int64]
    reliability: Reliability


@dataclass(frozen=True)
class TrainingResult:
    """A finished training run.

    Attributes:
        legend: The model's classes.
        ignore: Channels that do not count in the scores.
        architecture: Sizes and options of the model.
        preprocess: The model's preprocessing of scenes.
        recipe: The hyperparameters, with the batch size that was used.
        class_weights: Weight of each class in the loss.
        start: The weights that training started from, as a sentence.
        base: The weights that the model's adapters need; None for a full model.
        history: One record for each epoch.
        best: The epoch whose weights the model has.
        calibration: The model's temperatures, fitted on the validation tiles.
        test: The model's scores on the test tiles, or None if there are none.
        data: Scenes, labels and split, for JSON; see ``train.summary``.
        run: Device, precision, processes and time, for JSON.
        licence: Text on the licence of the model.
        worst: Validation tiles with most errors, for the page; empty without it.
    """

    name: str
    legend: Legend
    ignore: tuple[int, ...]
    architecture: Architecture
    preprocess: PreprocessSpec
    recipe: Recipe
    class_weights: tuple[float, ...]
    start: str
    base: BaseReference | None
    history: Sequence[EpochRecord]
    best: Best
    calibration: Calibration
    test: HeldOutScores | None
    data: Mapping[str, Any]
    run: Mapping[str, Any]
    licence: str
    worst: tuple[WorstTile, ...] = ()

    @property
    def scores(self) -> Scores:
        """Scores of the kept epoch on the validation tiles."""
        return Scores.of(self.best.matrix, self.ignore)

    def report(self, matrix: NDArray[np.int64]) -> dict[str, Any]:
        """A confusion matrix and its scores, for JSON. Undefined scores are None.

        Args:
            matrix: Shape (K, K); rows are the labels, columns the model.
        """
        return {
            **score_report(Scores.of(matrix, self.ignore), self.legend, matrix),
            "matrix": {
                "rows": "labels",
                "columns": "model",
                "classes": self.legend.names,
                "counts": matrix.tolist(),
            },
        }

    def metrics(self) -> dict[str, Any]:
        """Scores on the validation tiles, and on the test tiles if there are any, for JSON."""
        metrics = {
            "validation": {
                "epoch": self.best.epoch,
                **self.report(self.best.matrix),
                "calibration": self.calibration.to_dict(),
            }
        }
        if self.test is not None:
            reliability = {"reliability": self.test.reliability.to_dict()}
            metrics["test"] = self.report(self.test.matrix) | reliability
        return metrics

    def to_dict(self) -> dict[str, Any]:
        """The whole run as plain values, for JSON."""
        return {
            "cwsam_geo": __version__,
            "model": self.name,
            **self.metrics(),
            "start": self.start,
            "base": asdict(self.base) if self.base else None,
            "recipe": {**asdict(self.recipe), "class_weights": list(self.class_weights)},
            "data": dict(self.data),
            "run": dict(self.run),
            "history": [asdict(record) for record in self.history],
        }

    def provenance(self) -> dict[str, Any]:
        """The provenance that is stored in the bundle, for JSON."""
        report = self.to_dict()
        return {
            "name": self.name,
            "trained": True,
            "created_by": f"cwsam-geo {__version__}",
            "licence": self.licence,
            "start": self.start,
            "data": report["data"],
            "metrics": self.metrics(),
            "recipe": report["recipe"],
            "run": report["run"],
        }
