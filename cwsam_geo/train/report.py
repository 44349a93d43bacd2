"""What a training run came to: metrics for JSON, and the model card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cwsam_geo import __version__
from cwsam_geo.legend import Legend
from cwsam_geo.metrics import Scores
from cwsam_geo.model.build import Architecture
from cwsam_geo.model.header import BaseReference
from cwsam_geo.preprocess import PreprocessSpec
from cwsam_geo.train.recipe import Recipe
from cwsam_geo.train.state import Best, EpochRecord

_OVERALL = (
    ("miou", "mIoU"),
    ("mean_f1", "mean F1"),
    ("overall_accuracy", "overall accuracy"),
    ("kappa", "kappa"),
    ("fwiou", "FWIoU"),
)
_SCORES = ("iou", "precision", "recall", "f1")


@dataclass(frozen=True)
class Training:
    """A training run that is over.

    Attributes:
        name: Of the model.
        legend: Its classes.
        ignore: Channels that do not count in the scores.
        architecture: Its sizes and options.
        preprocess: From a scene's bands to its input.
        recipe: How it was trained.
        start: What it was trained from, in words.
        base: The weights that its adapters need; None for a full model.
        history: One record an epoch.
        best: The epoch whose weights are the model's.
        data: What it was trained on, for JSON.
        run: Device, precision, processes and time, for JSON.
        licence: What its makers say of its licence.
    """

    name: str
    legend: Legend
    ignore: tuple[int, ...]
    architecture: Architecture
    preprocess: PreprocessSpec
    recipe: Recipe
    start: str
    base: BaseReference | None
    history: Sequence[EpochRecord]
    best: Best
    data: Mapping[str, Any]
    run: Mapping[str, Any]
    licence: str

    @property
    def scores(self) -> Scores:
        """Scores of the best epoch on the validation tiles."""
        return Scores.of(self.best.matrix, self.ignore)

    def overall(self) -> dict[str, float | None]:
        """The scores of all classes together."""
        scores = self.scores
        return {key: _number(getattr(scores, key)) for key, _ in _OVERALL}

    def classes(self) -> list[dict[str, Any]]:
        """The scores of each class."""
        scores, matrix = self.scores, self.best.matrix
        return [
            {
                **entry,
                "ignored": i in self.ignore,
                **{key: _number(getattr(scores, key)[i]) for key in _SCORES},
                "support": int(matrix[i].sum()),
                "mapped": int(matrix[:, i].sum()),
            }
            for i, entry in enumerate(self.legend.to_list())
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON; scores without a value are None."""
        return {
            "cwsam_geo": __version__,
            "model": self.name,
            "validation": {
                "epoch": self.best.epoch,
                "overall": self.overall(),
                "classes": self.classes(),
                "matrix": {
                    "rows": "labels",
                    "columns": "model",
                    "classes": self.legend.names,
                    "counts": self.best.matrix.tolist(),
                },
            },
            "start": self.start,
            "base": asdict(self.base) if self.base else None,
            "recipe": asdict(self.recipe),
            "data": dict(self.data),
            "run": dict(self.run),
            "history": [asdict(record) for record in self.history],
        }

    def provenance(self) -> dict[str, Any]:
        """What the bundle says of where it comes from."""
        report = self.to_dict()
        return {
            "name": self.name,
            "trained": True,
            "created_by": f"cwsam-geo {__version__}",
            "licence": self.licence,
            "start": self.start,
            "data": report["data"],
            "metrics": report["validation"],
            "recipe": report["recipe"],
            "run": report["run"],
        }


def model_card(training: Training) -> str:
    """The model card, Markdown."""
    return "\n".join(_card(training)) + "\n"


def _card(t: Training) -> Iterable[str]:
    spec, recipe = t.preprocess, t.recipe
    size = t.architecture.backbone.name
    yield f"# {t.name}"
    yield ""
    yield (
        f"A CWSAM land-cover model ({size}, {len(t.legend)} classes, tiles of {spec.tile_size} px) "
        f"made with cwsam-geo {__version__}; it {t.start}."
    )
    if t.base:
        yield ""
        yield (
            f"It holds adapters only: to use it, `{t.base.name}` must be there too "
            f"(sha256 of the tensors it needs: `{t.base.sha256[:12]}...`)."
        )
    yield from (
        "",
        "## Use",
        "",
        "```",
        f"cwsam-geo predict SCENE -m {t.name}.safetensors -o MAP.tif",
    )
    yield from ("```", "", "## Accuracy", "")
    yield (
        f"On {_thousands(t.scores.total)} labelled pixels of validation areas that training never "
        f"saw, after epoch {t.best.epoch} of {len(t.history)}, the best by mIoU. These areas chose "
        "the epoch, so that the figures are a little too good; for an independent account run "
        "`cwsam-geo evaluate` on labels that were not used here."
    )
    overall = t.overall()
    yield ""
    yield from _table(["score", "value"], [[name, _share(overall[key])] for key, name in _OVERALL])
    yield ""
    head = ["class", "IoU", "precision", "recall", "F1", "labelled pixels"]
    yield from _table(
        head,
        [
            [
                f"{c['code']} {c['name']}" + (" (not counted)" if c["ignored"] else ""),
                *(_share(c[key]) for key in _SCORES),
                _thousands(c["support"]),
            ]
            for c in t.classes()
        ],
    )
    yield from ("", "## Input", "")
    units = {"db": "decibels", "linear": "power", "amplitude8": "8-bit amplitude"}[spec.scaling]
    yield (
        f"Bands {', '.join(spec.bands)}, turned into {units}, clipped to "
        f"{', '.join(f'{low:g} to {high:g}' for low, high in spec.clip)}; channels "
        f"{', '.join(spec.channels)}, less {_numbers(spec.mean)}, divided by {_numbers(spec.std)}."
    )
    yield from ("", "## Data", "")
    yield from _data_lines(t.data)
    yield from ("", "## Training", "")
    weights = recipe.class_weights
    shown = weights if isinstance(weights, str) else _numbers(weights)
    yield (
        f"Scope {recipe.scope}; AdamW, learning rate {recipe.lr:g} by a cosine to "
        f"{recipe.lr_end:g}; loss {recipe.loss}; class weights {shown}; "
        f"{len(t.history)} of {recipe.epochs} epochs; seed {recipe.seed}."
    )
    yield from ("", "; ".join(f"{k} {v}" for k, v in t.run.items()) + ".")
    yield from ("", "## Licence", "", t.licence)


def _data_lines(data: Mapping[str, Any]) -> Iterable[str]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {_plain(v)}" for k, v in value.items() if k != "coordinates")
        elif isinstance(value, (list, tuple)):
            value = ", ".join(_plain(v) for v in value)
        yield f"- {key.replace('_', ' ')}: {_plain(value)}"


def _plain(value: Any) -> str:
    return _thousands(value) if isinstance(value, int) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

    yield line(head)
    yield line("---" if i == 0 else "---:" for i in range(len(head)))
    for row in rows:
        yield line(row)


def _thousands(value: float) -> str:
    return f"{int(value):,}"


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{v:.4g}" for v in values)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
