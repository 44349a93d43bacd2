"""Reading ``region.yaml``: unknown keys and wrong values are errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cwsam_geo.core.class_values import IGNORE, ClassMap, value_name
from cwsam_geo.core.counting import how_many
from cwsam_geo.core.legend import Legend
from cwsam_geo.core.preprocess import SCALINGS
from cwsam_geo.errors import CwsamGeoError, LegendError, UsageError
from cwsam_geo.finetuning.region.config import (
    AUGMENTATIONS,
    KEEPS,
    SCOPES,
    SPLITS,
    BlockOptions,
    InputOptions,
    LabelledScene,
    Machine,
    Recipe,
    RegionConfig,
    TileOptions,
)
from cwsam_geo.finetuning.region.fields import (
    Reader,
    boolean,
    check_keys,
    integer,
    list_of,
    load_yaml,
    number,
    one_of,
    or_auto,
    read_fields,
    text,
)
from cwsam_geo.finetuning.region.pairs import find_pairs
from cwsam_geo.io.vector_file import VectorLayer
from cwsam_geo.scene.units import UNITS_OPTIONS

DEFAULT_INIT = "sam_vit_b"
"""Model from which training starts unless ``init`` names another: SAM's weights."""

# Keys of the file, and of each entry of its scenes
_TOP = ("classes", "ignore", "scenes", "init", "train", "validation", "preprocess", "licence")
_SCENE = (
    "scene",
    "labels",
    "column",
    "layer",
    "label_band",
    "map",
    "split",
    "bands",
    "units",
    "nodata",
    "scale",
    "offset",
)

# Readers of the values by key. ``train`` has the keys of the first three.
_RECIPE: Mapping[str, Reader] = {
    "epochs": integer,
    "lr": number,
    "lr_end": number,
    "warmup": number,
    "weight_decay": number,
    "clip_norm": number,
    "batch_size": or_auto(integer),
    "accumulate": integer,
    "loss": text,
    "scope": one_of(*SCOPES),
    "checkpointing": boolean,
    "patience": integer,
    "keep": one_of(*KEEPS),
    "average": number,
    "seed": integer,
}
_TILES: Mapping[str, Reader] = {
    "tile_size": integer,
    "overlap": or_auto(integer),
    "augment": list_of(one_of(*AUGMENTATIONS)),
    "balance": number,
    "samples": or_auto(integer),
}
_MACHINE: Mapping[str, Reader] = {
    "device": text,
    "precision": text,
    "workers": or_auto(integer),
}
_BLOCKS: Mapping[str, Reader] = {
    "block_size_m": or_auto(number),
    "block_size_px": or_auto(integer),
    "fraction": number,
    "test_fraction": number,
    "gap_px": or_auto(integer),
}
_INPUTS: Mapping[str, Reader] = {
    "bands": list_of(text),
    "channels": list_of(text),
    "scaling": one_of(*SCALINGS),
    "mean": list_of(number),
    "std": list_of(number),
    "clip": list_of(list_of(number)),
    "optional": list_of(text),
}


