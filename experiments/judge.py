"""Scores any model bundle on a folder of labelled places, beside a forest and a threshold.

    python experiments/judge.py MODEL --places FOLDER [--floods FOLDER] --output FOLDER

The folder of places holds a folder per place, in it ``s1*.tif`` with ``label4*.tif`` (or
``label*.tif``, whose bare and low vegetation are joined, or ``waterland*.tif`` with ``--ombria``).
Scenes with both bands are judged three times: whole, by VV alone and by VH alone.

Written are ``judge.json``, ``index.html`` and a picture per scene. The JSON has, for each mode,
``pooled`` and by place, the model's, the forest's and the threshold's IoU, precision, recall and
pixels of each class, calibration error, and the share of open land that is mapped as water:
``capped`` to 3,000 pixels per class and site, and of ``all`` pixels (of forest and threshold at
most 20,000 per class and scene). ``desert`` has that share for sites whose name begins with desert,
of all pixels; ``floods`` has water of all pixels of Sen1Floods11.

Forest and threshold never see the site they are judged on. Whether the model has, only who trained
it knows: ``landcover_places.py folds`` judges each site by a model that has not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from judge_forest import baselines
from judge_maps import BANDS, MODES, Mode, map_scene, model_map
from judge_metrics import CAPPED, Pixels, Verdict, capped
from judge_page import strip, write_page
from numpy.typing import NDArray
from places_data import (
    FOLDS,
    LabelledPlace,
    best_window,
    decibels,
    floods,
    places,
    shared_data,
)

from cwsam_geo import load_model
from cwsam_geo.model.runtime.predictor import LoadedModel

ModelOf = Callable[[str], LoadedModel | None]
"""From a site to the model that judges it, or None for none."""


@dataclass(frozen=True)
class Judged:
    """What a model says of one scene in one mode.

    Attributes:
        item: The scene.
        pixels: All its labelled pixels with what the model says.
        kept: Indices of those whose logits are kept, to calibrate the model by.
        logits: Theirs, shape (M, K).
    """

    item: LabelledPlace
    pixels: Pixels
    kept: NDArray[np.int64]
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class How:
    """How it is judged.

    Attributes:
        temperature: Logits are divided by it; None for the bundle's own.
        baselines: Train the forest and the threshold too.
        windows: Of a scene above 600 px judge the window of 256 px with the best mix of classes.
        modes: With which bands.
        cache: Folder in which the forest's answers are kept, for the next model.
    """

    temperature: float | None = None
    baselines: bool = True
    windows: bool = False
    modes: tuple[Mode, ...] = MODES
    cache: Path | None = None


def judge(
    listed: Sequence[LabelledPlace],
    model_of: ModelOf,
    output: Path,
    how: How | None = None,
) -> dict[str, Any]:
    """Judges a model, or several, each on its sites.

    Args:
        listed: The scenes.
        model_of: Which model maps a site.
        output: Folder for JSON, page and pictures.
        how: How it is judged.

    Returns:
        What is written to ``judge.json``.
    """
    (output / "pictures").mkdir(parents=True, exist_ok=True)
    how = how or How()
    began = time.perf_counter()
    pictures: list[tuple[str, str]] = []
    result: dict[str, Any] = {"how": {**asdict(how), "cache": None}, "modes": {}}
    for mode in how.modes:
        found = []
        for item in listed:
            judged = _judged(item, mode, model_of, how, output, pictures)
            if judged is not None:
                found.append(judged)
        if found:
            _keep_logits(output / f"logits_{mode}.npz", found)
            others = baselines(listed, BANDS[mode], how.windows, how.cache) if how.baselines else {}
            result["modes"][mode] = verdicts(found, others)
    result["seconds"] = round(time.perf_counter() - began, 1)
    (output / "judge.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    write_page(output, result, pictures)
    return result


def _judged(
    item: LabelledPlace,
    mode: Mode,
    model_of: ModelOf,
    how: How,
    output: Path,
    pictures: list[tuple[str, str]],
) -> Judged | None:
    bands, valid = decibels(item.scene)
    model = model_of(item.site)
    if not set(BANDS[mode]) <= set(bands) or model is None or (item.flood and mode == "vh"):
        return None
    codes = np.where(valid, item.codes(), 0).astype(np.uint8)
    if how.windows:
        part = best_window(codes)
        codes, valid = codes[part], valid[part]
        bands = {name: band[part] for name, band in bands.items()}
    here = codes > 0
    if not here.any():
        return None
    seen = {name: bands[name] for name in BANDS[mode]}
    logits = map_scene(model, seen, valid, mode)
    mapped = model_map(model, logits, mode, how.temperature)
    if mode == "both" or len(bands) == 1:
        name = f"pictures/{item.place}_{item.scene.stem}_{mode}.png"
        strip(bands, codes, [mapped.codes], mapped.confidence).save(output / name)
        pictures.append((f"{item.place} {item.scene.name} ({mode})", name))
    pixels = Pixels(codes[here], mapped.codes[here], mapped.confidence[here], mapped.water[here])
    kept = capped(pixels.labels, CAPPED)
    rows, columns = (axis[kept] for axis in np.nonzero(here))
    return Judged(item, pixels, kept, np.ascontiguousarray(logits[:, rows, columns].T))


def _keep_logits(path: Path, found: Sequence[Judged]) -> None:
    """Logits and labels of capped pixels with their sites, for calibrate.py."""
    sites = np.concatenate([np.repeat(j.item.site, len(j.kept)) for j in found])
    labels = np.concatenate([j.pixels.labels[j.kept] for j in found])
    widths = {j.logits.shape[1] for j in found}
    if len(widths) == 1:
        np.savez_compressed(
            path, site=sites, label=labels, logits=np.concatenate([j.logits for j in found])
        )


def verdicts(found: Sequence[Judged], others: Mapping[str, Mapping[str, Pixels]]) -> dict[str, Any]:
    """All figures of one mode: pooled, by site, of deserts, and of floods.

    Args:
        found: What the model says.
        others: What forest and threshold say, by their name and by site.
    """
    by_site: dict[str, list[Judged]] = {}
    for judged in found:
        by_site.setdefault(judged.item.site, []).append(judged)
    who = {"model": {s: Pixels.joined(j.pixels for j in js) for s, js in by_site.items()}}
    who |= {
        name: {s: p for s, p in sites.items() if s in by_site} for name, sites in others.items()
    }
    return {
        "pooled": {name: _pooled(sites) for name, sites in who.items()},
        "sites": {
            site: {name: _plain(own[site].take(_some(own[site]))) for name, own in who.items()}
            for site in by_site
        },
        "desert": {name: _desert(sites) for name, sites in who.items()},
        "floods": {name: _floods(sites) for name, sites in who.items()},
    }


def _some(pixels: Pixels) -> NDArray[np.int64]:
    return capped(pixels.labels, CAPPED)


def _pooled(sites: Mapping[str, Pixels]) -> dict[str, Any]:
    """Of places, not of floods, whose labels tell water alone."""
    own = {s: p for s, p in sites.items() if not s.startswith("flood_")} or sites
    return {
        "capped": _plain(Pixels.joined(p.take(_some(p)) for p in own.values())),
        "all": _plain(Pixels.joined(own.values())),
    }


def _desert(sites: Mapping[str, Pixels]) -> float | None:
    own = [p for s, p in sites.items() if s.startswith("desert")]
    return Verdict.of(Pixels.joined(own)).open_as_water if own else None


def _floods(sites: Mapping[str, Pixels]) -> dict[str, Any] | None:
    """Water of all pixels of the floods: pooled, and each flood's IoU."""
    own = {s: p for s, p in sites.items() if s.startswith("flood_")}
    if not own:
        return None
    each = {s: Verdict.of(p).classes.get("water", {}).get("iou") for s, p in own.items()}
    return {"each": each, **_plain(Pixels.joined(own.values()))}


