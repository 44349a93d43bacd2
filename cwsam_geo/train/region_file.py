"""Reading ``region.yaml``: strict on keys and values, relative to its own folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cwsam_geo.errors import LegendError, UsageError
from cwsam_geo.io.features import Layer
from cwsam_geo.legend import Legend, plain_color
from cwsam_geo.preprocess import SCALINGS
from cwsam_geo.train.config import (
    AUGMENTATIONS,
    SPLITS,
    BlockOptions,
    ClassMap,
    InputOptions,
    LabelledScene,
    Machine,
    RegionConfig,
    TileOptions,
)
from cwsam_geo.train.fields import (
    Reader,
    check_keys,
    flag,
    list_of,
    load_yaml,
    one_of,
    or_auto,
    read_fields,
    real,
    text,
    whole,
)
from cwsam_geo.train.pairs import find_pairs
from cwsam_geo.train.recipe import KEEPS, SCOPES, Recipe
from cwsam_geo.units import UNITS_OPTIONS

IGNORE = "ignore"

DEFAULT_INIT = "sam_vit_b"

_TOP = ("classes", "ignore", "scenes", "init", "train", "validation", "preprocess", "licence")
_SCENE = ("scene", "labels", "column", "layer", "map", "split", "bands", "units", "nodata")

_RECIPE: Mapping[str, Reader] = {
    "epochs": whole,
    "lr": real,
    "lr_end": real,
    "warmup": real,
    "weight_decay": real,
    "clip_norm": real,
    "batch_size": or_auto(whole),
    "accumulate": whole,
    "loss": text,
    "scope": one_of(*SCOPES),
    "checkpointing": flag,
    "patience": whole,
    "keep": one_of(*KEEPS),
    "seed": whole,
}
_TILES: Mapping[str, Reader] = {
    "tile_size": whole,
    "overlap": or_auto(whole),
    "augment": list_of(one_of(*AUGMENTATIONS)),
    "balance": real,
    "samples": or_auto(whole),
}
_MACHINE: Mapping[str, Reader] = {"device": text, "precision": text, "workers": whole}
_BLOCKS: Mapping[str, Reader] = {
    "block_size_m": or_auto(real),
    "block_size_px": or_auto(whole),
    "fraction": real,
    "test_fraction": real,
    "gap_px": or_auto(whole),
}
_INPUTS: Mapping[str, Reader] = {
    "bands": list_of(text),
    "channels": list_of(text),
    "scaling": one_of(*SCALINGS),
    "mean": list_of(real),
    "std": list_of(real),
    "clip": list_of(list_of(real)),
    "optional": list_of(text),
}


def load_region(path: str | Path, overrides: Mapping[str, Any] | None = None) -> RegionConfig:
    """Reads ``region.yaml``; relative paths in it start at its folder.

    Args:
        path: The file.
        overrides: Keys that win over the file's; a mapping (``train``) wins key by key.

    Raises:
        UsageError: The file cannot be read, or a key or value is wrong: it is named.
        LegendError: The classes are malformed.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not text"
        raise UsageError(f"{path}: cannot be read ({why})") from None
    data = dict(load_yaml(content, str(path)))
    for key, value in (overrides or {}).items():
        old = data.get(key)
        merge = isinstance(value, Mapping) and isinstance(old, Mapping)
        data[key] = {**old, **value} if merge and old else value
    return parse_region(data, Path(path).absolute().parent, str(path))


def parse_region(data: Mapping[str, Any], folder: Path, where: str) -> RegionConfig:
    """What a region's mapping says.

    Args:
        data: Keys as in ``region.yaml``.
        folder: Where relative paths start.
        where: What to call it in messages.

    Raises:
        UsageError: A key or value is wrong: it is named.
        LegendError: The classes are malformed.
    """
    try:
        return _parsed(data, folder, where)
    except (UsageError, LegendError) as error:
        if str(error).startswith(where):
            raise
        raise type(error)(f"{where}: {error}") from None


def _parsed(data: Mapping[str, Any], folder: Path, where: str) -> RegionConfig:
    check_keys(data, _TOP, where)
    for needed in ("classes", "scenes"):
        if needed not in data:
            raise UsageError(f"{where}: needs the key {needed}")
    legend = Legend.from_list(data["classes"], where, data.get("ignore"))
    if len(legend) < 2:
        raise LegendError(
            f"{where}: has one class; a model needs two or more: name the rest as well"
        )
    said = f"{where}: train"
    train = check_keys(
        {} if data.get("train") is None else data["train"],
        {*_RECIPE, "class_weights", *_TILES, *_MACHINE},
        said,
    )
    recipe = _some(train, _RECIPE, said)
    if "class_weights" in train:
        recipe["class_weights"] = _weights(train["class_weights"], legend, said)
    return RegionConfig(
        legend=legend,
        scenes=_scenes(data["scenes"], legend, folder, where),
        init=_init(data.get("init", DEFAULT_INIT), folder, where),
        recipe=Recipe(**recipe),
        tiles=TileOptions(**_some(train, _TILES, said)),
        blocks=BlockOptions(**read_fields(data.get("validation"), _BLOCKS, f"{where}: validation")),
        inputs=InputOptions(**read_fields(data.get("preprocess"), _INPUTS, f"{where}: preprocess")),
        machine=Machine(**_some(train, _MACHINE, said)),
        licence=text(data["licence"], f"{where}: licence") if data.get("licence") else None,
        label=where,
    )