def load_region(path: str | Path, overrides: Mapping[str, Any] | None = None) -> RegionConfig:
    """Reads ``region.yaml``; relative paths in it refer to its folder.

    Args:
        overrides: Values that replace those of the file by key; mappings such as ``train`` are
            merged key by key.

    Raises:
        CwsamGeoError: The file cannot be read.
        UsageError: A key or value is wrong, the classes included. The message names it.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not text"
        raise CwsamGeoError(f"{path}: cannot be read ({why})") from None
    data = dict(load_yaml(content, str(path)))
    for key, value in (overrides or {}).items():
        old = data.get(key)
        merge = isinstance(value, Mapping) and isinstance(old, Mapping)
        data[key] = {**old, **value} if merge and old else value
    return parse_region(data, Path(path).absolute().parent, str(path))


def parse_region(data: Mapping[str, Any], folder: Path, where: str) -> RegionConfig:
    """Reads a region from a mapping.

    Args:
        data: Keys and values as in ``region.yaml``.
        folder: Folder to which relative paths refer.
        where: Name of the region in messages.

    Raises:
        UsageError: A key or value is wrong, the classes included. The message names it.
    """
    try:
        return _parsed(data, folder, where)
    except (UsageError, LegendError) as error:
        # What is wrong in a region file is wrong usage, in its classes too. Errors from elsewhere,
        # such as Recipe's, do not name the file.
        named = str(error).startswith(where)
        raise UsageError(str(error) if named else f"{where}: {error}") from None


def _parsed(data: Mapping[str, Any], folder: Path, where: str) -> RegionConfig:
    check_keys(data, _TOP, where)
    for required in ("classes", "scenes"):
        if required not in data:
            raise UsageError(f"{where}: needs the key {required}")
    legend = Legend.from_list(data["classes"], where, data.get("ignore"))
    if len(legend) < 2:
        raise LegendError(
            f"{where}: has one class; a model needs two or more: name the rest as well"
        )
    section = f"{where}: train"
    train = check_keys(
        {} if data.get("train") is None else data["train"],
        {*_RECIPE, "class_weights", *_TILES, *_MACHINE},
        section,
    )
    recipe = _some(train, _RECIPE, section)
    if "class_weights" in train:
        recipe["class_weights"] = _weights(train["class_weights"], legend, section)
    return RegionConfig(
        legend=legend,
        scenes=_scenes(data["scenes"], legend, folder, where),
        init=_init(data.get("init", DEFAULT_INIT), folder, where),
        recipe=Recipe(**recipe),
        tiles=TileOptions(**_some(train, _TILES, section)),
        blocks=BlockOptions(**read_fields(data.get("validation"), _BLOCKS, f"{where}: validation")),
        inputs=InputOptions(**read_fields(data.get("preprocess"), _INPUTS, f"{where}: preprocess")),
        machine=Machine(**_some(train, _MACHINE, section)),
        licence=text(data["licence"], f"{where}: licence") if data.get("licence") else None,
        label=where,
    )


def _some(train: Mapping[str, Any], readers: Mapping[str, Reader], where: str) -> dict[str, Any]:
    """Reads the keys of ``train`` that these readers know."""
    return read_fields({k: v for k, v in train.items() if k in readers}, readers, where)


def _init(value: Any, folder: Path, where: str) -> str:
    name = text(value, f"{where}: init")
    beside = folder / name
    # A file beside the region comes first; else it is a model's name or any other path, as for
    # predict.
    return str(beside) if beside.is_file() else name


def _weights(value: Any, legend: Legend, where: str) -> Any:
    section = f"{where}: class_weights"
    if isinstance(value, str):
        return one_of("auto", "none")(value, section)
    if isinstance(value, Mapping):
        weights_by_channel = {
            legend.channel(k): number(v, f"{section}: {k}") for k, v in value.items()
        }
        missing = [n for i, n in enumerate(legend.names) if i not in weights_by_channel]
        if missing:
            raise UsageError(f"{section}: no weight for {', '.join(missing)}")
        return tuple(weights_by_channel[i] for i in range(len(legend)))
    weights = list_of(number)(value, section)
    if len(weights) != len(legend):
        raise UsageError(f"{section}: {how_many(len(weights), 'weight')} for {len(legend)} classes")
    return weights


def _scenes(data: Any, legend: Legend, folder: Path, where: str) -> tuple[LabelledScene, ...]:
    if not isinstance(data, list) or not data:
        raise UsageError(f"{where}: scenes must be a list of {{scene, labels, ...}}")
    scenes: list[LabelledScene] = []
    for i, item in enumerate(data, 1):
        place = f"{where}: scenes, entry {i}"
        entry = check_keys(item, _SCENE, place)
        for required in ("scene", "labels"):
            if required not in entry:
                raise UsageError(f"{place}: needs the key {required}")
        scenes += _entry(entry, legend, folder, place)
    return tuple(scenes)


def _entry(
    entry: Mapping[str, Any], legend: Legend, folder: Path, where: str
) -> list[LabelledScene]:
    fields = read_fields(
        {k: v for k, v in entry.items() if k not in ("map", "nodata")},
        {
            "scene": list_of(text),
            "labels": text,
            "column": text,
            "layer": text,
            "label_band": text,
            "split": one_of(*SPLITS),
            "bands": list_of(integer),
            "units": one_of(*UNITS_OPTIONS),
            "scale": number,
            "offset": number,
        },
        where,
    )
    nodata = entry.get("nodata")
    if nodata is not None and nodata != "none":
        nodata = number(nodata, f"{where}: nodata")
    pairs = find_pairs(fields["scene"], fields["labels"], folder, where)
    meanings = _class_map(entry["map"], legend, f"{where}: map") if "map" in entry else None
    return [
        LabelledScene(
            pair=pair,
            layer=VectorLayer(fields.get("column"), fields.get("layer")),
            label_band=fields.get("label_band"),
            map=meanings,
            split=fields.get("split"),
            bands=fields.get("bands"),
            units=fields.get("units", "auto"),
            nodata=nodata,
            scaling=(fields.get("scale"), fields.get("offset")),
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
    """A label's code, name or colour as text, in the form in which label files are read."""
    if isinstance(key, float) and key.is_integer():
        key = int(key)  # YAML reads 1.0 as a float
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise UsageError(f"{where}: {key!r} is no code, name or colour; write a name in quotes")
    return value_name(key)


def _meaning(value: Any, legend: Legend, where: str) -> tuple[int, ...]:
    """Channels of the classes that a label may be; none for ``ignore``."""
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