def _plain(pixels: Pixels) -> dict[str, Any]:
    return asdict(Verdict.of(pixels))


def judge_folds(
    data: Path, bundles: Mapping[str, Path], output: Path, how: How | None = None
) -> dict[str, Any]:
    """Judges each site by the model of the fold that left it out.

    Args:
        data: Folder with ``places`` and ``sen1floods11``.
        bundles: A fold's model.
        output: Folder for ``judge.json``, page and pictures.
        how: How it is judged.
    """
    models = {f: load_model(path, network="fast") for f, path in bundles.items()}
    by_site = {site: models[f] for f in models for site in FOLDS[f]}
    listed = places(data / "places") + floods(data / "sen1floods11")
    result = judge(listed, by_site.get, output, how)
    click.echo(summary(result))
    return result


def summary(result: Mapping[str, Any]) -> str:
    """The figures that matter, in a few lines of per cent."""
    lines = []
    for mode, found in result["modes"].items():
        for who, pooled in found["pooled"].items():
            part = pooled["capped"]
            iou = {k: _percent(v["iou"]) for k, v in part["classes"].items()}
            lines.append(f"{mode:4} {who:9} mean IoU {_percent(part['mean_iou'])} {iou}")
            lines[-1] += f" ECE {_percent(part['ece'])} desert as water "
            lines[-1] += f"{_percent(found['desert'][who])}"
            if found["floods"][who]:
                water = found["floods"][who]["classes"].get("water", {}).get("iou")
                lines[-1] += f" floods' water {_percent(water)}"
    return "\n".join(lines)


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 1)


@click.command()
@click.argument("model")
@click.option("--places", "folder", type=click.Path(path_type=Path), help="Folder of places.")
@click.option("--floods", "flooded", type=click.Path(path_type=Path), help="Sen1Floods11's folder.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--ombria", is_flag=True, help="Judge the water-or-land chips of OMBRIA too.")
@click.option("--temperature", type=float, help="Divides the logits.  [default: the bundle's]")
@click.option("--baselines/--no-baselines", default=True, help="Train forest and threshold.")
@click.option("--cache", type=click.Path(path_type=Path), help="Keeps the forest's answers.")
@click.option("--windows", is_flag=True, help="Of large scenes judge one window, for speed.")
@click.option("--threads", default=1, show_default=True)
def main(
    model: str,
    folder: Path | None,
    flooded: Path | None,
    output: Path,
    threads: int,
    **given: Any,
) -> None:
    """Scores MODEL, a bundle's name or path, on labelled places."""
    torch.set_num_threads(threads)
    loaded = load_model(model, network="fast")
    listed = places(folder or shared_data() / "places", given["ombria"])
    if flooded is not None:
        listed += floods(flooded)
    how = How(given["temperature"], given["baselines"], given["windows"], cache=given["cache"])
    result = judge(listed, lambda _: loaded, output, how)
    click.echo(summary(result))


if __name__ == "__main__":
    main()