def _some(train: Mapping[str, Any], readers: Mapping[str, Reader], where: str) -> dict[str, Any]:
    return read_fields({k: v for k, v in train.items() if k in readers}, readers, where)


def _init(value: Any, folder: Path, where: str) -> str:
    name = text(value, f"{where}: init")
    beside = folder / name
    # A file beside the region wins; else it is a name, or a path as predict takes it.
    return str(beside) if beside.is_file() else name


def _weights(value: Any, legend: Legend, where: str) -> Any:
    said = f"{where}: class_weights"
    if isinstance(value, str):
        return one_of("auto", "none")(value, said)
    if isinstance(value, Mapping):
        given = {legend.channel(k): real(v, f"{said}: {k}") for k, v in value.items()}
        missing = [n for i, n in enumerate(legend.names) if i not in given]
        if missing:
            raise UsageError(f"{said}: no weight for {', '.join(missing)}")
        return tuple(given[i] for i in range(len(legend)))
    weights = list_of(real)(value, said)
    if len(weights) != len(legend):
        raise UsageError(f"{said}: {len(weights)} weights for {len(legend)} classes")
    return weights


def _scenes(data: Any, legend: Legend, folder: Path, where: str) -> tuple[LabelledScene, ...]:
    if not isinstance(data, list) or not data:
        raise UsageError(f"{where}: scenes must be a list of {{scene, labels, ...}}")
    scenes: list[LabelledScene] = []
    for number, item in enumerate(data, 1):
        said = f"{where}: scenes, entry {number}"
        entry = check_keys(item, _SCENE, said)
        for needed in ("scene", "labels"):
            if needed not in entry:
                raise UsageError(f"{said}: needs the key {needed}")
        scenes += _entry(entry, legend, folder, said)
    return tuple(scenes)


def _entry(
    entry: Mapping[str, Any], legend: Legend, folder: Path, where: str
) -> list[LabelledScene]:
    read = read_fields(
        {k: v for k, v in entry.items() if k not in ("map", "nodata")},
        {
            "scene": list_of(text),
            "labels": text,
            "column": text,
            "layer": text,
            "split": one_of(*SPLITS),
            "bands": list_of(whole),
            "units": one_of(*UNITS_OPTIONS),
        },
        where,
    )
    nodata = entry.get("nodata")
    if nodata is not None and nodata != "none":
        nodata = real(nodata, f"{where}: nodata")
    pairs = find_pairs(read["scene"], read["labels"], folder, where)
    meanings = _class_map(entry["map"], legend, f"{where}: map") if "map" in entry else None
    return [
        LabelledScene(
            pair=pair,
            layer=Layer(read.get("column"), read.get("layer")),
            map=meanings,
            split=read.get("split"),
            bands=read.get("bands"),
            units=read.get("units", "auto"),
            nodata=nodata,
        )
        for pair in pairs
    ]


def _class_map(data: Any, legend: Legend, where: str) -> ClassMap:
    if not isinstance(data, Mapping) or not data:
        raise UsageError(
            f"{where}: must say what each code is, such as {{0: ignore, 1: water}}; write colours "
            "in quotes ('#0000ff'), since # begins a comment"
        )
    meanings: dict[str, tuple[int, ...]] = {}
    for key, value in data.items():
        name = _label_name(key, where)
        if name in meanings:
            raise UsageError(f"{where}: {name} is given twice")
        meanings[name] = _meaning(value, legend, f"{where}: {name}")
    return meanings


def _label_name(key: Any, where: str) -> str:
    """A code, name or colour as label files are read."""
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise UsageError(f"{where}: {key!r} is no code, name or colour; write a name in quotes")
    return plain_color(str(key).strip())


def _meaning(value: Any, legend: Legend, where: str) -> tuple[int, ...]:
    items = value if isinstance(value, list) else [value]
    if items == [IGNORE]:
        return ()
    try:
        channels = tuple(sorted({legend.channel(item) for item in items}))
    except LegendError as error:
        raise LegendError(f"{where}: {error}, or {IGNORE}") from None
    if not channels:
        raise UsageError(f"{where}: an empty list; write {IGNORE}")
    return channels
