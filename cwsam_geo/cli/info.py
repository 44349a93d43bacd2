"""``cwsam-geo info``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from cwsam_geo.cli.options import reading_options

_FIRST_COLUMN = 10
_LONGEST_CRS = 60


@click.command("info")
@click.argument("paths", nargs=-1, required=True, metavar="SCENE...|MAP|MODEL")
@click.option("-m", "--model", metavar="NAME|PATH", help="Say what predict would do with it.")
@reading_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(paths: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Say what a scene, map or model is, and what would happen to it.

    Give a scene (one raster, a URL, or several single-band files), a map that predict wrote, or
    one model (a path or the name of a known one). With -m, a scene is looked at as predict would:
    bands, units, nodata, tiles, and the memory it would take.
    """
    from cwsam_geo.info import InfoOptions, describe

    found = describe(paths, InfoOptions(**given))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    lines = {"scene": _scene, "map": _map, "model": _model}[found["kind"]]
    for name, text in lines(found):
        click.echo(f"{name:<{_FIRST_COLUMN}}  {text}".rstrip())


Lines = Iterator[tuple[str, str]]


def _scene(found: Mapping[str, Any]) -> Lines:
    numbered = zip(found["bands"], found["names"], strict=True)
    bands = [f"{i} {n or '(no name)'}" for i, n in numbered]
    yield "scene", found["path"]
    yield "file", _file(found)
    yield "bands", ", ".join(bands)
    lost = "" if found["gcps"] or found["transform"] else ": the map will have none either"
    yield "place", _place(found) + lost
    yield "nodata", _nodata_words(found)
    looked = "all pixels" if found["complete"] else f"a sample of {found['sampled']:,} pixels"
    zeros = f", {found['zeros']:.2%} of them 0 in every band" if found["zeros"] else ""
    yield "data", f"{found['valid']:.1%} of {looked}{zeros}"
    # A scene without data has no statistics.
    for band, label in zip(found["statistics"], bands, strict=False):
        yield (
            "values",
            f"{label}: median {band['p50']:.4g}, 1 to 99 % {band['p1']:.4g} to {band['p99']:.4g}, "
            f"range {band['minimum']:.4g} to {band['maximum']:.4g}",
        )
    units = found["units"]
    yield "units", f"{units['units']}: {units['reason']}" if units["units"] else units["reason"]
    if "predict" in found:
        yield from _predict(found["predict"])


def _predict(plan: Mapping[str, Any]) -> Lines:
    yield "", ""
    yield "model", plan["model"]
    yield "classes", ", ".join(plan["classes"])
    if "refuses" in plan:
        yield "predict", f"would refuse: {plan['refuses']}"
        return
    yield "tiles", f"{plan['tiles']:,} of {plan['tile_size']} px, overlap {plan['overlap']} px"
    yield "memory", f"about {plan['memory'] / 1e9:.1f} GB on a CPU"
    for text in plan["decisions"]:
        yield "predict", text
    for text in plan["warnings"]:
        yield "warning", text


_CONTENTS = {
    "classes": "class map",
    "confidence": "confidence: probability of the class that won, in per cent",
    "probabilities": "probabilities of every class, in per cent",
}
_NEXT = {
    "classes": (
        "cwsam-geo vectorize {path} -o polygons.gpkg",
        "cwsam-geo evaluate {path} REFERENCE",
    ),
    "confidence": ("cwsam-geo vectorize CLASSES.tif --confidence {path} -o polygons.gpkg",),
    "probabilities": (),
}


def _map(found: Mapping[str, Any]) -> Lines:
    yield "map", found["path"]
    by = f"cwsam-geo {found['version']}" if found["version"] else "another program"
    yield "kind", f"{_CONTENTS[found['content']]}, made by {by}"
    yield "file", _file(found)
    if found["count"] > 1:
        yield "bands", ", ".join(f"{i} {name}" for i, name in enumerate(found["names"], 1))
    yield "place", _place(found)
    yield "nodata", "none declared" if found["nodata"] is None else f"{found['nodata']:g}"
    for entry in found["classes"]:
        yield "class", f"{entry['code']} {entry['name']} {entry['color']}"
    model = found["model"] or {}
    if model:
        yield "model", f"{model.get('file')} (sha256 {model.get('sha256')})"
    for name in ("input", "date"):
        if found[name]:
            yield name, found[name]
    for name, value in (found["settings"] or {}).items():
        if value is not None:
            yield "setting", f"{name}: {_plain(value)}"
    for text in _NEXT[found["content"]]:
        yield "next", text.format(path=found["path"])


def _file(found: Mapping[str, Any]) -> str:
    blocks = " x ".join(map(str, found["block_shape"]))
    return (
        f"{found['driver']}, {found['height']} x {found['width']} px, {found['dtype']}, blocks of "
        f"{blocks} px, {found['compression'] or 'not compressed'}"
    )


def _place(found: Mapping[str, Any]) -> str:
    crs = found["crs"] or found["gcp_crs"] or "no CRS"
    crs = crs if len(crs) <= _LONGEST_CRS else f"{crs[:_LONGEST_CRS]}..."
    if found["gcps"]:
        return f"{crs}, {found['gcps']} ground control points"
    if not found["transform"]:
        return f"{crs}, no georeferencing"
    size = " x ".join(f"{s:.6g}" for s in found["pixel_size"])
    rotation = found["rotation"]
    turned = f", rotated by {rotation:.2f} degrees" if abs(rotation) > 1e-9 else ""
    x, y = found["transform"][2], found["transform"][5]
    return f"{crs}, pixels of {size}{turned}, origin {x:.10g}, {y:.10g}"


def _nodata_words(found: Mapping[str, Any]) -> str:
    values = {v for v in found["nodata"] if v is not None}
    words = [f"{v:g}" for v in sorted(values)]
    words += ["mask or alpha band"] if found["masked"] else []
    return ", ".join(words) or "NaN only" + ("" if found["declares_nodata"] else " (none declared)")


def _model(found: Mapping[str, Any]) -> Lines:
    spec = found["preprocess"]
    base = f" on {found['base']}" if found["base"] else ""
    yield "model", f"{found['path']} ({found['bytes'] / 1e6:,.1f} MB)"
    yield "kind", f"{found['bundle']}{base}"
    yield (
        "backbone",
        f"{found['backbone']}: {found['blocks']} blocks of {found['dim']} channels, "
        f"{found['parameters'] / 1e6:,.2f} M parameters, "
        f"{found['trained_parameters'] / 1e6:,.2f} M of them trained",
    )
    yield "tiles", f"{found['tile_size']} px, logits every {found['stride']} px"
    yield "bands", _bands(spec)
    yield "channels", ", ".join(spec["channels"])
    for entry in found["classes"]:
        ignored = ", ignored" if entry["code"] == found["ignore"] else ""
        yield "class", f"{entry['code']} {entry['name']} {entry['color']}{ignored}"
    if found["quirks"]:
        yield "quirks", ", ".join(found["quirks"])
    for name, value in found["provenance"].items():
        yield "origin", f"{name}: {_plain(value)}"


def _bands(spec: Mapping[str, Any]) -> str:
    words = {"db": "dB", "linear": "power", "amplitude8": "8-bit amplitude"}
    bands = []
    for name, (low, high), fill in zip(spec["bands"], spec["clip"], spec["fill"], strict=True):
        lacking = "" if fill is None else f", {fill:g} where missing"
        bands.append(f"{name} ({low:g} to {high:g}{lacking})")
    return f"{', '.join(bands)} in {words[spec['scaling']]}"


def _plain(value: Any) -> str:
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
