"""The model card: a description of a trained model in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import shapely

from cwsam_geo._version import __version__
from cwsam_geo.core.counting import how_many
from cwsam_geo.core.pixel_size import PixelSizes
from cwsam_geo.core.reliability import reliability_text
from cwsam_geo.core.score_table import class_head, class_rows, overall_rows
from cwsam_geo.finetuning.report.results import TrainingResult

_SCALINGS = {"db": "decibels", "linear": "power", "amplitude8": "8-bit amplitude / 255"}
# Scenes and partial labels that the card names before it writes "...".
_LISTED = 20


def model_card(training: TrainingResult) -> str:
    """Returns the model card of a training run as Markdown."""
    parts = (_head, _use, _accuracy, _input, _data, _recipe, _licence)
    return "\n".join(line for part in parts for line in part(training)) + "\n"


def _head(t: TrainingResult) -> Iterable[str]:
    yield f"# {t.name}"
    yield ""
    yield (
        f"A land-cover model for SAR scenes: CWSAM, backbone {t.architecture.backbone.name}, "
        f"{len(t.legend)} classes, tiles of {t.preprocess.tile_size} px; made with cwsam-geo "
        f"{__version__}; {t.start}."
    )
    if t.base:
        yield ""
        yield (
            f"It holds adapters only: to use it, `{t.base.name}` must be beside it or among the "
            f"installed models (sha256 of its frozen tensors: `{t.base.sha256}`)."
        )


def _use(t: TrainingResult) -> Iterable[str]:
    command = f"cwsam-geo predict SCENE.tif -m {t.name}.safetensors -o MAP.tif"
    yield from ("", "## Use", "", "```", command, "```")


def _accuracy(t: TrainingResult) -> Iterable[str]:
    yield from ("", "## Accuracy", "")
    yield (
        f"On {t.scores.total:,.0f} labelled pixels of validation areas that training did not see. "
        + (
            f"These areas chose the epoch ({t.best.epoch} of {len(t.history)}, the highest mIoU), "
            "which makes the figures a little too good."
            if t.recipe.keep == "best"
            else "The model is that of the last epoch; these figures did not choose it."
        )
    )
    partial = [" or ".join(names) for names in t.data["partial_labels"]]
    if partial:
        listed = "; ".join(partial[:_LISTED]) + ("; ..." if len(partial) > _LISTED else "")
        yield ""
        yield (
            f"A pixel whose label is one of several classes ({listed}) counts only where the map "
            "gives none of them. It then counts as an error of the class among them that the model "
            "finds likeliest. Such labels can lower a class's scores, but never raise them."
        )
    yield from _scores(t.report(t.best.matrix))
    yield from _confidence(t)
    if t.test is not None:
        report = t.report(t.test.matrix)
        pixels = sum(c["support"] for c in report["classes"] if not c["ignored"])
        yield ""
        yield f"On {pixels:,} labelled pixels of test areas, which decided nothing:"
        yield from _scores(report)
        yield ""
        yield f"With its temperature: {reliability_text(t.test.reliability.to_dict())}."


def _confidence(t: TrainingResult) -> Iterable[str]:
    parts = t.calibration.parts
    for part in parts:
        which = f" for scenes with {', '.join(part.bands)}" if len(parts) > 1 else ""
        before, after = (reliability_text(r.to_dict()) for r in (part.before, part.after))
        yield ""
        yield (
            f"Confidence{which} is the softmax of the logits divided by {part.temperature:.3f}, "
            f"the temperature that suits these areas best. Without it: {before}. With it: {after}."
        )
    yield ""
    yield "In places unlike these, confidence can still be too high."


def _scores(report: Mapping[str, Any]) -> Iterable[str]:
    yield from ("", *_table(["score", "value"], overall_rows(report)), "")
    counts = {"support": "labelled pixels"}
    yield from _table(class_head(counts), class_rows(report["classes"], counts))


def _input(t: TrainingResult) -> Iterable[str]:
    spec = t.preprocess
    clips = zip(spec.bands, spec.clip, strict=True)
    yield from ("", "## Input", "")
    yield (
        f"{_SCALINGS[spec.scaling].capitalize()} of {', '.join(spec.bands)}, clipped ("
        + ", ".join(f"{band} {low:.4g} to {high:.4g}" for band, (low, high) in clips)
        + f"); channels {', '.join(spec.channels)} with mean {_numbers(spec.mean)} and deviation "
        f"{_numbers(spec.std)}."
    )
    if spec.optional_bands:
        yield ""
        yield f"A scene may lack {', '.join(spec.optional_bands)}: the mean stands for it."


def _data(t: TrainingResult) -> Iterable[str]:
    data = t.data
    yield from ("", "## Training data", "")
    count, listed = data["scene_count"], data["scenes"][:_LISTED]
    names = ", ".join(s["scene"] for s in listed) + (", ..." if count > len(listed) else "")
    yield f"- {count} scene{'s' if count != 1 else ''}: {names}"
    pixels = ", ".join(f"{name} {n:,}" for name, n in data["training_pixels"].items())
    yield f"- labelled pixels for training: {pixels}"
    if data["blocks"]:
        blocks = ", ".join(f"{n} {name}" for name, n in data["blocks"].items())
        yield f"- spatial blocks with a gap between them: {blocks}"
    if data["footprint"]:
        west, south, east, north = shapely.from_geojson(json.dumps(data["footprint"])).bounds
        yield (
            f"- footprint: longitude {west:.3f} to {east:.3f}, latitude {south:.3f} to {north:.3f} "
            "(the bundle holds its outline)"
        )
    else:
        yield "- footprint: not known; the scenes have no CRS"
    sizes = PixelSizes.from_json(data["pixel_size_m"])
    if sizes is not None:
        yield f"- pixels: {sizes} on the ground"


def _recipe(t: TrainingResult) -> Iterable[str]:
    recipe = t.recipe
    weights = ", ".join(
        f"{name} {w:.3g}" for name, w in zip(t.legend.names, t.class_weights, strict=True)
    )
    trained = "adapters, prompt and decoder" if recipe.scope == "adapters" else "all weights"
    yield from ("", "## Training", "")
    yield f"- trained: {trained}"
    yield f"- loss: {recipe.loss}; class weights: {weights}"
    yield (
        f"- AdamW, learning rate {recipe.lr:g} to {recipe.lr_end:g} by a cosine, weight decay "
        f"{recipe.weight_decay:g}; seed {recipe.seed}"
    )
    kept = f"kept: {t.best.epoch}"
    if recipe.average:
        kept += f", the running mean of the weights with decay {recipe.average:g}"
    yield f"- {len(t.history)} of {how_many(recipe.epochs, 'epoch')}; {kept}"
    yield "- " + "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in t.run.items())


def _licence(t: TrainingResult) -> Iterable[str]:
    yield from ("", "## Licence", "", t.licence)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

    yield line(head)
    yield line("---" if i == 0 else "---:" for i in range(len(head)))
    for row in rows:
        yield line(row)


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{v:.4g}" for v in values)
