"""The ``region.yaml`` of what was fetched: classes, meanings of the labels, roles, licences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from cwsam_geo.core.legend import Legend, LegendEntry
from cwsam_geo.errors import LegendError
from cwsam_geo.fetch.labels import LabelSource
from cwsam_geo.fetch.land_cover import CLASSES, Meaning

REGION_FILE = "region.yaml"

_VALIDATION = 0.25
"""Share of the labels for validation."""

_MOST_TRIED = 2000
"""Sets of places that are compared for validation."""

_ABSENT = 10.0
"""Cost of a class that training or validation lacks; other costs are shares below 1."""

_TRAIN = """\
train:
  scope: full
  epochs: 20
  samples: 480                    # tiles of an epoch
  batch_size: 8
  lr: 1.0e-3
  warmup: 0.1
  weight_decay: 0.05
  tile_size: 128
  augment: [flip, rot90, speckle, gain, mosaic]
"""


@dataclass(frozen=True)
class LabelledPlace:
    """What was written for one place.

    Attributes:
        name: Name of the place; empty if it is the only one.
        scenes: File names of its scenes.
        labels: File name of its labels.
        counts: Labelled pixels of each code.
    """

    name: str
    scenes: tuple[str, ...]
    labels: str
    counts: Mapping[int, int] = field(default_factory=dict)


def region_text(
    places: Sequence[LabelledPlace],
    source: LabelSource,
    legend: Legend,
    licences: Sequence[str],
    bands: Sequence[str],
) -> str:
    """The text of a region file.

    Args:
        places: The places, with at least one scene and label each.
        source: Where the labels come from.
        legend: The classes of the labels.
        licences: Sentences on the licences of everything that the region is made of.
        bands: Polarisations of the scenes.

    Raises:
        LegendError: The labels hold fewer than two classes.
    """
    totals: dict[int, int] = {}
    for place in places:
        for code, count in place.counts.items():
            totals[code] = totals.get(code, 0) + count
    classes, meanings = _classes(source, legend, totals)
    if len(classes) < 2:
        names = classes[0].name if classes else "no class"
        raise LegendError(
            f"--labels {source.name}: the labels hold {names} only, and a model needs two classes; "
            "fetch a larger area, or leave --labels out"
        )
    lines = [
        "# Made by `cwsam-geo fetch`; change what you like. Train a model with",
        f"#     cwsam-geo finetune {REGION_FILE} -o model.safetensors",
        "#",
        *(f"# {text}" for text in licences),
        "classes:",
        *(
            f"  - {{code: {c.code}, name: {_quoted(c.name)}, color: {_quoted(c.color)}}}"
            for c in classes
        ),
        "",
        "scenes:",
    ]
    validation = _validation_places(places, meanings)
    for number, place in enumerate(places):
        for scene in place.scenes:
            lines += [f"  - scene: {_quoted(scene)}", f"    labels: {_quoted(place.labels)}"]
            if len(places) > 1:
                role = "val" if number in validation else "train"
                lines.append(f"    split: {role:<8}# validation is by place")
            if meanings:
                lines += _map_lines(meanings, legend, first=not any("&codes" in x for x in lines))
    lines.append("")
    if set(bands) & {"VV"}:
        lines += ["init: s1-water                    # the model in the box", ""]
    else:
        lines += [
            "init: small                      # random weights: the model in the box needs VV"
        ]
        lines.append("")
    lines.append(_TRAIN)
    if len(places) == 1:
        lines += [
            "# Blocks of one place. Several places (--place) show better what a model is worth.",
            f"validation: {{fraction: {_VALIDATION}}}",
            "",
        ]
    lines.append(f"licence: {_quoted(' '.join(licences))}")
    return "\n".join(lines) + "\n"


def _classes(
    source: LabelSource, legend: Legend, totals: Mapping[int, int]
) -> tuple[list[LegendEntry], dict[int, Meaning]]:
    """The classes of the region that occur for certain, and what each code means for them."""
    if source.meanings is None:
        return [e for e in legend.entries if totals.get(e.code)], {}
    certain = {
        m for code, m in source.meanings.items() if isinstance(m, str) and totals.get(code)
    } - {"ignore"}
    meanings: dict[int, Meaning] = {}
    for code, meaning in source.meanings.items():
        names = (meaning,) if isinstance(meaning, str) else meaning
        left = tuple(name for name in names if name in certain)
        meanings[code] = "ignore" if not left else left[0] if len(left) == 1 else left
    return [entry for entry in CLASSES if entry.name in certain], meanings


def _map_lines(meanings: Mapping[int, Meaning], legend: Legend, first: bool) -> list[str]:
    if not first:
        return ["    map: *codes"]
    names = {int(e.code): e.name for e in legend.entries}
    lines = ["    map: &codes                       # a list: it is one of these"]
    for code, meaning in meanings.items():
        text = (
            _plain(meaning)
            if isinstance(meaning, str)
            else f"[{', '.join(_plain(m) for m in meaning)}]"
        )
        lines.append(f"      {f'{code}: {text}':<31} # {names.get(code, '')}".rstrip(" #"))
    return lines


def _validation_places(
    places: Sequence[LabelledPlace], meanings: Mapping[int, Meaning]
) -> frozenset[int]:
    """Places for validation: about a quarter of the labels, and every class on both sides."""
    if len(places) == 1:
        return frozenset()
    names = sorted({m for m in meanings.values() if isinstance(m, str)} - {"ignore"})
    tables = [
        [
            sum(n for code, n in place.counts.items() if _certain(meanings, code) == name)
            for name in names or ["all"]
        ]
        for place in places
    ]
    total = [sum(column) for column in zip(*tables, strict=True)]
    best, lowest = frozenset({len(places) - 1}), float("inf")
    tried = 0
    for size in range(1, len(places)):
        for chosen in combinations(range(len(places)), size):
            tried += 1
            if tried > _MOST_TRIED:
                return best
            part = [sum(tables[i][k] for i in chosen) for k in range(len(total))]
            cost = sum(
                _ABSENT * (p == 0) + _ABSENT * (p == t) + abs(p / t - _VALIDATION)
                for p, t in zip(part, total, strict=True)
                if t
            )
            if cost < lowest:
                best, lowest = frozenset(chosen), cost
    return best


def _certain(meanings: Mapping[int, Meaning], code: int) -> str | None:
    """The class of a code that has one; the name of all where codes are classes themselves."""
    meaning = meanings.get(code) if meanings else "all"
    return meaning if isinstance(meaning, str) else None


def _plain(name: str) -> str:
    return name if name.replace("-", "").isalpha() else _quoted(name)


def _quoted(text: str) -> str:
    """A text in double quotes, as YAML and JSON have it."""
    return json.dumps(text, ensure_ascii=False)
