"""``cwsam-geo info``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from cwsam_geo.cli.options import reading_options

_FIRST_COLUMN = 10  # characters; no label is longer
_LONGEST_CRS = 60  # characters; a CRS without an EPSG code is a WKT of many lines


@click.command("info")
@click.argument("paths", nargs=-1, required=True, metavar="SCENE...|MAP|MODEL")
@click.option(
    "-m", "--model", metavar="NAME|PATH", help="Also report what predict would do with this model."
)
@reading_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
@click.option(
    "--stac",
    is_flag=True,
    help="Print a STAC item of MODEL with the machine learning model extension (MLM).",
)
def command(paths: tuple[str, ...], as_json: bool, stac: bool, **options: Any) -> None:
    """Describe a scene, map or model, and what predict would do.

    Give a scene (one raster, a URL, a STAC item, or several single-band files), a map written by
    predict, or one model (a path, or the name of a known model). With -m, info also reports what
    predict would decide for the scene: bands, units, nodata, tiles and memory.
    """
    from cwsam_geo.errors import UsageError
    from cwsam_geo.info.describe import describe
    from cwsam_geo.info.options import InfoOptions

    if stac:
        from cwsam_geo.info.model_item import model_item

        if len(paths) > 1 or InfoOptions(**options) != InfoOptions():
            raise UsageError("--stac: give one model, and no option for scenes")
        click.echo(json.dumps(model_item(paths[0]), ensure_ascii=False, indent=1))
        return
    description = describe(paths, InfoOptions(**options))
    if as_json:
        click.echo(json.dumps(description, ensure_ascii=False))
        return
    lines = {"scene": _scene, "map": _map, "model": _model}[description["kind"]]
    for name, text in lines(description):
        click.echo(f"{name:<{_FIRST_COLUMN}}  {text}".rstrip())


Lines = Iterator[tuple[str, str]]


def _scene(scene: Mapping[str, Any]) -> Lines:
    numbered = zip(scene["bands"], scene["names"], strict=True)
    bands = [f"{i} {n or '(no name)'}" for i, n in numbered]
    yield "scene", scene["path"]
    yield "file", _file(scene)
    yield "bands", ", ".join(bands)
    consequence = "" if scene["gcps"] or scene["transform"] else ": the map will have none either"
    yield "place", _place(scene) + consequence
    yield from _geocoding(scene["map_grid"])
    yield from _acquisition(scene["acquisition"])
    yield "nodata", _nodata_words(scene)
    sampled = "all pixels" if scene["complete"] else f"a sample of {scene['sampled']:,} pixels"
    zeros = f", {scene['zeros']:.2%} of them 0 in every band" if scene["zeros"] else ""
    yield "data", f"{scene['valid']:.1%} of {sampled}{zeros}"
    # A scene without valid pixels has no statistics.
    for band, label in zip(scene["statistics"], bands, strict=False):
        yield (
            "values",
            f"{label}: median {band['p50']:.4g}, 1 to 99 % {band['p1']:.4g} to {band['p99']:.4g}, "
            f"range {band['minimum']:.4g} to {band['maximum']:.4g}",
        )
    units = scene["units"]
    yield "units", f"{units['units']}: {units['reason']}" if units["units"] else units["reason"]
    if "predict" in scene:
        yield from _predict(scene["predict"])


def _geocoding(found: Mapping[str, Any] | None) -> Lines:
    if found is None:
        return
    for text in found["remarks"]:
        yield "geocoding", f"predict --t-srs auto: {text}"
    for text in found["warnings"]:
        yield "warning", text


def _acquisition(scene: Mapping[str, Any] | None) -> Lines:
    if scene is None:
        return
    from cwsam_geo.scene.acquisition import Acquisition

    yield "acquired", Acquisition(**scene).words
    items = scene["items"]
    yield "items", ", ".join(items[:3]) + (f" and {len(items) - 3} more" if items[3:] else "")
    if scene["licence"]:
        yield "licence", scene["licence"]


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
    "confidence": "confidence: probability of the winning class, in per cent",
    "probabilities": "probabilities of every class, in per cent",
}
# Commands to suggest for each kind of map.
_NEXT = {
    "classes": (
        "cwsam-geo vectorize {path} -o polygons.gpkg",
        "cwsam-geo evaluate {path} REFERENCE",
    ),
    "confidence": ("cwsam-geo vectorize CLASSES.tif --confidence {path} -o polygons.gpkg",),
    "probabilities": (),
}


def _map(raster: Mapping[str, Any]) -> Lines:
    yield "map", raster["path"]
    program = f"cwsam-geo {raster['version']}" if raster["version"] else "another program"
    yield "kind", f"{_CONTENTS[raster['content']]}, made by {program}"
    yield "file", _file(raster)
    if raster["count"] > 1:
        yield "bands", ", ".join(f"{i} {name}" for i, name in enumerate(raster["names"], 1))
    yield "place", _place(raster)
    yield from _geocoded(raster["geocoding"])
    yield "nodata", "none declared" if raster["nodata"] is None else f"{raster['nodata']:g}"
    for entry in raster["classes"]:
        yield "class", f"{entry['code']} {entry['name']} {entry['color']}"
    model = raster["model"] or {}
    if model:
        yield "model", f"{model.get('file')} (sha256 {model.get('sha256')})"
    for name in ("input", "date"):
        if raster[name]:
            yield name, raster[name]
    yield from _acquisition(raster["acquisition"])
    for name, value in (raster["settings"] or {}).items():
        if value is not None:
            yield "setting", f"{name}: {_plain(value)}"
    for text in _NEXT[raster["content"]]:
        yield "next", text.format(path=raster["path"])


def _geocoded(found: Mapping[str, Any] | None) -> Lines:
    if found is None:
        return
    left_out = found.get("left_out")
    exact = (
        f"; a control point that is left out is off by {left_out['rms_pixels']:.2g} px"
        if left_out
        else ""
    )
    yield "geocoding", f"by {found.get('method')}, {found.get('resampling')} neighbour{exact}"


def _file(raster: Mapping[str, Any]) -> str:
    blocks = " x ".join(map(str, raster["block_shape"]))
    return (
        f"{raster['driver']}, {raster['height']} x {raster['width']} px, {raster['dtype']}, "
        f"blocks of {blocks} px, {raster['compression'] or 'not compressed'}"
    )


def _place(raster: Mapping[str, Any]) -> str:
    crs = raster["crs"] or raster["gcp_crs"] or "no CRS"
    crs = crs if len(crs) <= _LONGEST_CRS else f"{crs[:_LONGEST_CRS]}..."
    if raster["gcps"]:
        return f"{crs}, {raster['gcps']} ground control points"
    if not raster["transform"]:
        return f"{crs}, no georeferencing"
    size = " x ".join(f"{s:.6g}" for s in raster["pixel_size"])
    rotation = raster["rotation"]
    # Rounding in a transform without rotation gives angles of about 1e-15 degrees.
    rotated = f", rotated by {rotation:.2f} degrees" if abs(rotation) > 1e-9 else ""
    x, y = raster["transform"][2], raster["transform"][5]
    return f"{crs}, pixels of {size}{rotated}, origin {x:.10g}, {y:.10g}"


def _nodata_words(scene: Mapping[str, Any]) -> str:
    values = {v for v in scene["nodata"] if v is not None}
    words = [f"{v:g}" for v in sorted(values)]
    words += ["mask or alpha band"] if scene["masked"] else []
    return ", ".join(words) or "NaN only" + ("" if scene["declares_nodata"] else " (none declared)")


def _model(model: Mapping[str, Any]) -> Lines:
    from cwsam_geo.core.temperatures import Temperatures

    spec = model["preprocess"]
    base = f" on {model['base']}" if model["base"] else ""
    yield "model", f"{model['path']} ({model['bytes'] / 1e6:,.1f} MB)"
    yield "kind", f"{model['bundle']}{base}"
    yield (
        "backbone",
        f"{model['backbone']}: {model['blocks']} blocks of {model['dim']} channels, "
        f"{model['parameters'] / 1e6:,.2f} M parameters, "
        f"{model['trained_parameters'] / 1e6:,.2f} M of them trained",
    )
    yield "tiles", f"{model['tile_size']} px, logits every {model['stride']} px"
    yield "bands", _bands(spec)
    if model["pixels"]:
        yield "pixels", f"trained on pixels of {model['pixels']}"
    yield "channels", ", ".join(spec["channels"])
    for entry in model["classes"]:
        ignored = ", ignored" if entry["code"] == model["ignore"] else ""
        yield "class", f"{entry['code']} {entry['name']} {entry['color']}{ignored}"
    yield "confidence", Temperatures.from_json(model["temperature"], spec["bands"]).text
    if model["quirks"]:
        yield "quirks", ", ".join(model["quirks"])
    for name, value in model["provenance"].items():
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
